"""The retry policy: what follows a failed attempt, and when. Purely computational."""

import hashlib
from datetime import datetime, timedelta
from enum import Enum

from crewrun_api.reasons import Reason
from crewrun_api.settings import Backoff, Retry, RetryAction

_JITTER = 0.1
_LONGEST_RETRY_AFTER_SECONDS = 86_400
_LONGEST_EXPONENT = 64  # keeps factor ** n finite; maxSeconds cuts far below


class Next(Enum):
    """What a reason asks for."""

    RETRY = "try again, counted as an attempt"
    DISRUPTED = "try again, counted as a disruption"
    AGAIN = "start again at once, counted as nothing"
    FAIL = "end the run"


TABLE: dict[Reason, Next] = {
    Reason.LLM_RATE_LIMITED: Next.RETRY,
    Reason.LLM_UNAVAILABLE: Next.RETRY,
    Reason.LLM_TIMEOUT: Next.RETRY,
    Reason.LLM_AUTHENTICATION: Next.FAIL,
    Reason.LLM_PERMISSION: Next.FAIL,
    Reason.LLM_BAD_REQUEST: Next.FAIL,
    Reason.LLM_CONTEXT_EXCEEDED: Next.FAIL,
    Reason.TASK_FAILED: Next.RETRY,
    Reason.GUARDRAIL_FAILED: Next.RETRY,
    Reason.TOOL_FAILED: Next.RETRY,
    Reason.INVALID_CREW: Next.FAIL,
    Reason.INVALID_INPUTS: Next.FAIL,
    Reason.INPUT_REQUIRED: Next.FAIL,
    Reason.CREW_CHANGED: Next.FAIL,
    Reason.BUDGET_EXCEEDED: Next.FAIL,
    Reason.OUT_OF_MEMORY: Next.RETRY,
    Reason.EVICTED: Next.DISRUPTED,
    Reason.PREEMPTED: Next.DISRUPTED,
    Reason.NODE_LOST: Next.DISRUPTED,
    Reason.POD_DELETED: Next.DISRUPTED,
    Reason.JOB_DELETED: Next.DISRUPTED,
    Reason.IMAGE_UNAVAILABLE: Next.FAIL,
    Reason.UNSCHEDULABLE: Next.FAIL,
    Reason.MISSING_SECRET: Next.FAIL,
    Reason.JOB_REJECTED: Next.FAIL,
    Reason.TIMED_OUT: Next.FAIL,
    Reason.ATTEMPT_TIMED_OUT: Next.RETRY,
    Reason.RUNNER_LOST: Next.RETRY,
    Reason.RUNNER_CRASHED: Next.RETRY,
    # Nobody asks for it any more when it gets here: the runner was told to stop by somebody else, or by a
    # request that was taken back before it had stopped.
    Reason.CANCELLED: Next.DISRUPTED,
    Reason.SUSPENDED: Next.AGAIN,
    Reason.QUEUE_STOPPED: Next.AGAIN,
    # A record that says Failed and Completed contradicts itself: nothing of it is believed.
    Reason.COMPLETED: Next.RETRY,
}
_ACTIONS = {RetryAction.RETRY: Next.RETRY, RetryAction.FAIL: Next.FAIL, RetryAction.IGNORE: Next.DISRUPTED}


def classify(reason: Reason, retry: Retry) -> Next:
    """What the reason asks for, the user's rules first."""
    ruled = next((rule.action for rule in retry.rules if rule.reason is reason), None)
    return TABLE[reason] if ruled is None else _ACTIONS[ruled]


def exhausted(next_: Next, retry: Retry, attempts: int, disruptions: int) -> str | None:
    """Why there is no further attempt; None if there is one. `attempts` does not count disruptions."""
    if next_ is Next.FAIL:
        return "is not retried"
    if next_ is Next.RETRY and attempts >= retry.max_attempts:
        return f"was the last of {retry.max_attempts} attempts"
    if next_ is Next.DISRUPTED and disruptions > retry.max_disruptions:
        return f"came after {retry.max_disruptions} disruptions"
    return None


def next_attempt_at(
    ended: datetime, attempt: int, tries: int, run_uid: str, backoff: Backoff, retry_after_seconds: float | None
) -> datetime:
    """When attempt + 1 may start: after the larger of the backoff and what the provider asked for.

    `tries` counts what has failed in the same way so far: attempts, or disruptions. The jitter comes from the
    run and the attempt, so that an operator that restarts finds the same time.
    """
    growth = backoff.factor ** min(tries - 1, _LONGEST_EXPONENT)
    wait = min(backoff.initial_seconds * growth, backoff.max_seconds) * (1 + _JITTER * _fraction(run_uid, attempt))
    asked = min(retry_after_seconds or 0, _LONGEST_RETRY_AFTER_SECONDS)
    return ended + timedelta(seconds=max(min(wait, backoff.max_seconds), asked))


def _fraction(run_uid: str, attempt: int) -> float:
    digest = hashlib.sha256(f"{run_uid}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

"""The end of an attempt, and what it means for the run. Purely computational."""

from dataclasses import replace
from datetime import datetime

from crewrun_api.outcome import Usage
from crewrun_api.reasons import Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.diagnose import Verdict
from crewrun_operator.finish import StopRequest
from crewrun_operator.observed import Notice, Plan
from crewrun_operator.retry import Next, classify, exhausted, next_attempt_at
from crewrun_operator.state import State
from crewrun_operator.status import add_usage, with_attempt, with_record
from crewrun_operator.times import parse, stamp, stamp_up

#: How an attempt looks that the operator itself has stopped, by deleting its Pod or Job.
_OUR_DOING = frozenset({Reason.CANCELLED, Reason.POD_DELETED, Reason.JOB_DELETED})


def conclude(
    state: State,
    attempt: AttemptStatus,
    verdict: Verdict,
    stop: StopRequest | None,
    status: RunStatus | None = None,
) -> Plan:
    """Close the attempt and say what follows. Success is stronger than a stop that came too late."""
    if stop is not None and verdict.reason in _OUR_DOING:
        verdict = replace(verdict, outcome=Outcome.STOPPED, reason=stop.reason, message=stop.message)
    status = _closed(state, attempt, verdict, status or state.status)
    if verdict.outcome is Outcome.SUCCEEDED:
        message = f"attempt {attempt.number} finished the crew"
        return Plan(state.settled(status, Phase.SUCCEEDED, Reason.COMPLETED, message))
    if stop is not None:
        return _ended(state, status, stop.phase, stop.reason, stop.message)
    retry = state.settings.retry
    next_ = classify(verdict.reason, retry)
    disruptions = status.disruptions + (next_ is Next.DISRUPTED)
    status = status.model_copy(update={"disruptions": disruptions})
    counted = status.attempt_count - disruptions
    why = f"attempt {attempt.number}: {verdict.reason}: {verdict.message}"
    if last := exhausted(next_, retry, counted, disruptions):
        message = f"attempt {attempt.number} {last}: {verdict.reason}: {verdict.message}"
        return _ended(state, status, Phase.FAILED, verdict.reason, message)
    due = next_attempt_at(
        _ended_at(state, attempt, verdict),
        attempt.number,
        disruptions if next_ is Next.DISRUPTED else counted,
        state.uid,
        retry.backoff,
        verdict.record.retry_after_seconds if verdict.record else None,
    )
    status = status.model_copy(update={"next_attempt_time": stamp_up(due)})
    message = f"{why}; attempt {attempt.number + 1} starts at {status.next_attempt_time}"
    return Plan(
        status=state.settled(status, Phase.BACKING_OFF, verdict.reason, message),
        notices=(Notice("Warning", "AttemptFailed", message),),
        again_at=parse(stamp_up(due)),
    )


def _closed(state: State, attempt: AttemptStatus, verdict: Verdict, status: RunStatus) -> RunStatus:
    """The status with the attempt's end, its usage added once, and what its record says of tasks."""
    usage = verdict.record.usage if verdict.record else Usage(incomplete=True) if verdict.ran else None
    closed = attempt.model_copy(
        update={
            "completion_time": stamp(_ended_at(state, attempt, verdict)),
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "message": verdict.message,
            "exit_code": verdict.exit_code,
            "usage": usage,
        }
    )
    status = with_attempt(status, closed)
    if usage is not None:
        status = status.model_copy(update={"usage": add_usage(status.usage, usage)})
    return with_record(status, verdict.record) if verdict.record else status


def _ended(state: State, status: RunStatus, phase: Phase, reason: Reason, message: str) -> Plan:
    notices = (Notice("Warning", reason, message),) if phase is Phase.FAILED else ()
    return Plan(state.settled(status, phase, reason, message), notices=notices)


def _ended_at(state: State, attempt: AttemptStatus, verdict: Verdict) -> datetime:
    """The container's own end, so that a restart computes the same backoff; never before the attempt, and
    not in the future, where the clock of a node may be."""
    begun = parse(attempt.start_time) if attempt.start_time else state.now
    return max(min(verdict.at or state.now, state.now), begun)

"""The retry policy: which reasons, how often, and when."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewrun_api.reasons import Reason
from crewrun_api.settings import Backoff, Retry, RetryAction, RetryRule
from crewrun_operator.retry import TABLE, Next, classify, exhausted, next_attempt_at
from tests.unit.builders import NOON, RUN_UID

WANT_RETRIED = {
    "LLMRateLimited", "LLMUnavailable", "LLMTimeout", "TaskFailed", "GuardrailFailed", "ToolFailed", "OutOfMemory",
    "AttemptTimedOut", "RunnerLost", "RunnerCrashed",
}  # fmt: skip
WANT_DISRUPTIONS = {"Evicted", "Preempted", "NodeLost", "PodDeleted", "JobDeleted"}
WANT_FINAL = {
    "LLMAuthentication", "LLMPermission", "LLMBadRequest", "LLMContextExceeded", "InvalidCrew", "InvalidInputs",
    "InputRequired", "CrewChanged", "BudgetExceeded", "ImageUnavailable", "Unschedulable", "MissingSecret", "TimedOut",
    "JobRejected",
}  # fmt: skip
#: Not in the design's table: nobody who asked, or a record that contradicts itself.
WANT_ODD = {"Cancelled": Next.DISRUPTED, "Suspended": Next.AGAIN, "QueueStopped": Next.AGAIN, "Completed": Next.RETRY}


def test_the_table_covers_every_reason() -> None:
    assert TABLE.keys() == set(Reason)


def test_every_reason_is_treated_as_the_design_says() -> None:
    want_table = {
        **dict.fromkeys(WANT_RETRIED, Next.RETRY),
        **dict.fromkeys(WANT_DISRUPTIONS, Next.DISRUPTED),
        **dict.fromkeys(WANT_FINAL, Next.FAIL),
        **WANT_ODD,
    }
    assert {reason.value: next_ for reason, next_ in TABLE.items()} == want_table


def rule(reason: Reason, action: RetryAction) -> RetryRule:
    return RetryRule(reason=reason, action=action)


@pytest.mark.parametrize(
    ("rules", "reason", "want_next"),
    [
        pytest.param([], Reason.LLM_BAD_REQUEST, Next.FAIL, id="the table"),
        pytest.param([rule(Reason.LLM_BAD_REQUEST, RetryAction.RETRY)], Reason.LLM_BAD_REQUEST, Next.RETRY,
                     id="widened"),
        pytest.param([rule(Reason.TASK_FAILED, RetryAction.FAIL)], Reason.TASK_FAILED, Next.FAIL, id="narrowed"),
        pytest.param([rule(Reason.TASK_FAILED, RetryAction.IGNORE)], Reason.TASK_FAILED, Next.DISRUPTED,
                     id="not counted"),
        pytest.param([rule(Reason.EVICTED, RetryAction.RETRY)], Reason.EVICTED, Next.RETRY, id="a disruption counted"),
        pytest.param([rule(Reason.TASK_FAILED, RetryAction.FAIL)], Reason.TOOL_FAILED, Next.RETRY, id="another reason"),
        pytest.param([rule(Reason.EVICTED, RetryAction.FAIL), rule(Reason.EVICTED, RetryAction.RETRY)], Reason.EVICTED,
                     Next.FAIL, id="the first rule wins"),
    ],
)  # fmt: skip
def test_a_rule_of_the_user_is_stronger_than_the_table(rules: list[RetryRule], reason: Reason, want_next: Next) -> None:
    assert classify(reason, Retry(rules=rules)) is want_next


@pytest.mark.parametrize(
    ("next_", "attempts", "disruptions", "want_end"),
    [
        pytest.param(Next.FAIL, 1, 0, "is not retried", id="final reason"),
        pytest.param(Next.RETRY, 1, 0, None, id="first of three"),
        pytest.param(Next.RETRY, 2, 99, None, id="disruptions are not attempts"),
        pytest.param(Next.RETRY, 3, 0, "was the last of 3 attempts", id="last of three"),
        pytest.param(Next.RETRY, 4, 0, "was the last of 3 attempts", id="more than there are"),
        pytest.param(Next.DISRUPTED, 99, 2, None, id="attempts are not disruptions"),
        pytest.param(Next.DISRUPTED, 0, 3, "came after 2 disruptions", id="one disruption too many"),
    ],
)
def test_attempts_and_disruptions_are_counted_apart(
    next_: Next, attempts: int, disruptions: int, want_end: str | None
) -> None:
    assert exhausted(next_, Retry(max_attempts=3, max_disruptions=2), attempts, disruptions) == want_end


def test_one_attempt_means_no_retry() -> None:
    assert exhausted(Next.RETRY, Retry(max_attempts=1), 1, 0)
    assert exhausted(Next.DISRUPTED, Retry(max_disruptions=0), 0, 1)


def wait(attempt: int, backoff: Backoff | None = None, asked: float | None = None, uid: str = RUN_UID) -> float:
    return (next_attempt_at(NOON, attempt, attempt, uid, backoff or Backoff(), asked) - NOON).total_seconds()


@pytest.mark.parametrize(
    ("attempt", "want_base"),
    [(1, 1), (2, 2), (3, 4), (4, 8), (8, 128), (9, 256)],
)
def test_the_wait_doubles_with_up_to_a_tenth_of_jitter(attempt: int, want_base: float) -> None:
    assert want_base <= wait(attempt) <= want_base * 1.1


@pytest.mark.parametrize("attempt", [10, 100, 10_000])
def test_the_wait_never_passes_its_maximum(attempt: int) -> None:
    assert wait(attempt) == 300
    assert wait(attempt, Backoff(initial_seconds=1, factor=100, max_seconds=86_400)) == 86_400


def test_disruptions_before_a_failure_do_not_make_its_wait_longer() -> None:
    due = next_attempt_at(NOON, 6, 1, RUN_UID, Backoff(), None)
    assert 1 <= (due - NOON).total_seconds() <= 1.1


def test_a_wait_of_nothing_stays_nothing() -> None:
    assert wait(5, Backoff(initial_seconds=0)) == 0
    assert wait(5, Backoff(max_seconds=0)) == 0


def test_the_jitter_is_the_same_after_a_restart_and_another_for_another_run() -> None:
    assert wait(4) == wait(4)
    assert len({wait(4, uid=f"uid-{n}") for n in range(50)}) == 50
    assert len({wait(n) / 2 ** (n - 1) for n in range(1, 9)}) == 8


@pytest.mark.parametrize(
    ("asked", "want_wait"),
    [
        pytest.param(30, 30, id="longer than the backoff"),
        pytest.param(0.5, wait(1), id="shorter than the backoff"),
        pytest.param(0, wait(1), id="nothing"),
        pytest.param(1e300, 86_400, id="huge"),
        pytest.param(float("inf"), 86_400, id="infinite"),
        pytest.param(float("nan"), wait(1), id="no number"),
    ],
)
def test_the_provider_may_ask_for_a_longer_wait_of_a_day_at_most(asked: float, want_wait: float) -> None:
    assert wait(1, asked=asked) == want_wait


@given(
    attempt=st.integers(1, 10**6),
    initial=st.floats(0, 86_400),
    factor=st.floats(1, 100),
    longest=st.floats(0, 86_400),
    asked=st.none() | st.just(float("nan")) | st.floats(min_value=0),
)
def test_every_wait_is_finite_and_bounded(
    attempt: int, initial: float, factor: float, longest: float, asked: float | None
) -> None:
    got = next_attempt_at(
        NOON, attempt, attempt, RUN_UID, Backoff(initial_seconds=initial, factor=factor, max_seconds=longest), asked
    )
    assert NOON <= got <= NOON + timedelta(seconds=86_400)

"""Which model is asked next, and when: times are arguments."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.reasons import Reason
from crewrun_runner.failover import OPEN_SECONDS, Circuits, fallbacks_of, may_fail_over, wait_before_retry

MODELS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("failed", "now", "want_order"),
    [
        pytest.param({}, 0, "abc", id="nothing failed"),
        pytest.param({"a": 0}, 1, "bca", id="the one that failed comes last"),
        pytest.param({"b": 0}, 1, "acb", id="whichever it is"),
        pytest.param({"a": 5, "b": 0}, 6, "cba", id="the one that has rested longest is asked first"),
        pytest.param({"a": 0, "b": 5}, 6, "cab", id="and the other way round"),
        pytest.param({"a": 3, "b": 2, "c": 1}, 4, "cba", id="all failed, and all are still asked"),
        pytest.param({"a": 0}, OPEN_SECONDS - 0.1, "bca", id="it rests to the end"),
        pytest.param({"a": 0}, OPEN_SECONDS, "abc", id="and then is first again"),
        pytest.param({"other": 0}, 1, "abc", id="somebody else's model"),
    ],
)
def test_a_model_that_failed_of_late_is_asked_last(failed: dict[str, float], now: float, want_order: str) -> None:
    circuits = Circuits()
    for model, at in failed.items():
        circuits.failed(model, at)
    assert circuits.order(MODELS, now) == list(want_order)


def test_a_model_that_answers_is_asked_first_again() -> None:
    circuits = Circuits()
    circuits.failed("a", 0)
    circuits.answered("a")
    circuits.answered("never failed")
    assert circuits.order(MODELS, 1) == MODELS


def test_a_model_that_fails_again_rests_anew() -> None:
    circuits = Circuits()
    circuits.failed("a", 0)
    circuits.failed("a", 50)
    assert circuits.order(MODELS, OPEN_SECONDS + 1) == ["b", "c", "a"]
    assert circuits.order(MODELS, OPEN_SECONDS + 50) == MODELS


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 100)), st.floats(0, 200))
def test_every_model_is_asked_once_in_every_order(failed: dict[str, float], now: float) -> None:
    circuits = Circuits()
    for model, at in failed.items():
        circuits.failed(model, at)
    assert sorted(circuits.order(MODELS, now)) == MODELS
    assert MODELS == ["a", "b", "c"]


LIMITED = Reason.LLM_RATE_LIMITED


@pytest.mark.parametrize(
    ("reason", "tried", "retries", "retry_after", "want_wait"),
    [
        pytest.param(LIMITED, 1, 2, None, 0.5, id="the first wait is short"),
        pytest.param(LIMITED, 2, 2, None, 1.0, id="the next twice as long"),
        pytest.param(LIMITED, 3, 2, None, None, id="no more tries than were asked for"),
        pytest.param(LIMITED, 1, 0, None, None, id="none at all"),
        pytest.param(LIMITED, 5, 10, None, 8.0, id="no wait is longer than this"),
        pytest.param(LIMITED, 10, 10, None, 8.0, id="however often"),
        pytest.param(Reason.LLM_UNAVAILABLE, 1, 1, None, 0.5, id="the provider is away"),
        pytest.param(Reason.LLM_TIMEOUT, 1, 1, None, 0.5, id="no answer in time"),
        pytest.param(LIMITED, 1, 2, 3.0, 3.0, id="what the provider wants"),
        pytest.param(LIMITED, 1, 2, 0.0, 0.0, id="also at once"),
        pytest.param(LIMITED, 2, 2, 30.0, 30.0, id="the longest that is waited here"),
        pytest.param(LIMITED, 1, 2, 30.1, None, id="longer is for the operator to wait"),
        pytest.param(LIMITED, 3, 2, 3.0, None, id="a wish is no further try"),
        pytest.param(Reason.LLM_BAD_REQUEST, 1, 2, 3.0, None, id="a wish does not make it better"),
        pytest.param(Reason.LLM_AUTHENTICATION, 1, 2, None, None, id="a wrong key stays wrong"),
        pytest.param(Reason.LLM_PERMISSION, 1, 2, None, None, id="a permission too"),
        pytest.param(Reason.LLM_CONTEXT_EXCEEDED, 1, 2, None, None, id="a prompt stays too long"),
        pytest.param(Reason.TASK_FAILED, 1, 2, None, None, id="not the provider"),
        pytest.param(None, 1, 2, None, None, id="nobody knows what it was"),
    ],
)
def test_the_same_model_is_asked_again_where_that_can_help(
    reason: Reason | None, tried: int, retries: int, retry_after: float | None, want_wait: float | None
) -> None:
    assert wait_before_retry(reason, tried, retries, retry_after) == want_wait


@settings(deadline=None)
@given(st.sampled_from(list(Reason)), st.integers(0, 10), st.none() | st.floats(0, 1e9))
def test_a_call_is_made_once_and_tried_again_so_many_times(
    reason: Reason, retries: int, retry_after: float | None
) -> None:
    waits = [wait_before_retry(reason, tried, retries, retry_after) for tried in range(1, retries + 2)]
    assert waits[-1] is None
    assert all(wait is None or 0 <= wait <= 30 for wait in waits)


FAIL_OVER = {
    Reason.LLM_RATE_LIMITED: True,
    Reason.LLM_UNAVAILABLE: True,
    Reason.LLM_TIMEOUT: True,
    Reason.LLM_AUTHENTICATION: True,
    Reason.LLM_PERMISSION: True,
    Reason.LLM_BAD_REQUEST: False,
    Reason.LLM_CONTEXT_EXCEEDED: False,
}


@pytest.mark.parametrize("reason", [*Reason, None])
def test_another_model_is_asked_where_it_may_do_better(reason: Reason | None) -> None:
    assert may_fail_over(reason) is FAIL_OVER.get(reason, False)  # type: ignore[call-overload]


def test_every_reason_of_a_provider_is_in_the_table() -> None:
    assert FAIL_OVER.keys() == {reason for reason in Reason if reason.value.startswith("LLM")}


@pytest.mark.parametrize(
    ("model", "primary", "fallbacks", "want_fallbacks"),
    [
        pytest.param("o/a", "o/a", ["o/b", "g/c"], ["o/b", "g/c"], id="the settings' model has them, in their order"),
        pytest.param("o/x", "o/a", ["o/b"], [], id="an agent's own model has none"),
        pytest.param("o/b", "o/a", ["o/b", "g/c"], [], id="nor has one that is a fallback itself"),
        pytest.param("o/a", None, ["o/b"], [], id="settings without a model"),
        pytest.param("o/a", "o/a", [], [], id="none are given"),
        pytest.param("o/a", "o/a", ["o/a", "o/b"], ["o/b"], id="no model stands in for itself"),
    ],
)
def test_fallbacks_belong_to_the_model_of_the_settings(
    model: str, primary: str | None, fallbacks: list[str], want_fallbacks: list[str]
) -> None:
    assert fallbacks_of(model, primary, fallbacks) == want_fallbacks

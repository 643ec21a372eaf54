"""The status: phase and conditions that say the same, bounded, and patched by what differs."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.outcome import ModelUsage, OutputRecord, TaskRecord, Usage
from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason, TaskState
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.definition import TaskOutline
from crewrun_operator.keep import keep_output
from crewrun_operator.status import (
    as_document,
    bounded,
    condition,
    merge_patch,
    settle,
    so_far,
    with_attempt,
    with_condition,
    with_sighting,
    with_tasks,
    with_usage,
)
from crewrun_operator.times import stamp
from tests.unit.builders import NOON, RecordBuilder, RunBuilder, a_usage
from tests.unit.fake_api import merged

LATER = NOON + timedelta(minutes=1)


def values(status: RunStatus) -> dict[str, str]:
    return {each.type: each.status for each in status.conditions}


@pytest.mark.parametrize(
    ("phase", "want_succeeded", "want_reconciling", "want_stalled"),
    [
        (Phase.PENDING, "Unknown", "True", "False"),
        (Phase.QUEUED, "Unknown", "True", "False"),
        (Phase.STARTING, "Unknown", "True", "False"),
        (Phase.RUNNING, "Unknown", "True", "False"),
        (Phase.BACKING_OFF, "Unknown", "True", "False"),
        (Phase.CANCELLING, "Unknown", "True", "False"),
        (Phase.SUSPENDED, "Unknown", "False", "False"),
        (Phase.SUCCEEDED, "True", "False", "False"),
        (Phase.FAILED, "False", "False", "True"),
        (Phase.CANCELLED, "False", "False", "False"),
    ],
)
def test_phase_and_conditions_say_the_same(
    phase: Phase, want_succeeded: str, want_reconciling: str, want_stalled: str
) -> None:
    before = RunStatus(next_attempt_time=stamp(LATER))
    status = settle(before, phase, "Why", "because", NOON, 3)
    assert values(status) == {
        "Succeeded": want_succeeded,
        "Reconciling": want_reconciling,
        "Stalled": want_stalled,
    }
    assert {(each.reason, each.message, each.observed_generation) for each in status.conditions} == {
        ("Why", "because", 3)
    }
    assert (status.phase, status.observed_generation) == (phase, 3)
    assert status.completion_time == (stamp(NOON) if phase.ended else None)
    assert status.next_attempt_time == (None if phase.ended else stamp(LATER))


def test_every_phase_is_in_the_table() -> None:
    (table,) = [mark for mark in test_phase_and_conditions_say_the_same.pytestmark if mark.name == "parametrize"]
    assert {row[0] for row in table.args[1]} == set(Phase)


def test_a_transition_time_moves_when_the_value_does_and_not_before() -> None:
    def told(status: RunStatus, value: str, reason: str, at: Any) -> RunStatus:
        return with_condition(status, ConditionType.ACCEPTED, value, reason, "m", at, 1)

    first = told(RunStatus(), "False", "CrewNotFound", NOON)
    same = told(first, "False", "InvalidCrew", LATER)
    moved = told(same, "True", "Valid", LATER)
    times = [condition(each, ConditionType.ACCEPTED).last_transition_time for each in (first, same, moved)]  # type: ignore[union-attr]
    assert times == [stamp(NOON), stamp(NOON), stamp(LATER)]
    assert len(moved.conditions) == 1


def test_the_end_of_a_run_is_told_once() -> None:
    ended = settle(RunStatus(), Phase.FAILED, "R", "m", NOON, 1)
    assert settle(ended, Phase.FAILED, "R", "m", LATER, 1) == ended


def test_a_condition_of_somebody_else_stays() -> None:
    foreign = RunStatus.model_validate(
        {"conditions": [{"type": "Other", "status": "True", "reason": "R", "lastTransitionTime": stamp(NOON)}]}
    )
    assert values(settle(foreign, Phase.RUNNING, "R", "m", NOON, 1))["Other"] == "True"


def attempt(number: int, **fields: Any) -> AttemptStatus:
    return AttemptStatus(number=number, job=f"job-{number}", **fields)


def test_the_newest_ten_attempts_are_kept_and_all_are_counted() -> None:
    status = RunStatus()
    for number in range(1, 14):
        status = with_attempt(status, attempt(number))
    assert [each.number for each in status.attempts] == list(range(4, 14))
    assert status.attempt_count == 13


def test_an_attempt_takes_the_place_of_its_earlier_self() -> None:
    status = with_attempt(with_attempt(RunStatus(), attempt(1)), attempt(2))
    status = with_attempt(status, attempt(1, outcome=Outcome.FAILED))
    assert [(each.number, each.outcome) for each in status.attempts] == [(1, Outcome.FAILED), (2, None)]
    assert status.attempt_count == 2


def test_fifty_tasks_are_kept_and_all_are_counted() -> None:
    tasks = [TaskRecord(name=f"t{n}", state=TaskState.SUCCEEDED) for n in range(60)]
    status = with_sighting(
        RunStatus(), RecordBuilder().with_(tasks=tasks, tasks_total=60, tasks_succeeded=60).build(), over=True
    )
    assert (len(status.tasks), status.task_count, status.progress) == (50, 60, "60/60")


@pytest.mark.parametrize(
    ("fields", "want_progress"),
    [
        pytest.param({"tasks_total": 5, "tasks_succeeded": 2}, "2/5", id="counted by the runner"),
        pytest.param({"tasks_total": 0, "tasks_succeeded": 0}, "1/2", id="counted from its tasks"),
        pytest.param({"tasks_total": 5, "tasks_succeeded": 0, "tasks": []}, "0/5", id="nothing done"),
    ],
)
def test_progress_is_finished_tasks_of_all(fields: dict[str, Any], want_progress: str) -> None:
    known = with_tasks(RunStatus(), [TaskOutline("facts", ""), TaskOutline("report", "")])
    assert known.progress == "0/2"
    assert with_sighting(known, RecordBuilder().with_(**fields).build(), over=True).progress == want_progress


def test_a_record_without_tasks_keeps_those_that_are_known() -> None:
    known = with_sighting(RunStatus(), RecordBuilder().build(), over=True)
    assert with_sighting(known, RecordBuilder(attempt=2).with_(tasks=[]).build(), over=True).tasks == known.tasks


def test_tasks_say_which_attempt_ran_them() -> None:
    status = with_sighting(RunStatus(), RecordBuilder(attempt=3).build(), over=True)
    assert [(task.name, task.agent, task.attempt, task.preview) for task in status.tasks] == [
        ("facts", "Writer", 3, "Bees fly.")
    ]


def used(*usages: Usage) -> Usage:
    """What a run has used whose attempts used this."""
    status = RunStatus()
    for number, usage in enumerate(usages, start=1):
        status = with_usage(with_attempt(status, attempt(number)), number, usage)
    return status.usage or Usage()


def test_usage_is_summed_over_attempts_by_model_too() -> None:
    lost = a_usage(25).model_copy(update={"incomplete": True, "reserved_tokens": 700})
    total = used(a_usage(100), a_usage(50, "other/model"), lost, Usage())
    assert (total.requests, total.prompt_tokens, total.completion_tokens, total.total_tokens) == (3, 145, 30, 175)
    assert (total.incomplete, total.reserved_tokens) == (True, 700), "what was once incomplete stays so"
    assert {each.model: (each.requests, each.prompt_tokens) for each in total.by_model} == {
        "openai/gpt-4o": (2, 105),
        "other/model": (1, 40),
    }


def test_an_attempt_that_tells_more_is_not_counted_twice() -> None:
    status = with_usage(with_attempt(RunStatus(), attempt(1)), 1, a_usage(100))
    status = with_attempt(status, attempt(2))
    for tokens in (10, 40, 90):
        status = with_usage(status, 2, a_usage(tokens, "other/model"))
    assert status.usage is not None
    assert (status.usage.total_tokens, status.usage.requests) == (190, 2)
    assert [each.usage and each.usage.total_tokens for each in status.attempts] == [100, 90]


def test_an_open_call_of_a_runner_that_goes_on_is_no_gap() -> None:
    reserved = {"reserved_requests": 2, "reserved_tokens": 700, "reserved_cost_usd": 9}
    usage = a_usage(100).model_copy(update={"incomplete": True, **reserved})
    assert so_far(usage) == a_usage(100)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("abc")), max_size=8))
def test_the_sum_over_models_is_the_sum(parts: list[tuple[int, str]]) -> None:
    total = used(*(a_usage(tokens + 10, model) for tokens, model in parts))
    assert total.prompt_tokens == sum(each.prompt_tokens for each in total.by_model) == sum(n for n, _ in parts)


def costing(micro: int, unpriced: int = 0, model: str = "openai/gpt-4o", price: str | None = None) -> Usage:
    """What one model used, at this price."""
    of_model = ModelUsage(model=model, requests=1 + unpriced, cost_usd=micro, unpriced_requests=unpriced)
    return Usage(
        requests=1 + unpriced,
        cost_usd=micro,
        unpriced_requests=unpriced,
        by_model=[of_model.model_copy(update={"price_key": price, "price_date": price and "2026-01-01"})],
    )


def test_cost_is_summed_over_attempts_and_what_nobody_knows_is_counted_apart() -> None:
    lost = costing(1, 0, "m").model_copy(
        update={"incomplete": True, "reserved_requests": 2, "reserved_tokens": 700, "reserved_cost_usd": 30}
    )
    again = lost.model_copy(update={"reserved_requests": 1, "reserved_tokens": 5, "reserved_cost_usd": 4})
    total = used(costing(6310), costing(5, 2), costing(0, 1, "other"), lost, again)
    assert (total.cost_usd, total.unpriced_requests, total.requests) == (6317, 3, 8)
    assert (total.reserved_requests, total.reserved_tokens, total.reserved_cost_usd) == (3, 705, 34)
    assert {each.model: (each.cost_usd, each.unpriced_requests) for each in total.by_model} == {
        "openai/gpt-4o": (6315, 2),
        "other": (0, 1),
        "m": (2, 0),
    }
    document = as_document(RunStatus(usage=total))["usage"]
    assert (document["costUSD"], document["reservedCostUSD"]) == ("0.006317", "0.000034")
    assert [each["costUSD"] for each in document["byModel"]] == ["0.006315", "unknown", "0.000002"]


def test_a_cost_that_becomes_known_takes_the_place_of_one_that_was_not() -> None:
    status = with_usage(with_attempt(RunStatus(), attempt(1)), 1, costing(0, 3))
    assert as_document(status)["usage"]["costUSD"] == "unknown"
    status = with_usage(status, 1, costing(50))
    assert status.usage is not None
    assert (status.usage.cost_usd, status.usage.unpriced_requests) == (50, 0)


def test_a_reservation_that_was_settled_is_taken_back() -> None:
    open_call = Usage(incomplete=False, reserved_requests=1, reserved_tokens=700, reserved_cost_usd=9)
    status = with_usage(with_attempt(RunStatus(), attempt(1)), 1, open_call)
    status = with_usage(status, 1, costing(5))
    assert status.usage == costing(5)


def test_a_model_says_the_price_that_it_was_charged_by_last() -> None:
    total = used(costing(1, price="openai/gpt-4o"), costing(1, model="other"), costing(1, price="spec.prices"))
    assert [(each.model, each.price_key, each.price_date) for each in total.by_model] == [
        ("openai/gpt-4o", "spec.prices", "2026-01-01"),
        ("other", None, None),
    ]


_COUNT = st.integers(0, 10**9)
_MODEL_FIGURES = ("requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "reasoning_tokens",
                  "cost_usd", "unpriced_requests")  # fmt: skip
_FIGURES = (*_MODEL_FIGURES, "total_tokens", "reserved_requests", "reserved_tokens", "reserved_cost_usd")


def _models(names: list[str]) -> st.SearchStrategy[list[ModelUsage]]:
    counts = dict.fromkeys(_MODEL_FIGURES, _COUNT)
    prices = st.sampled_from([None, "listed", "spec.prices"])
    return st.tuples(*(st.builds(ModelUsage, model=st.just(name), price_key=prices, **counts) for name in names)).map(
        list
    )


_USAGES = st.builds(
    Usage,
    by_model=st.lists(st.sampled_from("abc"), unique=True).flatmap(_models),
    **dict.fromkeys(_FIGURES, _COUNT),
)


@settings(deadline=None)
@given(st.lists(st.lists(_USAGES, min_size=1, max_size=4), min_size=1, max_size=4), st.randoms())
def test_whatever_attempts_told_before_the_run_used_what_they_used_in_the_end(
    told: list[list[Usage]], chance: Any
) -> None:
    status = RunStatus()
    for number in range(1, len(told) + 1):
        status = with_attempt(status, attempt(number))
    turns = [number for number, usages in enumerate(told, start=1) for _ in usages]
    chance.shuffle(turns)  # reports of attempts may overtake each other
    left = {number: list(usages) for number, usages in enumerate(told, start=1)}
    for number in turns:
        status = with_usage(status, number, left[number].pop(0))
    finals = [usages[-1] for usages in told]
    total = status.usage or Usage()
    assert [each.usage or Usage() for each in status.attempts] == finals
    for figure in _FIGURES:
        assert getattr(total, figure) == sum(getattr(usage, figure) for usage in finals), figure
    models = {each.model: each for each in total.by_model}
    assert len(models) == len(total.by_model)
    for name in "abc":
        parts = [each for usage in finals for each in usage.by_model if each.model == name]
        for figure in _MODEL_FIGURES:
            want = sum(getattr(part, figure) for part in parts)
            assert getattr(models.get(name, ModelUsage(model=name)), figure) == want, (name, figure)


@settings(deadline=None)
@given(st.lists(st.tuples(_USAGES, st.sampled_from([1, 2])), max_size=5))
def test_what_a_status_says_of_usage_can_be_read_again(told: list[tuple[Usage, int]]) -> None:
    status = with_attempt(with_attempt(RunStatus(), attempt(1)), attempt(2))
    for usage, number in told:
        status = with_usage(RunStatus.model_validate(as_document(status)), number, usage)
    assert RunStatus.model_validate(as_document(status)) == status


def test_nonsense_of_many_attempts_still_makes_a_status_that_can_be_read() -> None:
    most = Usage(requests=10**15, cost_usd=10**15, reserved_cost_usd=10**15)
    status = RunStatus(usage=used(most, most))
    assert RunStatus.model_validate(as_document(status)) == status


def a_full_status(message: str, output: str) -> RunStatus:
    """Ten failed attempts, the last of which succeeded with as many tasks as a record holds."""
    status = with_tasks(RunStatus(), [])
    for number in range(1, 11):
        ended = attempt(
            number, pod="p" * 63, pod_uid="u" * 36, start_time=stamp(NOON), running_time=stamp(NOON),
            completion_time=stamp(NOON), outcome=Outcome.FAILED, reason=Reason.LLM_CONTEXT_EXCEEDED,
            message=message, exit_code=21, usage=a_usage(),
        )  # fmt: skip
        status = with_attempt(status, ended)
    task = TaskRecord(name="a-task", agent="An agent", state=TaskState.SUCCEEDED, preview="x" * 80)
    record = RecordBuilder(10).with_(tasks=[task] * 12, output=OutputRecord.of(output)).build()
    status = with_sighting(status.model_copy(update={"usage": a_usage()}), record, over=True)
    assert record.output is not None
    shown, _ = keep_output(RunBuilder().build(), record.output, [])
    status = status.model_copy(update={"output": shown})
    for type_ in (ConditionType.ACCEPTED, ConditionType.ADMITTED):
        status = with_condition(status, type_, "True", "Valid", "the crew, its profile and the inputs fit", NOON, 1)
    return settle(status, Phase.FAILED, Reason.LLM_CONTEXT_EXCEEDED, message, NOON, 1)


def size(status: RunStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True))


@pytest.mark.parametrize("message", ["m" * 5000, "€" * 5000, "short"], ids=["long", "multi-byte", "short"])
def test_a_status_stays_under_10_kb(message: str) -> None:
    full = a_full_status(message, "o" * 2500)  # what a record has room for beside twelve tasks
    status = bounded(full)
    assert size(status) <= 10_000
    assert status.output == full.output, "what cannot be had elsewhere stays"
    assert status.attempts[-1] == full.attempts[-1], "the newest attempt keeps its words"
    assert [(each.number, each.reason) for each in status.attempts] == [
        (each.number, each.reason) for each in full.attempts
    ]
    assert bounded(status) == status


def test_a_status_that_fits_keeps_every_word() -> None:
    small = settle(with_attempt(RunStatus(), attempt(1, message="m" * 900)), Phase.FAILED, "R", "m" * 900, NOON, 1)
    assert bounded(small) == small


def test_a_message_is_cut_wherever_it_comes_from() -> None:
    status = with_attempt(RunStatus(), attempt(1, message="€" * 2000))
    assert status.attempts[0].message == "€" * 333


def test_a_status_of_a_newer_release_is_read() -> None:
    document = {
        "phase": "Running",
        "lane": {"position": 3},
        "attempts": [{"number": 1, "job": "j", "resumedFromTask": "t", "usage": {"costUSD": "0.1", "totalTokens": 3}}],
        "usage": {"costUSD": "0.1", "byModel": [{"model": "m", "costUSD": "0.1"}]},
        "output": {"value": "v", "bytes": 1, "sha256": "s", "configMap": None, "files": []},
        "tasks": [{"name": "t", "state": "Running", "attempt": 1, "costUSD": "0.1"}],
    }
    status = RunStatus.model_validate(document)
    assert status.attempts[0].usage is not None and status.attempts[0].usage.total_tokens == 3


_values = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=15,
)
_documents = st.dictionaries(st.sampled_from("abcd"), _values, max_size=4)


@settings(max_examples=200, deadline=None)
@given(old=_documents, new=_documents)
def test_a_patch_makes_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_patch(old, new)) == new


@given(_documents)
def test_a_patch_of_nothing_is_empty(document: dict[str, Any]) -> None:
    assert merge_patch(document, document) == {}


def test_a_patch_names_only_what_differs() -> None:
    old = settle(RunStatus(), Phase.STARTING, "Starting", "m", NOON, 1)
    new = old.model_copy(update={"progress": "1/2"})
    assert merge_patch(as_document(old), as_document(new)) == {"progress": "1/2"}
    ended = old.model_copy(update={"next_attempt_time": stamp(NOON)})
    assert merge_patch(as_document(ended), as_document(old)) == {"nextAttemptTime": None}

"""The fold over events: the same whatever order they come in, each call once."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from crewrun_api.outcome import TaskRecord
from crewrun_api.reasons import TaskState
from crewrun_runner.calls import Tokens
from crewrun_runner.ledger import Ledger, Task

START = datetime(2026, 1, 1, tzinfo=UTC)
Step = Callable[[Ledger], None]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ledger(*steps: Step) -> Ledger:
    made = Ledger()
    made.expect([Task("1", "facts", "Researcher"), Task("2", "report", "Writer")])
    for step in steps:
        step(made)
    return made


STEPS: tuple[Step, ...] = (
    lambda it: it.task_started("1", "Senior researcher", at(1)),
    lambda it: it.call_started("a"),
    lambda it: it.call_completed("event-a", "a", "1", "gpt", Tokens(100, 40, 10)),
    lambda it: it.task_ended("1", at(3), answer="Ten facts"),
    lambda it: it.task_started("2", "", at(4)),
    lambda it: it.call_failed("b", "2", "mini", "OpenAI API call failed: 500"),
)


def test_every_order_of_events_gives_the_same_tasks_and_usage() -> None:
    want = None
    for order in itertools.permutations(STEPS):
        made = ledger(*order)
        found = (made.usage(), made.tasks(str, ended=True))
        want = want or found
        assert found == want
    assert want is not None
    usage, tasks = want
    assert (usage.requests, usage.prompt_tokens, usage.cached_prompt_tokens) == (1, 100, 40)
    assert (usage.completion_tokens, usage.total_tokens, usage.incomplete) == (10, 110, False)
    assert [(task.name, task.agent, task.state, task.total_tokens) for task in tasks] == [
        ("facts", "Senior researcher", TaskState.SUCCEEDED, 110),
        ("report", "Writer", TaskState.PENDING, 0),
    ]
    assert (tasks[0].start_time, tasks[0].completion_time) == (
        "2026-01-01T00:00:01.000Z",
        "2026-01-01T00:00:03.000Z",
    )


def test_an_event_that_comes_twice_counts_once() -> None:
    assert ledger(*STEPS, *STEPS).usage().requests == 1


def test_usage_says_that_a_call_is_still_open() -> None:
    made = ledger(STEPS[1])
    assert (made.usage().incomplete, made.calls_in_flight) == (True, 1)
    STEPS[2](made)
    assert (made.usage().incomplete, made.calls_in_flight) == (False, 0)


def reserved(*steps: Step) -> tuple[int, bool, int]:
    made = ledger(*steps)
    return made.usage().reserved_tokens, made.usage().incomplete, made.calls_in_flight


RESERVE: Step = lambda it: it.reserve("1", 500)  # noqa: E731
RESERVE_OTHER: Step = lambda it: it.reserve("2", 70)  # noqa: E731
BEGIN: Step = lambda it: it.call_started("a")  # noqa: E731
FAIL: Step = lambda it: it.call_failed("a", "1", "gpt", "500")  # noqa: E731


def test_a_reservation_stands_from_before_a_call_until_its_first_end() -> None:
    assert reserved(RESERVE) == (500, True, 1)
    assert reserved(RESERVE, BEGIN) == (500, True, 1)
    assert reserved(RESERVE, RESERVE_OTHER, BEGIN) == (570, True, 2)
    assert reserved(RESERVE, BEGIN, STEPS[2]) == (0, False, 0)
    assert reserved(RESERVE, STEPS[2], BEGIN) == (0, False, 0)  # events come in any order
    assert reserved(RESERVE, RESERVE_OTHER, BEGIN, STEPS[2]) == (70, True, 1)
    assert reserved(RESERVE, BEGIN, FAIL, RESERVE, FAIL) == (500, True, 1)  # a failed call is told of twice


def test_a_call_that_never_begins_leaves_no_reservation() -> None:
    assert reserved(RESERVE, lambda it: it.release("1")) == (0, False, 0)
    assert reserved(RESERVE, lambda it: it.task_ended("1", at(1))) == (0, False, 0)
    assert reserved(lambda it: it.release("1")) == (0, False, 0)
    assert reserved(lambda it: it.reserve("1", 10**30))[0] == 10**9


def test_each_change_is_told_and_whether_a_task_ended() -> None:
    told: list[bool] = []
    made = ledger()
    made.changed = told.append
    for step in STEPS:
        step(made)
    assert told == [False, False, True, False, False]  # not the event that a call has begun: that is known before


def test_what_an_earlier_attempt_finished_stays_as_it_says() -> None:
    stored = TaskRecord(
        name="facts",
        agent="R",
        state=TaskState.SUCCEEDED,
        start_time="s",
        completion_time="c",
        total_tokens=99,
        preview="Ten facts",
        attempt=1,
    )
    made = ledger(lambda it: it.restore({"1": stored}), *STEPS)
    assert made.tasks(str, ended=True)[0] == stored
    assert made.usage().total_tokens == 110  # this attempt's calls alone
    assert made.resumed_from is not None and made.resumed_from.name == "report"
    assert ledger().resumed_from is None
    assert ledger(lambda it: it.restore({"1": stored, "2": stored})).resumed_from is None


def test_usage_is_kept_apart_by_model_and_counts_work_of_no_known_task() -> None:
    made = ledger(
        lambda it: it.call_completed("1", "a", "1", "gpt", Tokens(1, 0, 1)),
        lambda it: it.call_completed("2", "b", "2", "mini", Tokens(2, 0, 2)),
        lambda it: it.call_completed("3", "c", "unknown", "mini", Tokens(4, 1, 4)),
    )
    assert [(model.model, model.requests, model.prompt_tokens) for model in made.usage().by_model] == [
        ("gpt", 1, 1),
        ("mini", 2, 6),
    ]
    assert made.usage().total_tokens == 14


def test_a_task_runs_until_the_run_has_ended() -> None:
    made = ledger(STEPS[0])
    assert made.tasks(str, ended=False)[0].state is TaskState.RUNNING
    assert made.tasks(str, ended=True)[0].state is TaskState.PENDING


def test_the_culprit_is_the_task_whose_error_came_out_else_the_first_that_failed() -> None:
    made = ledger(
        lambda it: it.task_ended("1", at(2), error="first"),
        lambda it: it.task_ended("2", at(3), error="second"),
    )
    names = [culprit.name for culprit in (made.culprit("second"), made.culprit("other")) if culprit]
    assert names == ["report", "facts"]
    assert ledger().culprit("x") is None


def test_tokens_are_read_from_what_a_provider_reports() -> None:
    assert Tokens.of({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}) == Tokens(5, 0, 2)
    assert Tokens.of({"prompt_tokens": 5, "cached_prompt_tokens": 9, "completion_tokens": 0}) == Tokens(5, 5, 0)
    assert Tokens.of({"total_tokens": 9}) == Tokens(9, 0, 0)
    assert Tokens.of({"prompt_tokens": None, "total_tokens": "x"}) == Tokens()
    assert Tokens.of({"prompt_tokens": -1, "completion_tokens": 10**30}) == Tokens(0, 0, 10**9)
    assert Tokens.of(None) == Tokens()

"""The fold over events: the same whatever order they come in, each answer once."""

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from crewrun_api.outcome import TaskRecord
from crewrun_api.reasons import Reason, TaskState
from crewrun_runner.budget import Caps, Need
from crewrun_runner.calls import Charge
from crewrun_runner.ledger import BudgetExceeded, Ledger, Stopping, Task, Ticket
from crewrun_runner.tokens import Tokens

START = datetime(2026, 1, 1, tzinfo=UTC)
Step = Callable[[Ledger], object]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def need(prompt: int = 100, answer: int = 400, price: int = 0) -> Need:
    """`price` is micro-USD for a token."""
    return Need(prompt, answer, lambda tokens: price * (prompt + tokens))


def charge(task: str, model: str, tokens: Tokens, micro: int | None = 0, price_key: str | None = None) -> Charge:
    date = None if price_key is None else f"the day of {price_key}"
    return Charge(task, model, tokens, micro, price_key, date)


def answer(it: Ledger, made: Charge) -> None:
    """A request from its beginning to its end."""
    it.settle(it.reserve(made.task, made.model, need()), made)


def ledger(*steps: Step) -> Ledger:
    made = Ledger()
    made.expect([Task("1", "facts", "Researcher"), Task("2", "report", "Writer")])
    for step in steps:
        step(made)
    return made


STEPS: tuple[Step, ...] = (
    lambda it: it.task_started("1", "Senior researcher", at(1)),
    lambda it: it.task_started("1", "", at(2)),
    lambda it: answer(it, charge("1", "gpt", Tokens(100, 40, 10, 0, 5), 250)),
    lambda it: it.task_ended("1", at(3), answer="Ten facts"),
    lambda it: it.task_started("2", "", at(4)),
    lambda it: it.call_failed("2", "mini", "OpenAI API call failed: 500"),
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
    assert (usage.completion_tokens, usage.reasoning_tokens, usage.total_tokens) == (10, 5, 110)
    assert (usage.cost_usd, usage.unpriced_requests, usage.incomplete) == (250, 0, False)
    assert [(task.name, task.agent, task.state, task.total_tokens, task.cost_usd, task.models) for task in tasks] == [
        ("facts", "Senior researcher", TaskState.SUCCEEDED, 110, 250, ["gpt"]),
        ("report", "Writer", TaskState.PENDING, 0, 0, []),
    ]
    assert (tasks[0].start_time, tasks[0].completion_time) == (
        "2026-01-01T00:00:01.000Z",
        "2026-01-01T00:00:03.000Z",
    )


def test_each_answer_counts_whatever_order_they_come_in() -> None:
    charges = [
        charge("1", "gpt", Tokens(1, 0, 1), 5),
        charge("2", "gpt", Tokens(2, 1, 2), None),
        charge("2", "mini", Tokens(4, 0, 4), None),
        charge("unknown", "mini", Tokens(8, 3, 8), 0),
    ]
    for order in itertools.permutations(charges):
        made = ledger()
        tickets = [made.reserve(each.task, each.model, need()) for each in charges]
        for each in order:
            made.settle(tickets[charges.index(each)], each)
        usage, (facts, report) = made.usage(), made.tasks(str, ended=False)
        assert (usage.requests, usage.total_tokens, usage.cost_usd, usage.unpriced_requests) == (4, 30, 5, 2)
        assert [(each.model, each.requests, each.prompt_tokens, each.cost_usd) for each in usage.by_model] == [
            ("gpt", 2, 3, 5),
            ("mini", 2, 12, 0),
        ]
        assert (facts.total_tokens, facts.cost_usd, facts.unpriced_requests, facts.models) == (2, 5, 0, ["gpt"])
        assert (report.total_tokens, report.cost_usd, report.unpriced_requests) == (12, 0, 2)
        assert report.models == ["gpt", "mini"]


def test_the_cost_of_a_model_says_what_it_was_charged_by() -> None:
    made = ledger(
        lambda it: answer(it, charge("1", "gpt", Tokens(1), 1, "openai/gpt")),
        lambda it: answer(it, charge("1", "own", Tokens(1), 1, "spec.prices")),
        lambda it: answer(it, charge("1", "unheard-of", Tokens(1), None)),
    )
    assert [(each.model, each.price_key, each.price_date) for each in made.usage().by_model] == [
        ("gpt", "openai/gpt", "the day of openai/gpt"),
        ("own", "spec.prices", "the day of spec.prices"),
        ("unheard-of", None, None),
    ]


def figures(made: Ledger) -> tuple[int, int, int, bool, int]:
    usage = made.usage()
    reserved = (usage.reserved_requests, usage.reserved_tokens, usage.reserved_cost_usd)
    return (*reserved, usage.incomplete, made.calls_in_flight)


#: What becomes of two requests, and then: requests, tokens and micro-USD reserved, whether that is a gap, and how
#: many are open.
ENDS: dict[str, tuple[Callable[[Ledger, Ticket, Ticket], object], tuple[int, int, int, bool, int]]] = {
    "both are open": (lambda it, one, other: None, (2, 570, 1140, True, 2)),
    "one was answered": (
        lambda it, one, other: it.settle(one, charge("1", "gpt", Tokens(1))),
        (1, 70, 140, True, 1),
    ),
    "one was not made": (lambda it, one, other: it.release(one), (1, 70, 140, True, 1)),
    "one is lost": (lambda it, one, other: it.lose(one), (2, 570, 1140, True, 1)),
    "one is lost, the other was answered": (
        lambda it, one, other: (it.lose(one), it.settle(other, charge("2", "gpt", Tokens(1)))),
        (1, 500, 1000, True, 0),
    ),
    "both were not made": (lambda it, one, other: (it.release(one), it.release(other)), (0, 0, 0, False, 0)),
    "one was not made, and is told of twice": (
        lambda it, one, other: (it.release(one), it.release(one)),
        (1, 70, 140, True, 1),
    ),
    "one is lost, and is told of twice": (lambda it, one, other: (it.lose(one), it.lose(one)), (2, 570, 1140, True, 1)),
    "one was answered, and is lost then": (
        lambda it, one, other: (it.settle(one, charge("1", "gpt", Tokens(1))), it.lose(one)),
        (1, 70, 140, True, 1),
    ),
    "one is lost, and given back then": (
        lambda it, one, other: (it.lose(one), it.release(one)),
        (2, 570, 1140, True, 1),
    ),
    "a task has ended": (lambda it, one, other: it.task_ended("1", at(1)), (2, 570, 1140, True, 2)),
    "the run ends": (lambda it, one, other: it.close(), (2, 570, 1140, True, 2)),
}


@pytest.mark.parametrize(("end", "want_figures"), ENDS.values(), ids=ENDS)
def test_a_reservation_stands_until_its_end_and_for_good_when_nobody_says_what_was_used(
    end: Callable[[Ledger, Ticket, Ticket], object], want_figures: tuple[int, int, int, bool, int]
) -> None:
    made = ledger()
    end(made, made.reserve("1", "gpt", need(price=2)), made.reserve("2", "gpt", need(20, 50, price=2)))
    assert figures(made) == want_figures


def test_a_reservation_costs_what_is_known_of_its_price_now() -> None:
    made, price = ledger(), [0]
    made.reserve("1", "gpt", Need(100, 400, lambda tokens: price[0] * tokens))
    assert made.usage().reserved_cost_usd == 0
    price[0] = 3
    assert made.usage().reserved_cost_usd == 1200


def test_a_request_without_a_bound_still_has_figures() -> None:
    made = ledger(lambda it: it.reserve("1", "gpt", need(answer=10**30)))
    assert made.usage().incomplete


def test_an_answer_is_limited_to_what_is_left_and_the_ticket_says_so() -> None:
    made = ledger()
    made.caps = Caps(tokens=1000)
    one = made.reserve("1", "gpt", need())
    other = made.reserve("2", "mini", need())
    assert (one.task, one.model, one.answer, one.less) == ("1", "gpt", 400, False)
    assert (other.task, other.model, other.answer, other.less) == ("2", "mini", 400, False)
    made.settle(one, charge("1", "gpt", Tokens(100, 0, 0)))
    made.settle(other, charge("2", "mini", Tokens(100, 0, 50)))
    last = made.reserve("1", "gpt", need(answer=5000))
    assert (last.answer, last.less) == (650, True)
    assert last.number not in (one.number, other.number)


def test_the_first_who_finds_the_budget_exceeded_says_why_and_nobody_asks_any_more() -> None:
    made = ledger()
    made.caps = Caps(tokens=400)
    with pytest.raises(BudgetExceeded, match="spent 0 of maxTokens 400; the next LLM request may need 456"):
        made.reserve("1", "gpt", need(prompt=200))
    why = made.budget_exceeded
    assert made.closed and why.startswith("spent 0 of maxTokens 400")
    with pytest.raises(Stopping):
        made.reserve("1", "gpt", need(0, 1))
    made.cut(Ticket(1, "1", "gpt", 5))
    assert made.budget_exceeded == why


def test_an_answer_that_was_cut_ends_the_run() -> None:
    made = ledger()
    made.caps = Caps(tokens=1000)
    ticket = made.reserve("1", "gpt", need(answer=5000))
    made.settle(ticket, charge("1", "gpt", Tokens(100, 0, 900)))
    assert not made.closed
    made.cut(ticket)
    assert made.closed
    assert made.budget_exceeded.startswith("spent 1000 of maxTokens 1000; an answer was cut at its limit of 900 tokens")


def test_a_run_that_is_told_to_stop_has_no_budget_exceeded() -> None:
    made = ledger(lambda it: it.close())
    assert (made.closed, made.budget_exceeded) == (True, "")
    with pytest.raises(Stopping):
        made.reserve("1", "gpt", need())
    assert made.calls_in_flight == 0
    answer_late = ledger()
    ticket = answer_late.reserve("1", "gpt", need())
    answer_late.close()
    answer_late.settle(ticket, charge("1", "gpt", Tokens(5)))
    assert answer_late.usage().total_tokens == 5


def test_answers_in_many_threads_all_count() -> None:
    made = ledger()

    def work(number: int) -> None:
        for step in range(100):
            ticket = made.reserve("1", "gpt", need(price=1))
            ends = (made.release, made.lose, lambda it: made.settle(it, charge("1", f"m{number}", Tokens(1, 0, 2), 3)))
            ends[step % 3](ticket)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    usage = made.usage()
    assert (usage.requests, usage.total_tokens, usage.cost_usd) == (6 * 33, 6 * 33 * 3, 6 * 33 * 3)
    assert (usage.reserved_requests, usage.reserved_tokens, made.calls_in_flight) == (6 * 33, 6 * 33 * 500, 0)
    assert [each.requests for each in usage.by_model] == [33] * 6


def test_each_change_is_told_and_whether_a_task_ended() -> None:
    told: list[bool] = []
    made = ledger()
    made.changed = told.append
    made.task_started("1", "", at(1))
    tickets = [made.reserve("1", "gpt", need()) for _ in range(3)]
    made.call_failed("1", "gpt", "500")
    assert told == [False], "who reserves tells others"
    made.settle(tickets[0], charge("1", "gpt", Tokens(1)))
    made.release(tickets[1])
    made.lose(tickets[2])
    made.task_ended("1", at(3))
    assert told == [False, False, False, False, True]


def test_who_is_told_of_a_change_may_ask_what_it_is() -> None:
    made, seen = ledger(), []
    made.changed = lambda _: seen.append(made.usage().total_tokens)
    answer(made, charge("1", "gpt", Tokens(5)))
    assert seen == [5]


def test_what_an_earlier_attempt_finished_stays_as_it_says() -> None:
    stored = TaskRecord(
        name="facts",
        agent="R",
        state=TaskState.SUCCEEDED,
        start_time="s",
        completion_time="c",
        total_tokens=99,
        cost_usd=7,
        models=["old"],
        preview="Ten facts",
        attempt=1,
    )
    made = ledger(lambda it: it.restore({"1": stored}), *STEPS)
    assert made.tasks(str, ended=True)[0] == stored
    assert (made.usage().total_tokens, made.usage().cost_usd) == (110, 250), "this attempt's calls alone"
    assert made.resumed_from is not None and made.resumed_from.name == "report"
    assert ledger().resumed_from is None
    assert ledger(lambda it: it.restore({"1": stored, "2": stored})).resumed_from is None


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
    assert ledger(STEPS[3]).culprit("Ten facts") is None


def test_a_task_remembers_the_model_that_failed_it_and_every_error() -> None:
    made = ledger(
        lambda it: it.call_failed("1", "gpt", "500"),
        lambda it: it.call_failed("1", "mini", "503"),
        lambda it: it.call_failed("unknown", "mini", "503"),
    )
    task = made.find("1")
    assert task is not None and (task.failing_model, task.llm_errors) == ("mini", {"500", "503"})
    assert made.find("unknown") is None


def test_the_first_reason_to_ask_another_model_is_kept() -> None:
    made = ledger(
        lambda it: it.failed_over("gpt", "mini", Reason.LLM_TIMEOUT),
        lambda it: it.failed_over("gpt", "mini", Reason.LLM_UNAVAILABLE),
        lambda it: it.failed_over("mini", "claude", Reason.LLM_UNAVAILABLE),
    )
    assert made.failovers == {
        ("gpt", "mini"): Reason.LLM_TIMEOUT,
        ("mini", "claude"): Reason.LLM_UNAVAILABLE,
    }


def test_what_a_person_reads_of_a_task_goes_through_the_redactor() -> None:
    made = ledger(lambda it: it.task_ended("1", at(1), answer="a secret"))
    task = made.tasks(lambda text: text.replace("secret", "*").replace("facts", "f"), ended=True)[0]
    assert (task.name, task.preview) == ("f", "a *")

"""When a request may be made by a lease, and how those wait that may not yet: no crewai and no sleeps."""

import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from crewrun_api.report import Lease
from crewrun_runner.budget import Caps, Need
from crewrun_runner.calls import Charge
from crewrun_runner.ledger import Ledger, Stopping
from crewrun_runner.message import TerminationMessage
from crewrun_runner.pacer import NO_LEASE, NO_PART, RATE, Pacer
from crewrun_runner.pacing import Pacing
from crewrun_runner.payload import Execution
from crewrun_runner.progress import Progress
from crewrun_runner.redaction import Redactor
from crewrun_runner.tokens import Tokens


def lease(requests: float | None = None, tokens: float | None = None, seconds: float = 1000) -> Lease:
    return Lease(requests_per_minute=requests, tokens_per_minute=tokens, seconds=seconds)


def pacing(given: Lease | None, sent: float = 0, now: float = 0) -> Pacing:
    made = Pacing()
    made.bind()
    made.lease(given, sent, now)
    return made


def test_without_a_rate_nobody_waits_and_nothing_is_told() -> None:
    made = Pacing()
    made.take(1, 10**6, 0)
    assert (made.seconds(0), made.told(0), made.bound) == (0, None, False)


def test_where_there_is_a_rate_nothing_goes_before_the_first_lease() -> None:
    made = Pacing()
    made.bind()
    assert made.seconds(100) == inf
    told = made.told(100)
    assert told is not None
    assert (told.requests_per_minute, told.tokens_per_minute, told.seconds) == (0, 0, 0)


#: The lease, the tokens that each request can use, those that it used (None: not answered yet), and how long the next
#: one has to wait right after each.
WAITS: list[tuple[Lease, list[tuple[int, int | None]], list[float]]] = [
    (lease(requests=60), [(500, None)], [1]),
    (lease(requests=60), [(500, None), (500, None)], [1, 2]),
    (lease(requests=0.5), [(0, 0)], [120]),
    (lease(tokens=6000), [(500, None)], [5]),
    (lease(tokens=6000), [(500, 100)], [1]),
    (lease(tokens=6000), [(500, 600)], [6]),
    (lease(tokens=6000), [(90_000, None)], [900]),
    (lease(tokens=6000), [(500, 0), (500, None)], [0, 5]),
    (lease(requests=60, tokens=6000), [(500, 0), (500, None)], [1, 5]),
    (lease(requests=60, seconds=30), [(0, 0)] * 31, [*range(1, 30), 30, 30]),
    (lease(requests=0, seconds=30), [], []),
]


@pytest.mark.parametrize(("given", "requests", "want"), WAITS)
def test_what_is_owed_is_paid_at_the_rate_of_the_lease(
    given: Lease, requests: list[tuple[int, int | None]], want: list[float]
) -> None:
    made, waits = pacing(given), []
    for number, (reserved, used) in enumerate(requests):
        made.take(number, reserved, 0)
        if used is not None:
            made.settle(number, used, 0)
        waits.append(made.seconds(0))
    assert waits == pytest.approx(want)


def test_a_request_whose_use_nobody_knows_is_paid_as_it_was_reserved() -> None:
    made = pacing(lease(tokens=60))
    made.take(1, 100, 0)
    made.settle(1, None, 0)
    made.settle(1, 0, 0)  # it is over already
    assert made.seconds(0) == pytest.approx(100)


def test_what_was_paid_too_much_is_not_saved_up() -> None:
    made = pacing(lease(tokens=60))
    made.take(1, 100, 0)
    made.settle(1, 1, 90)
    assert made.seconds(90) == 0
    made.take(2, 100, 90)
    assert made.seconds(90) == pytest.approx(100)


def test_the_debt_stays_when_the_lease_is_another_one_and_goes_with_the_rate() -> None:
    made = pacing(lease(requests=60))
    made.take(1, 0, 0)
    made.lease(lease(requests=6), 0.5, 0.5)
    assert made.seconds(0.5) == pytest.approx(5), "half a request at six a minute"
    made.lease(lease(tokens=60), 1, 1)
    assert made.seconds(1) == 0
    made.lease(None, 1, 1)
    assert (made.seconds(10**6), made.told(1)) == (0, None)


def test_a_lease_counts_from_when_its_report_was_sent_and_nothing_is_paid_after_it() -> None:
    made = pacing(lease(requests=60, seconds=30), sent=10, now=15)
    assert (made.seconds(39), made.seconds(40)) == (0, inf)
    made.take(1, 0, 39.5)
    told = made.told(39.5)
    assert told is not None
    assert (told.requests_per_minute, told.seconds, told.requests_owed) == (60, 0.5, 1)
    made.lease(lease(requests=60), 100, 100)
    assert made.seconds(100) == pytest.approx(0.5)


def test_what_requests_wait_for_is_told_until_the_next_lease() -> None:
    made = pacing(lease(requests=60, tokens=60))
    made.take(1, 0, 0)
    made.waited()
    told = made.told(0)
    assert told is not None and (told.requests_waited, told.tokens_waited) == (True, False)
    made.lease(lease(requests=60, tokens=60), 0, 0)
    told = made.told(0)
    assert told is not None and (told.requests_waited, told.tokens_waited) == (False, False)


@pytest.mark.parametrize("rate", [1, 7, 30, 59.5])
def test_in_any_minute_there_are_no_more_requests_than_the_lease_says(rate: float) -> None:
    made, now, times = pacing(lease(requests=rate, seconds=10**6)), 0.0, []
    for number in range(300):
        now += made.seconds(now)
        made.take(number, 0, now)
        times.append(now)
    most = max(sum(start <= time < start + 60 - 1e-6 for time in times) for start in times)
    assert most <= -(-rate // 1)


class Clock:
    """Goes when somebody waits by it, as though the wait had taken so long."""

    def __init__(self, pacer: Callable[[], Pacer] | None = None) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def drive(self, pacer: Pacer) -> None:
        """From now on a wait for a time takes none."""
        wait = pacer._news.wait

        def pass_by(seconds: float | None = None) -> bool:
            if seconds is None:
                return wait()
            self.now += seconds
            return True

        pacer._news.wait = pass_by  # type: ignore[method-assign]


def need(tokens: int) -> Need:
    return Need(0, tokens, lambda _: 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(tmp_path: Path, clock: Clock) -> Progress:
    ledger = Ledger()
    ledger.pacer = Pacer(clock)
    clock.drive(ledger.pacer)
    message = TerminationMessage(tmp_path / "termination-log")
    return Progress(Execution("team-a", "research", "u", 1, "p"), ledger, Redactor(), message)


def started(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_requests_of_parallel_tasks_take_turns(progress: Progress, clock: Clock) -> None:
    pacer, times = progress.ledger.pacer, []
    pacer.bind()
    pacer.lease(lease(requests=60, seconds=1000), 0)

    def ask() -> None:
        for _ in range(10):
            progress.reserve("1", "gpt", need(5))
            times.append(clock.now)

    threads = [started(ask) for _ in range(5)]
    for thread in threads:
        thread.join(30)
    assert sorted(times) == pytest.approx(range(50))


def test_nothing_is_reserved_while_a_request_waits_for_its_turn(progress: Progress) -> None:
    pacer, waiting = progress.ledger.pacer, threading.Event()
    pacer.waits = lambda _: waiting.set()
    pacer.bind()
    asking = started(lambda: progress.reserve("1", "gpt", need(5)))
    assert waiting.wait(10)
    usage = progress.take().usage
    assert (usage.reserved_requests, usage.incomplete) == (0, False)
    pacer.lease(lease(requests=60), 0)
    asking.join(10)
    assert progress.take().usage.reserved_requests == 1


def test_answers_give_back_what_they_did_not_use(progress: Progress, clock: Clock) -> None:
    ledger = progress.ledger
    ledger.pacer.lease(lease(tokens=60), 0)
    used = progress.reserve("1", "gpt", need(100))
    ledger.settle(used, Charge("1", "gpt", Tokens(7, 0, 3)))
    refused = progress.reserve("1", "gpt", need(100))
    assert clock.now == pytest.approx(10)
    ledger.release(refused)
    lost = progress.reserve("1", "gpt", need(100))
    assert clock.now == pytest.approx(10)
    ledger.lose(lost)
    progress.reserve("1", "gpt", need(100))
    assert clock.now == pytest.approx(110)


#: How the run ends while a request waits.
ENDS: dict[str, Callable[[Progress], None]] = {
    "a stop": lambda progress: progress.halt(),
    "a task that failed": lambda progress: progress.ledger.close(),
    "a rate that is no more": lambda progress: progress.ledger.pacer.lease(None, 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_a_wait_ends_it_at_once(progress: Progress, end: str) -> None:
    waiting, ends = threading.Event(), []
    progress.ledger.pacer.waits = lambda _: waiting.set()
    progress.ledger.pacer.bind()

    def ask() -> None:
        try:
            progress.reserve("1", "gpt", need(5))
            ends.append("asked")
        except Stopping:
            ends.append("stopped")

    asking = [started(ask) for _ in range(3)]
    assert waiting.wait(10)
    ENDS[end](progress)
    for thread in asking:
        thread.join(10)
    assert ends == ["asked" if "rate" in end else "stopped"] * 3
    assert progress.ledger.calls_in_flight == (3 if "rate" in end else 0)


def test_a_budget_that_is_exceeded_ends_the_wait_of_others(progress: Progress) -> None:
    progress.ledger.caps = Caps(tokens=10)
    waiting, ends = threading.Event(), []
    pacer = progress.ledger.pacer
    pacer.waits = lambda _: waiting.set()
    pacer.bind()

    def ask() -> None:
        with pytest.raises(Stopping):
            progress.reserve("1", "gpt", need(5))
        ends.append("stopped")

    asking = started(ask)
    assert waiting.wait(10)
    with pytest.raises(Exception, match="maxTokens"):
        progress.ledger.reserve("1", "gpt", Need(1000, 1, lambda _: 0))
    asking.join(10)
    assert ends == ["stopped"]


def test_what_requests_wait_for_is_said_once_for_each_time(progress: Progress, clock: Clock) -> None:
    pacer, said, news = progress.ledger.pacer, [], threading.Event()

    def say(why: str) -> None:
        said.append(why)
        news.set()

    pacer.waits = say
    pacer.lease(lease(requests=60, seconds=10), 0)
    for _ in range(5):
        progress.reserve("1", "gpt", need(1))
    assert said == [RATE]
    pacer.lease(lease(requests=0, seconds=30), clock.now)
    news.clear()
    asking = started(lambda: [progress.reserve("1", "gpt", need(1)) for _ in range(3)])
    while NO_LEASE not in said:
        assert news.wait(10)
        news.clear()
    pacer.lease(lease(requests=60, seconds=30), clock.now)
    asking.join(10)
    assert said == [RATE, NO_PART, NO_LEASE]

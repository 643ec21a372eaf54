"""The termination message while the runner runs, and the thread that reports: no crewai and no network."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crewrun_api.outcome import RECORD_LIMIT_BYTES, encode, parse
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_api.report import Answer, Report, Snapshot, parse_snapshot
from crewrun_runner.budget import Caps, Need
from crewrun_runner.calls import Charge
from crewrun_runner.farewell import Farewell
from crewrun_runner.ledger import BudgetExceeded, Ledger, Stopping, Task, Ticket
from crewrun_runner.message import TerminationMessage
from crewrun_runner.payload import Execution
from crewrun_runner.progress import Progress
from crewrun_runner.record import Answer as Result
from crewrun_runner.record import End, build
from crewrun_runner.redaction import Redactor
from crewrun_runner.reporter import ANSWER_SECONDS, Reporter
from crewrun_runner.reporting import Reply
from crewrun_runner.tokens import Tokens
from crewrun_runner.unkept import Unkept

RUNNER = Path(__file__).resolve().parents[2] / "runner-image"
EXECUTION = Execution("team-a", "research", "u", 2, "p")
START = datetime(2026, 1, 1, tzinfo=UTC)
GO_ON = Reply(200, b'{"action": "Continue", "intervalSeconds": 60}')
STOP = Reply(409, b'{"action": "Stop", "reason": "Suspended", "message": "spec.suspend"}')

WRITER = """
import itertools, sys
from pathlib import Path
from crewrun_runner.message import TerminationMessage
message = TerminationMessage(Path(sys.argv[1]))
for number in itertools.count(1):
    message.write(b"[%s]" % (b"%d" % (number % 10) * (number * 1237 % 3900 + 1)))
    if number == 10:
        print(flush=True)
"""


def test_a_writer_that_is_killed_leaves_one_whole_content(tmp_path: Path) -> None:
    for number in range(15):
        path = tmp_path / f"log-{number}"
        command = [sys.executable, "-S", "-c", WRITER, str(path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(RUNNER)})
        assert writer.stdout is not None and writer.stdout.readline()
        time.sleep(0.001 * number)
        writer.kill()
        writer.communicate()
        left = path.read_bytes().rstrip(b" ")
        digits = left.removeprefix(b"[").removesuffix(b"]")
        assert len(left) == len(digits) + 2
        assert digits == digits[:1] * len(digits)
        assert len(digits) >= 1


def test_what_is_shorter_covers_what_was_longer(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 5000)
    message = TerminationMessage(path)
    for data in (b"first", b"the second", b"3", b"", b"a fifth that is longer"):
        message.write(data)
        assert path.read_bytes().rstrip() == data
    assert path.stat().st_size == len(b"a fifth that is longer")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "termination-log"


@pytest.fixture
def progress(path: Path) -> Progress:
    ledger = Ledger()
    made = Progress(EXECUTION, ledger, Redactor(["sk-123456"]), TerminationMessage(path))
    ledger.expect([Task("1", "facts"), Task("2", "report sk-123456")])
    return made


def need(tokens: int) -> Need:
    """So many tokens, a micro-USD each."""
    return Need(0, tokens, lambda answer: answer)


def charge(tokens: Tokens, model: str = "gpt") -> Charge:
    return Charge("1", model, tokens, tokens.total, "openai/gpt")


def left(path: Path) -> Snapshot:
    found = parse_snapshot(path.read_text())
    assert found is not None
    return found


def test_each_change_stands_in_the_termination_message(progress: Progress, path: Path) -> None:
    ledger = progress.ledger
    ledger.task_started("1", "Researcher", START)
    assert left(path).tasks[0].state == "Running"
    ticket = progress.reserve("1", "gpt", need(800))
    usage = left(path).usage
    assert (usage.reserved_requests, usage.reserved_tokens, usage.reserved_cost_usd) == (1, 800, 800)
    assert usage.incomplete
    ledger.settle(ticket, charge(Tokens(5, 0, 2)))
    usage = left(path).usage
    assert (usage.reserved_requests, usage.reserved_tokens, usage.reserved_cost_usd) == (0, 0, 0)
    assert (usage.total_tokens, usage.cost_usd, usage.incomplete) == (7, 7, False)
    assert [(each.model, each.price_key) for each in usage.by_model] == [("gpt", "openai/gpt")]
    ledger.task_ended("1", START, answer="Ten facts, sk-123456")
    assert (left(path).tasks[0].preview, left(path).tasks_succeeded) == ("Ten facts, [redacted]", 1)
    assert left(path).sequence == 4
    assert "sk-123456" not in path.read_text()


def test_the_record_is_the_last_that_is_written(progress: Progress, path: Path) -> None:
    for number in range(60):
        progress.ledger.task_ended("1", START, answer="a" * number)
    end = End.success(Result("short"))
    record = build(EXECUTION, end, progress.ledger, START, START, str)
    progress.finish(encode(record))
    progress.changed(urgent=True)
    progress.ledger.task_ended("2", START, answer="late")
    assert parse(path.read_text()) == record
    assert parse_snapshot(path.read_text()) is None
    assert path.stat().st_size <= RECORD_LIMIT_BYTES


def test_changes_by_many_threads_end_with_the_newest(progress: Progress, path: Path) -> None:
    def work(thread: int) -> None:
        for _ in range(100):
            ticket = progress.ledger.reserve("1", "gpt", need(5))
            progress.ledger.settle(ticket, charge(Tokens(1), f"model-{thread}"))

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage = left(path).usage
    assert (usage.requests, usage.total_tokens, usage.reserved_requests) == (800, 800, 0)
    assert [each.requests for each in usage.by_model] == [100] * 8
    assert left(path).sequence <= 800


def test_reservations_by_many_threads_stand_there_before_they_return(progress: Progress) -> None:
    written: list[bytes] = []
    returned: list[int] = []
    missing: list[int] = []
    progress._message.write = written.append  # type: ignore[method-assign]

    def work() -> None:
        for _ in range(20):
            returned.append(progress.reserve("1", "gpt", need(1)).number)
            count = len(returned)
            snapshot = parse_snapshot(written[-1].decode())
            if snapshot is None or snapshot.usage.reserved_requests < count:
                missing.append(count)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert missing == []
    assert sorted(returned) == list(range(1, 81))


def test_a_termination_message_that_cannot_be_written_does_not_stop_a_crew(tmp_path: Path) -> None:
    made = Progress(EXECUTION, Ledger(), Redactor(), TerminationMessage(tmp_path / "missing" / "log"))
    made.reserve("1", "gpt", need(5))
    made.changed(urgent=False)
    with pytest.raises(FileNotFoundError):
        made.finish(b"record")


def test_after_a_stop_no_call_begins_and_none_is_reserved(progress: Progress, path: Path) -> None:
    progress.halt()
    with pytest.raises(Stopping):
        progress.reserve("1", "gpt", need(800))
    assert progress.ledger.calls_in_flight == 0
    assert progress.ledger.closed


def test_a_stop_between_the_reservation_and_the_call_gives_it_back(progress: Progress, path: Path) -> None:
    wait_for = progress.ledger.reserve

    def reserve(task: str, model: str, asked: Need) -> Ticket:
        ticket = wait_for(task, model, asked)
        progress.halt()
        return ticket

    progress.ledger.reserve = reserve  # type: ignore[method-assign]
    with pytest.raises(Stopping):
        progress.reserve("1", "gpt", need(800))
    assert progress.ledger.calls_in_flight == 0
    assert left(path).usage.incomplete is False


def test_a_request_over_the_budget_is_not_reserved(progress: Progress) -> None:
    progress.ledger.caps = Caps(tokens=500)
    with pytest.raises(BudgetExceeded, match="maxTokens 500"):
        progress.reserve("1", "gpt", Need(800, 10, lambda answer: 0))
    assert progress.ledger.calls_in_flight == 0
    with pytest.raises(Stopping):
        progress.reserve("1", "gpt", need(1))


def test_a_stop_wakes_a_request_that_waits_for_the_budget(progress: Progress) -> None:
    progress.ledger.caps = Caps(requests=1)
    progress.reserve("1", "gpt", need(5))
    ends: list[str] = []

    def ask() -> None:
        try:
            progress.reserve("1", "gpt", need(5))
        except Stopping:
            ends.append("stopped")

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    progress.halt()
    waiting.join(10)
    assert ends == ["stopped"]


class Operator:
    """Takes the place of `Post`: answers what the test says, when it lets it."""

    def __init__(self, *replies: Reply | Exception) -> None:
        self.replies = list(replies)
        self.reports: list[Report] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, body: bytes) -> Reply:
        self.reports.append(Report.model_validate_json(body))
        self.open.wait(5)
        reply = self.replies.pop(0) if self.replies else GO_ON
        if isinstance(reply, Exception):
            raise reply
        return reply


class Wired:
    """A reporter with its surroundings."""

    def __init__(self, progress: Progress, *replies: Reply | Exception) -> None:
        self.operator = Operator(*replies)
        self.progress = progress
        self.stops: list[Answer] = []
        self.lines: list[str] = []
        self.finished: list[int] = []
        pacer = progress.ledger.pacer
        self.reporter = progress.reporter = Reporter(self.operator, progress.take, self._stop, self._log, pacer)

    def _stop(self, answer: Answer) -> None:
        self.stops.append(answer)
        self.progress.halt()

    def _log(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields.get('status')}")

    def start(self) -> None:
        pack: Callable[[Any], bytes] = lambda tasks: bytes(tasks)  # noqa: E731
        self.reporter.start(Unkept(lambda: list(self.finished), 9, pack, self._log))

    def wait_for(self, reports: int) -> None:
        deadline = time.monotonic() + 5
        while len(self.operator.reports) < reports:
            assert time.monotonic() < deadline, self.operator.reports
            time.sleep(0.005)

    def seconds_of_a_call(self) -> float:
        began = time.monotonic()
        self.progress.reserve("1", "gpt", need(100))
        return time.monotonic() - began


@pytest.fixture
def wire(progress: Progress) -> Iterator[Callable[..., Wired]]:
    made: list[Wired] = []

    def build(*replies: Reply | Exception) -> Wired:
        made.append(Wired(progress, *replies))
        return made[-1]

    yield build
    for wired in made:
        wired.operator.open.set()


def test_a_call_waits_until_the_operator_has_its_reservation(wire: Callable[..., Wired]) -> None:
    wired = wire()
    wired.start()
    wired.wait_for(1)
    for number in range(1, 4):
        assert wired.seconds_of_a_call() < 0.5
        usage = wired.operator.reports[-1].snapshot.usage
        assert (usage.reserved_requests, usage.reserved_tokens, usage.reserved_cost_usd) == (
            number,
            100 * number,
            100 * number,
        )
    wired.operator.open.clear()
    waiting = threading.Thread(target=wired.seconds_of_a_call)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    wired.operator.open.set()
    waiting.join(2)
    assert not waiting.is_alive()


def test_a_report_that_was_on_its_way_already_is_not_the_answer(wire: Callable[..., Wired]) -> None:
    wired = wire()
    wired.operator.open.clear()
    wired.start()
    wired.wait_for(1)
    waiting = threading.Thread(target=wired.seconds_of_a_call)
    waiting.start()
    time.sleep(0.05)
    wired.operator.open.set()
    waiting.join(2)
    assert [report.snapshot.usage.reserved_tokens for report in wired.operator.reports] == [0, 100]


def test_a_call_waits_a_second_at_the_most_and_the_next_one_not_at_all(wire: Callable[..., Wired]) -> None:
    wired = wire()
    wired.operator.open.clear()
    wired.start()
    assert ANSWER_SECONDS <= wired.seconds_of_a_call() < ANSWER_SECONDS + 1
    assert wired.seconds_of_a_call() < 0.5
    wired.operator.open.set()
    wired.reporter.urge()
    wired.wait_for(2)
    time.sleep(0.05)
    wired.seconds_of_a_call()
    assert wired.operator.reports[-1].snapshot.usage.reserved_tokens == 300  # it is waited for again


@pytest.mark.parametrize("reply", [Reply(503), Reply(401), Reply(0), Reply(200, b"hello"), RuntimeError("httpx")])
def test_an_operator_that_takes_nothing_is_not_waited_for(wire: Callable[..., Wired], reply: Reply | Exception) -> None:
    wired = wire(reply)
    wired.start()
    wired.wait_for(1)
    time.sleep(0.05)
    assert wired.seconds_of_a_call() < 0.5
    if reply != Reply(401):
        wired.wait_for(2)  # after the backoff, not after the interval


def test_a_stop_is_said_once_and_before_anybody_who_waits_goes_on(wire: Callable[..., Wired]) -> None:
    wired = wire(GO_ON, STOP, STOP, STOP)
    wired.start()
    wired.wait_for(1)
    with pytest.raises(Stopping):
        wired.seconds_of_a_call()
    assert [answer.reason for answer in wired.stops] == [Reason.SUSPENDED]
    assert wired.progress.ledger.calls_in_flight == 0
    assert wired.lines == []


def test_a_checkpoint_goes_with_each_report_until_one_was_taken(wire: Callable[..., Wired]) -> None:
    wired = wire(GO_ON, Reply(503, retry_after=0.0), Reply(503, retry_after=0.0))
    wired.start()
    wired.wait_for(1)
    wired.finished = [1, 2]
    wired.progress.ledger.task_ended("1", START)
    wired.wait_for(4)
    time.sleep(0.05)
    wired.progress.ledger.task_ended("2", START)
    wired.wait_for(5)
    carried = [report.checkpoint and report.checkpoint.content() for report in wired.operator.reports]
    assert carried == [None, b"\1\2", b"\1\2", b"\1\2", None]
    sequences = [report.snapshot.sequence for report in wired.operator.reports]
    assert sequences == sorted(set(sequences))


def test_a_checkpoint_that_is_refused_does_not_hold_up_the_reports(wire: Callable[..., Wired]) -> None:
    wired = wire(GO_ON, Reply(413))
    wired.start()
    wired.wait_for(1)
    wired.finished = [1]
    wired.reporter.urge()
    wired.wait_for(3)
    assert [report.checkpoint is not None for report in wired.operator.reports] == [False, True, False]
    assert wired.lines == ["report_refused 413"]


def farewell(seconds: float, again: bool) -> Farewell:
    record = build(EXECUTION, End.success(Result("done")), Ledger(), START, START, str)
    return Farewell(record, [], seconds, again)


#: The replies that the outcome gets, whether it is tried again, how many there are, and whether it is over then.
LAST: list[tuple[list[Reply], bool, int, bool]] = [
    ([GO_ON], False, 1, True),
    ([Reply(503)], False, 1, False),
    ([Reply(503), GO_ON], True, 2, True),
    ([Reply(403), GO_ON], True, 2, True),
    ([Reply(0), Reply(409)], True, 2, True),
    ([STOP], True, 1, True),
    ([Reply(413)], True, 1, True),
    ([Reply(422)], True, 1, True),
]


@pytest.mark.parametrize(("replies", "again", "want", "over"), LAST)
def test_the_outcome_is_sent_until_it_is_decided(
    wire: Callable[..., Wired], replies: list[Reply], again: bool, want: int, over: bool
) -> None:
    wired = wire(*replies)
    assert wired.reporter.conclude(farewell(10, again)) == over
    assert len(wired.operator.reports) == want
    assert all(report.outcome and report.outcome.output for report in wired.operator.reports)
    assert wired.stops == []


def test_the_outcome_goes_at_once_whatever_backoff_there_was(wire: Callable[..., Wired]) -> None:
    wired = wire(Reply(503, retry_after=50.0))
    wired.start()
    wired.wait_for(1)
    time.sleep(0.05)
    assert wired.reporter.conclude(farewell(2, again=False))
    assert [report.outcome is not None for report in wired.operator.reports] == [False, True]


def test_the_end_waits_no_longer_than_it_may(wire: Callable[..., Wired]) -> None:
    wired = wire()
    wired.operator.open.clear()
    began = time.monotonic()
    assert not wired.reporter.conclude(farewell(0.3, again=True))
    assert 0.3 <= time.monotonic() - began < 1


def test_who_is_in_a_hurry_does_not_wait(wire: Callable[..., Wired]) -> None:
    wired = wire()
    wired.operator.open.clear()
    threading.Timer(0.1, wired.reporter.hurry).start()
    began = time.monotonic()
    assert not wired.reporter.conclude(farewell(10, again=True))
    assert time.monotonic() - began < 1


def test_what_the_operator_says_is_what_the_record_says() -> None:
    for reason in (Reason.TIMED_OUT, Reason.SUSPENDED, Reason.NODE_LOST):
        end = End.told(Answer.model_validate({"action": "Stop", "reason": reason, "message": "because"}))
        assert (end.outcome, end.reason, end.message) == (Outcome.STOPPED, reason, "because")
        assert end.exit_code is ExitCode.STOPPED
    silent = End.told(Answer.model_validate({"action": "Stop"}))
    assert (silent.reason, silent.message) == (Reason.CANCELLED, "stopped by the operator")

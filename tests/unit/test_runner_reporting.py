"""What an answer to a report means, when the next one goes, and what the last one carries."""

import json
from typing import Any

import pytest

from crewrun_api.names import ENV_REPORT_URL
from crewrun_api.outcome import OutcomeRecord, OutputRecord, TaskRecord, encode
from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_api.report import STORED_LIMIT_BYTES, OutputFile, Upload
from crewrun_api.resolved import ResolvedRun
from crewrun_runner.farewell import Limits, farewell, fitting
from crewrun_runner.reporting import Pace, Reply, Sense, Verdict, concludes, destination, understand
from crewrun_runner.unkept import Unkept

GO_ON = b'{"action": "Continue", "intervalSeconds": 7}'
STOP = b'{"action": "Stop", "reason": "Cancelled", "message": "spec.cancel"}'
PAGE = b"<html>Welcome to nginx</html>"

#: A reply, what it says, whether it says to stop, and whether an outcome need not be sent again.
REPLIES: list[tuple[Reply, Sense, bool, bool]] = [
    (Reply(200, GO_ON), Sense.TAKEN, False, True),
    (Reply(200, STOP), Sense.TAKEN, True, True),
    (Reply(200, PAGE), Sense.LATER, False, False),
    (Reply(200, b""), Sense.LATER, False, False),
    (Reply(302), Sense.LATER, False, False),
    (Reply(400, STOP), Sense.REFUSED, False, True),
    (Reply(401, STOP), Sense.DENIED, False, False),
    (Reply(403), Sense.DENIED, False, False),
    (Reply(404, STOP), Sense.GONE, True, True),
    (Reply(404, PAGE), Sense.GONE, False, True),
    (Reply(409, STOP), Sense.GONE, True, True),
    (Reply(409, GO_ON), Sense.GONE, False, True),
    (Reply(413), Sense.REFUSED, False, True),
    (Reply(422), Sense.REFUSED, False, True),
    (Reply(429, STOP), Sense.LATER, False, False),
    (Reply(500), Sense.LATER, False, False),
    (Reply(503, STOP), Sense.LATER, False, False),
    (Reply(0, error="ConnectError"), Sense.LATER, False, False),
]


@pytest.mark.parametrize(("reply", "sense", "stops", "ends"), REPLIES, ids=lambda value: str(value)[:40])
def test_every_reply_has_its_meaning(reply: Reply, sense: Sense, stops: bool, ends: bool) -> None:
    verdict = understand(reply)
    assert (verdict.sense, verdict.stop is not None, concludes(verdict)) == (sense, stops, ends)


@pytest.mark.parametrize(("asked", "want"), [(7, 7), (0.001, 0.1), (1e300, 300)])
def test_the_operator_says_when_to_report_next_within_reason(asked: float, want: float) -> None:
    body = json.dumps({"action": "Continue", "intervalSeconds": asked}).encode()
    assert understand(Reply(200, body)).interval == want


TAKEN, LATER = Verdict(Sense.TAKEN, interval=5.0), Verdict(Sense.LATER)
DENIED, GONE = Verdict(Sense.DENIED), Verdict(Sense.GONE)


def pace(*verdicts: Verdict, last: bool = False) -> Pace:
    made = Pace()
    for verdict in verdicts:
        made.sent()
        made.heard(verdict, 100.0, last)
    return made


#: What was heard at 100 s, whether that was about the outcome, the wait then, and the wait when there is news.
WAITS: list[tuple[list[Verdict], bool, float, float]] = [
    ([], False, 0, 0),
    ([TAKEN], False, 5, 0),
    ([GONE], False, 2, 2),
    ([DENIED], False, 2, 2),
    ([TAKEN, DENIED], False, 5, 5),
    ([LATER], False, 0.5, 0.5),
    ([LATER] * 3, False, 2, 2),
    ([LATER] * 9, False, 10, 10),
    ([LATER] * 9 + [TAKEN], False, 5, 0),
    ([LATER] * 9 + [TAKEN, LATER], False, 0.5, 0.5),
    ([Verdict(Sense.LATER, retry_after=3.0)], False, 3, 3),
    ([Verdict(Sense.LATER, retry_after=0.0)], False, 0.5, 0.5),
    ([Verdict(Sense.LATER, retry_after=86400.0)], False, 60, 60),
    ([DENIED] * 3, True, 2, 2),
]


@pytest.mark.parametrize(("verdicts", "last", "want", "want_with_news"), WAITS)
def test_the_wait_for_the_next_report(verdicts: list[Verdict], last: bool, want: float, want_with_news: float) -> None:
    made = pace(*verdicts, last=last)
    now = 100.0 if verdicts else 0.0
    assert made.seconds(now) == want
    made.urge()
    assert made.seconds(now) == want_with_news
    assert made.seconds(now + 1000) == 0
    made.restart()
    assert made.seconds(now) == 0


def test_news_that_came_while_a_report_was_on_its_way_goes_next() -> None:
    made = Pace()
    made.sent()
    made.urge()
    made.heard(TAKEN, 100.0, last=False)
    assert made.seconds(100.0) == 0


URLS = [
    ("https://operator.crewrun-system.svc:8443/v1", True),
    ("http://127.0.0.1:8443/v1", True),
    ("http://[::1]:8443/v1", True),
    ("http://localhost/v1", True),
    ("http://operator.crewrun-system.svc/v1", False),
    ("http://127.0.0.1.example.com/v1", False),
    ("http://localhost.example.com/v1", False),
    ("http://user@10.0.0.1/v1", False),
    ("http://127.0.0.1@example.com/v1", False),
    ("https:///v1", False),
    ("ftp://127.0.0.1/v1", False),
    ("operator", False),
]


@pytest.mark.parametrize(("url", "good"), URLS)
def test_the_token_goes_by_tls_or_not_beyond_this_machine(url: str, good: bool) -> None:
    environ = {ENV_REPORT_URL: url}
    if good:
        assert (destination(environ)[0], str(destination(environ)[1])) == (url, "/var/run/crewrun/report")
    else:
        with pytest.raises(ValueError, match="must be an https address"):
            destination(environ)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: str, **_: Any) -> None:
        self.lines.append(event)


def test_a_checkpoint_is_due_when_there_are_more_tasks_than_the_operator_has() -> None:
    finished = ["a"]
    packed: list[list[str]] = []

    def pack(tasks: Any) -> bytes:
        packed.append(list(tasks))
        return b"-".join(task.encode() for task in tasks)

    unkept = Unkept(lambda: list(finished), 4, pack, Log())
    assert (unkept.pending, unkept.due()) == (False, None)  # restored, so it is kept
    finished.append("b")
    first = unkept.due()
    assert first is not None and (first.tasks, first.upload.content()) == (2, b"a-b")
    assert unkept.due() is first and unkept.pending  # it stays until somebody took it
    finished.append("c")
    second = unkept.due()
    assert second is not None and second.upload.content() == b"a-b-c"
    unkept.settle(first)  # the answer to the first one comes late
    assert unkept.due() is second
    unkept.settle(second)
    assert (unkept.pending, unkept.due()) == (False, None)
    finished.append("d")
    assert (unkept.pending, unkept.due()) == (False, None)  # nothing is left to go on with
    assert packed == [["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("size", "want"), [(STORED_LIMIT_BYTES, []), (STORED_LIMIT_BYTES + 1, ["checkpoint_too_large"])]
)
def test_a_checkpoint_that_nobody_can_keep_is_not_sent_and_said_once(size: int, want: list[str]) -> None:
    finished: list[int] = []
    log = Log()
    unkept = Unkept(lambda: list(finished), 9, lambda _: b"x" * size, log)
    for number in range(3):
        finished.append(number)
        assert (unkept.due() is None) == bool(want)
        assert unkept.pending == (not want)
    assert log.lines == want


def test_a_checkpoint_that_cannot_be_made_costs_a_line_and_nothing_else() -> None:
    finished: list[int] = []
    log = Log()
    unkept = Unkept(lambda: list(finished), 9, lambda tasks: bytes(tasks[0] / 0), log)
    finished.append(1)
    assert (unkept.due(), unkept.pending, log.lines) == (None, False, ["checkpoint_failed"])


def file(name: str, size: int, kept: bool = True) -> OutputFile:
    return OutputFile(name=name, bytes=size, upload=Upload.of(b"x" * size) if kept else None)


#: Bytes of the output and of files, and which files are kept when 100 bytes can be.
FITS: list[tuple[int, list[int], list[bool]]] = [
    (10, [], []),
    (10, [90], [True]),
    (10, [91], [False]),
    (10, [30, 70, 30], [True, False, True]),
    (10, [0, 95], [True, False]),
    (100, [0, 1], [True, False]),
    (90, [20, 15, 12], [False, False, False]),
    (120, [0, 1], [True, False]),
]


@pytest.mark.parametrize(("output", "sizes", "want"), FITS)
def test_the_largest_files_go_first(output: int, sizes: list[int], want: list[bool]) -> None:
    files = [file(f"f{number}", size) for number, size in enumerate(sizes)]
    record, kept = fitting(OutputRecord.of("o" * output), files, 100)
    assert [file.upload is not None for file in kept] == want
    assert [(file.name, file.bytes) for file in kept] == [(file.name, file.bytes) for file in files]
    assert record is not None
    assert (len(record.value), record.truncated, record.bytes) == (min(output, 100), output > 100, output)


def test_an_output_is_cut_between_two_characters() -> None:
    record, _ = fitting(OutputRecord.of("é" * 60), [], 99)
    assert record is not None and (record.value, record.truncated, record.bytes) == ("é" * 49, True, 120)


def ended(outcome: Outcome, output: str = "", message: str = "") -> OutcomeRecord:
    return OutcomeRecord(
        run_uid="u", attempt=1, pod_uid="p", outcome=outcome, reason=Reason.COMPLETED, exit_code=ExitCode.SUCCEEDED,
        start_time="s", completion_time="c", message=message, output=OutputRecord.of(output) if output else None,
        tasks=[TaskRecord(name="t", state=TaskState.SUCCEEDED, preview="p" * 80)] * 9,
    )  # fmt: skip


SUCCESS, FAILURE, STOPPED = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.STOPPED
#: The end, its files, whether a checkpoint waits, the patience, and how long the report is waited for.
FAREWELLS: list[tuple[OutcomeRecord, int, bool, float, float, bool]] = [
    (ended(SUCCESS, "short"), 0, False, 10, 2, False),
    (ended(SUCCESS), 0, False, 10, 2, False),
    (ended(SUCCESS, "x" * 5000), 0, False, 10, 300, True),
    (ended(SUCCESS, "short"), 1, False, 10, 300, True),
    (ended(FAILURE), 0, False, 10, 2, False),
    (ended(FAILURE), 0, True, 10, 10, True),
    (ended(FAILURE), 0, True, 2, 10, True),
    (ended(STOPPED), 0, False, 10, 2, False),
    (ended(STOPPED), 0, True, 10, 10, True),
    (ended(STOPPED), 0, True, 2, 2, True),
]


@pytest.mark.parametrize(("record", "files", "pending", "patience", "seconds", "again"), FAREWELLS)
def test_how_long_the_end_waits(
    record: OutcomeRecord, files: int, pending: bool, patience: float, seconds: float, again: bool
) -> None:
    limits = Limits(patience, 300)
    last = farewell(record, encode(record), [file("f", 5)] * files, pending, limits)
    assert (last.seconds, last.again, len(last.files)) == (seconds, again, files)
    assert last.outcome == record
    assert farewell(record, encode(record), [], pending, Limits(patience, 1)).seconds <= 2


def test_the_report_has_the_whole_output_and_the_message_of_the_record() -> None:
    record = ended(SUCCESS, "x" * 50_000, message="m" * 5000)
    last = farewell(record, encode(record), [file(str(number), 1) for number in range(300)], False, Limits())
    assert last.outcome.output == record.output
    assert last.outcome.message == "m" * 1000
    assert last.outcome.tasks == record.tasks
    assert len(last.files) == 256


@pytest.mark.parametrize(("grace", "patience"), [(30, 10), (60, 10), (10, 4), (1, 0.4)])
def test_patience_leaves_time_for_the_record(grace: int, patience: float) -> None:
    pod = {"terminationGracePeriodSeconds": grace}
    spec = ResolvedRun.model_validate({"crew": "c", "definition": {}, "pod": pod, "reportGraceSeconds": 9})
    assert Limits.of(spec) == Limits(patience, 9)

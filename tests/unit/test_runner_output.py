"""Redaction, log lines, records, stand-ins: what the runner says about itself and others."""

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from crewrun_api.outcome import TaskRecord, encode, parse
from crewrun_api.reasons import ExitCode, Outcome, OutputFormat, Reason, TaskState
from crewrun_runner import absent
from crewrun_runner.absent import LeftOut
from crewrun_runner.failures import Failure
from crewrun_runner.ledger import Ledger, Task
from crewrun_runner.payload import Execution
from crewrun_runner.record import Answer, End, build
from crewrun_runner.redaction import MASK, Redactor, secret_values, values_in, values_in_file
from crewrun_runner.streams import FIELDS, RedactedText, line, timestamp

EXECUTION = Execution("team-a", "research", "u", 2, "p")
START = datetime(2026, 1, 1, tzinfo=UTC)


def test_secrets_are_known_by_their_place_in_the_spec_and_by_their_names() -> None:
    environ = {
        "LLM": "value-1",
        "OPENAI_API_KEY": "value-2",
        "GITHUB_TOKEN": "value-3",
        "DB_PASSWORD": "value-4",
        "PASSWORD": "value-5",
        "KEYBOARD": "de",
        "MONKEY": "banana",
        "PATH": "/usr/bin",
    }
    assert secret_values(environ, ["LLM"]) == {f"value-{number}" for number in range(1, 6)}


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_the_headers_of_a_traces_endpoint_are_secret_as_they_are_spelled_and_as_they_are_sent(name: str) -> None:
    values = secret_values({name: "authorization=Bearer%20abc123, x-team=sre ,broken"}, ())
    assert values == {"Bearer%20abc123", "Bearer abc123", "abc123", "sre"}


def test_a_key_that_stands_in_a_definition_is_secret_too() -> None:
    agents = {"a": {"llm": {"model": "gpt", "api_key": "sk-1"}}}
    document = {"agents": agents, "tasks": [{"mcps": [{"token": "t-2", "monkey": "x"}]}]}
    assert values_in(document) == {"sk-1", "t-2"}


@pytest.mark.parametrize(
    "text",
    ['key a"b\\c/d&1 end', json.dumps('key a"b\\c/d&1 end'), "url?key=a%22b%5Cc%2Fd%261", "url/a%22b%5Cc/d%261"],
)
def test_a_secret_is_found_as_json_and_urls_spell_it(text: str) -> None:
    redacted = Redactor(['a"b\\c/d&1'])(text)
    assert MASK in redacted
    assert "d&1" not in redacted and "d%261" not in redacted


def test_every_line_of_a_private_key_is_secret_and_short_values_are_not() -> None:
    redact = Redactor(["first-line\nsecond-line", "on", ""])
    assert redact("second-line on first-line") == f"{MASK} on {MASK}"
    assert Redactor()("plain") == "plain"


def test_a_secret_that_is_learnt_later_is_found_from_then_on() -> None:
    redact = Redactor(["first-one"])
    redact.learn("second-one")
    redact.learn("second-one")
    assert redact("first-one second-one") == f"{MASK} {MASK}"


def test_the_longest_secret_is_replaced_first() -> None:
    assert Redactor(["secret", "secret-longer"])("secret-longer secret") == f"{MASK} {MASK}"


def test_half_a_surrogate_pair_can_be_written() -> None:
    assert Redactor()("a\ud800b").encode() == b"a?b"


def test_a_log_line_is_one_redacted_object_in_a_fixed_order() -> None:
    fields = {"message": "it is sk-123456\nand more", "event": "run_stopped", "ts": "t", "task": None, "attempt": 1}
    fields["level"] = "info"
    written = line(fields, Redactor(["sk-123456"])).decode()
    want = (
        '{"ts": "t", "level": "info", "event": "run_stopped", "attempt": 1, "message": "it is [redacted]\\nand more"}\n'
    )
    assert written == want


def test_the_fields_of_a_log_line_are_a_contract() -> None:
    assert FIELDS == (
        "ts", "level", "event", "run", "attempt", "task", "agent", "model", "nextModel", "tool", "fromCache",
        "promptTokens", "cachedPromptTokens", "completionTokens", "reasoningTokens", "totalTokens", "costUSD",
        "requests", "tasks", "tasksSucceeded", "agents", "durationSeconds", "reason", "exitCode", "status", "error",
        "message", "prompt", "answer", "arguments", "result",
    )  # fmt: skip


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_secret_written_in_pieces_is_redacted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    stream = RedactedText(write, Redactor(["sk-123456"]))
    for piece in ("the key sk-", "1234", "56 is\nsecret sk-12", "3456"):
        print(piece, end="", file=stream)
    stream.finish()
    assert os.read(read, 1000).decode() == f"the key {MASK} is\nsecret {MASK}\n"


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(START) == "2026-01-01T00:00:00.000Z"


def test_a_record_of_success_holds_the_answer_and_no_secret() -> None:
    ledger = Ledger()
    ledger.expect([Task("1", "facts")])
    ledger.task_started("1", "A", START)
    ledger.task_ended("1", START, answer="sk-123456 it is")
    end = End.success(Answer('{"a": "sk-123456"}', OutputFormat.JSON))
    record = build(EXECUTION, end, ledger, START, START, Redactor(["sk-123456"]))
    assert (record.outcome, record.reason, record.exit_code) == (Outcome.SUCCEEDED, Reason.COMPLETED, 0)
    assert (record.run_uid, record.attempt, record.pod_uid) == ("u", 2, "p")
    assert (record.tasks_total, record.tasks_succeeded) == (1, 1)
    assert record.output is not None and record.output.format is OutputFormat.JSON
    assert b"sk-123456" not in encode(record)
    assert parse(encode(record).decode()) == record


def test_a_record_says_where_the_attempt_began() -> None:
    ledger = Ledger()
    ledger.expect([Task("1", "facts"), Task("2", "report")])
    ledger.restore({"1": TaskRecord(name="facts", state=TaskState.SUCCEEDED, attempt=1)})
    ledger.checkpoint_refused = "the one of sk-123456 is damaged"
    record = build(EXECUTION, End.stopped("SIGTERM"), ledger, START, START, Redactor(["sk-123456"]))
    assert (record.tasks_total, record.tasks_succeeded, record.resumed_from_task) == (2, 1, "report")
    assert [task.attempt for task in record.tasks] == [1, None]
    assert record.checkpoint_refused == "the one of [redacted] is damaged"


ENDS: list[tuple[End, Outcome, Reason, ExitCode]] = [
    (End.stopped("SIGTERM"), Outcome.STOPPED, Reason.CANCELLED, ExitCode.STOPPED),
    (End.timed_out(60), Outcome.FAILED, Reason.ATTEMPT_TIMED_OUT, ExitCode.TASK_FAILED),
    (
        End.failed(Failure(Reason.LLM_RATE_LIMITED, "slow down", "RateLimitError", 429, 7.0)),
        Outcome.FAILED,
        Reason.LLM_RATE_LIMITED,
        ExitCode.LLM_RETRYABLE,
    ),
    (End.failed(Failure(Reason.RUNNER_CRASHED, "x")), Outcome.FAILED, Reason.RUNNER_CRASHED, ExitCode.INTERNAL),
]


@pytest.mark.parametrize(("end", "outcome", "reason", "code"), ENDS, ids=[reason for _, _, reason, _ in ENDS])
def test_every_other_end_has_its_outcome(end: End, outcome: Outcome, reason: Reason, code: ExitCode) -> None:
    record = build(EXECUTION, end, Ledger(), START, START, Redactor())
    assert (record.outcome, record.reason, record.exit_code, record.output) == (outcome, reason, code, None)
    assert record.retry_after_seconds == (7.0 if reason is Reason.LLM_RATE_LIMITED else None)


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> absent.AbsentFinder:
    monkeypatch.setattr(absent, "STAND_INS", frozenset({"stand_in_module"}))
    monkeypatch.setattr(
        absent, "LEFT_OUT", {"stand_in_module": LeftOut("standin", "memory", "big"), "google.x": LeftOut("gx", "y")}
    )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    return absent.install()


def test_stand_ins_are_classes_while_crewai_is_imported_and_gone_afterwards(finder: absent.AbsentFinder) -> None:
    with finder.stand_ins():
        from stand_in_module.api.types import Documents  # type: ignore[import-not-found]
    assert isinstance(Documents, type)
    assert Documents[int] is Documents  # type: ignore[index]
    assert not [name for name in sys.modules if name.startswith("stand_in_module")]

    class Mine(Documents):  # type: ignore[misc]
        pass

    with pytest.raises(ModuleNotFoundError, match="leaves out standin, needed for memory"):
        Mine()


def test_what_is_left_out_fails_with_the_way_out(finder: absent.AbsentFinder) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no module 'stand_in_module'.*pod\.image .* tag ends in -big"):
        import stand_in_module  # type: ignore[import-not-found]  # noqa: F401
    assert absent.left_out("google.x.models") == "google.x"
    assert absent.left_out("google.protobuf") is None


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        ("OPENAI_BASE_URL", "https://me:pass-word@llm.example/v1", {"pass-word", "bWU6cGFzcy13b3Jk"}),
        ("OPENAI_BASE_URL", "https://llm.example/v1?api_key=query-key&x=1", {"query-key"}),
        ("OPENAI_BASE_URL", "https://llm.example/v1", set()),
        ("PROXY", "http://[broken:secret-1@x", set()),
        ("GREETING", "see http://a:b@c and more", set()),
        ("AUTHORIZATION", "Bearer behind-it", {"Bearer behind-it", "behind-it"}),
        ("X-API-KEY", "a-header", {"a-header"}),
        ("DB_PASSWORD", "postgres://u:in-side@h/db", {"postgres://u:in-side@h/db", "in-side", "dTppbi1zaWRl"}),
    ],
)
def test_a_password_in_an_address_or_behind_a_scheme_is_secret(name: str, value: str, want: set[str]) -> None:
    assert secret_values({name: value}, ()) == want
    assert values_in({name: value}) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("just-the-key\n", {"just-the-key\n"}),
        ('{"type": "account", "private_key": "p-k", "n": 1}', {"p-k"}),
        ("[default]\naws_secret_key = s-k\nregion = eu\n", {"s-k"}),
        ('apiToken: "t-k"\n', {"t-k"}),
        ("x" * 20_000 + "\nsecret_token=found\n", {"found"}),
    ],
)
def test_the_files_of_a_secret_are_read_for_what_they_hold(text: str, want: set[str]) -> None:
    found = values_in_file(text)
    assert want <= found
    assert (text in found) == (len(text) < 20_000)

"""From exceptions to reasons. The exceptions are fakes of the same shape: no SDK is needed here."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Reason
from crewrun_runner.exceptions import one_line, retry_after_seconds
from crewrun_runner.failures import Place, exit_code, loading, running
from crewrun_runner.refusal import Refusal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place("report", "Writer", "openai/gpt-4o", in_llm_call=True)
ELSEWHERE = Place("report", "Writer", "openai/gpt-4o", in_llm_call=False)


class Response:
    def __init__(self, status_code: int, headers: Mapping[str, str]) -> None:
        self.status_code = status_code
        self.headers = headers


def error(
    kind: str = "APIStatusError",
    text: str = "it failed",
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    module: str = "openai",
    **attributes: Any,
) -> Exception:
    """An exception of a class that is called `kind`, as an SDK would raise it."""
    made: Exception = type(kind, (Exception,), {"__module__": module})(text)
    if status:
        made.response = Response(status, headers or {})  # type: ignore[attr-defined]
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


TABLE: list[tuple[Exception, Reason, ExitCode]] = [
    (error(status=401), Reason.LLM_AUTHENTICATION, ExitCode.LLM_PERMANENT),
    (error(status=403), Reason.LLM_PERMISSION, ExitCode.LLM_PERMANENT),
    (error(status=400), Reason.LLM_BAD_REQUEST, ExitCode.LLM_PERMANENT),
    (error(status=422), Reason.LLM_BAD_REQUEST, ExitCode.LLM_PERMANENT),
    (error(status=400, code="context_length_exceeded"), Reason.LLM_CONTEXT_EXCEEDED, ExitCode.LLM_PERMANENT),
    (error(status=413), Reason.LLM_CONTEXT_EXCEEDED, ExitCode.LLM_PERMANENT),
    (error("LLMContextLengthExceededError"), Reason.LLM_CONTEXT_EXCEEDED, ExitCode.LLM_PERMANENT),
    (error(status=429), Reason.LLM_RATE_LIMITED, ExitCode.LLM_RETRYABLE),
    (error(status=429, code="insufficient_quota"), Reason.LLM_RATE_LIMITED, ExitCode.LLM_RETRYABLE),
    (error(status=408), Reason.LLM_TIMEOUT, ExitCode.LLM_RETRYABLE),
    (error(status=500), Reason.LLM_UNAVAILABLE, ExitCode.LLM_RETRYABLE),
    (error(status=504), Reason.LLM_TIMEOUT, ExitCode.LLM_RETRYABLE),
    (error(status=529), Reason.LLM_UNAVAILABLE, ExitCode.LLM_RETRYABLE),
    (caused(ValueError("no model"), error(status=404)), Reason.LLM_BAD_REQUEST, ExitCode.LLM_PERMANENT),
    (caused(ConnectionError("x"), error("APIConnectionError")), Reason.LLM_UNAVAILABLE, ExitCode.LLM_RETRYABLE),
    (caused(ConnectionError("x"), error("APITimeoutError")), Reason.LLM_TIMEOUT, ExitCode.LLM_RETRYABLE),
    (error("APIResponseValidationError"), Reason.LLM_UNAVAILABLE, ExitCode.LLM_RETRYABLE),
    (AttributeError("'str' object has no attribute 'choices'"), Reason.LLM_UNAVAILABLE, ExitCode.LLM_RETRYABLE),
    (ValueError("OPENAI_API_KEY is required"), Reason.LLM_AUTHENTICATION, ExitCode.LLM_PERMANENT),
    (error("ToolExecutionFailedError"), Reason.TOOL_FAILED, ExitCode.TASK_FAILED),
    (Exception("Task failed guardrail validation after 3 retries."), Reason.GUARDRAIL_FAILED, ExitCode.TASK_FAILED),
    (ValueError("Missing required template variable 'topic' in description"), Reason.INVALID_INPUTS, ExitCode.INVALID),
    (Refusal(Reason.INPUT_REQUIRED, "asks a person"), Reason.INPUT_REQUIRED, ExitCode.INVALID),
]  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "want", "want_code"), TABLE, ids=[f"{type(error).__name__}-{want}" for error, want, _ in TABLE]
)
def test_an_exception_has_a_reason_and_an_exit_code(failure: Exception, want: Reason, want_code: ExitCode) -> None:
    found = running(failure, PLACE, NOW)
    assert (found.reason, found.exit_code) == (want, want_code)


def test_an_exception_that_says_nothing_is_the_tasks_unless_an_llm_call_raised_it() -> None:
    assert running(RuntimeError("x"), ELSEWHERE, NOW).reason is Reason.TASK_FAILED
    assert running(RuntimeError("x"), PLACE, NOW).reason is Reason.LLM_UNAVAILABLE


def test_a_tools_own_http_error_is_not_the_providers() -> None:
    of_a_tool = error("HTTPError", status=403, module="requests.exceptions")
    assert running(of_a_tool, ELSEWHERE, NOW).reason is Reason.TASK_FAILED
    assert running(of_a_tool, PLACE, NOW).reason is Reason.LLM_PERMISSION


def test_a_message_names_where_what_and_the_next_step() -> None:
    failure = error("AuthenticationError", "Error code: 401 - {...}", 401, body={"error": {"message": "Bad key."}})
    assert running(failure, PLACE, NOW).message == (
        "task report, agent Writer, model openai/gpt-4o: 401 AuthenticationError: Bad key.; "
        "check the Secret that holds the provider's key"
    )


def test_a_broken_connection_says_what_broke_it() -> None:
    failure = caused(
        ConnectionError("Failed to connect: Connection error."),
        caused(error("APIConnectionError", "Connection error."), OSError("[Errno 111] Connection refused")),
    )
    assert "Connection error: [Errno 111] Connection refused" in running(failure, PLACE, NOW).message


def test_a_long_text_leaves_room_for_the_next_step() -> None:
    message = running(error(text="x" * 5000, status=401), PLACE, NOW).message
    assert len(message) < 900
    assert message.endswith("check the Secret that holds the provider's key")


def test_only_texts_without_prompts_and_answers_may_be_logged() -> None:
    assert running(error(status=401), PLACE, NOW).quotable
    assert not running(RuntimeError("the answer was ..."), ELSEWHERE, NOW).quotable


WAITS: list[tuple[dict[str, str], float | None]] = [
    ({"retry-after": "7"}, 7),
    ({"Retry-After": "1.5"}, 1.5),
    ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60),
    ({"retry-after": "Wed, 31 Dec 2025 00:00:00 GMT"}, 0),
    ({"retry-after": "-3"}, 0),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "inf"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "want"), WAITS, ids=str)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], want: float | None) -> None:
    failure = caused(ConnectionError("x"), error(status=429, headers=headers))
    assert retry_after_seconds(failure, NOW) == want
    assert running(failure, PLACE, NOW).retry_after_seconds == want


def test_a_missing_package_is_an_invalid_crew_with_the_way_out() -> None:
    failure = caused(ValueError("failed to load agent"), ModuleNotFoundError("no lancedb", name="lancedb.table"))
    found = loading(failure)
    assert found.reason is Reason.INVALID_CREW
    assert "leaves out lancedb" in found.message and "pod.image" in found.message


def test_crewais_advice_for_a_laptop_becomes_advice_for_an_image() -> None:
    found = loading(ImportError('not available, to install: uv add "crewai[anthropic]"'))
    assert (
        "the runner image leaves out crewai[anthropic]: name in pod.image the runner image with the extra anthropic"
        in found.message
    )


def test_every_reason_of_the_runner_has_an_exit_code_of_its_class() -> None:
    assert exit_code(Reason.COMPLETED) is ExitCode.SUCCEEDED
    assert exit_code(Reason.CANCELLED) is ExitCode.STOPPED
    assert exit_code(Reason.ATTEMPT_TIMED_OUT) is ExitCode.TASK_FAILED
    assert exit_code(Reason.RUNNER_CRASHED) is ExitCode.INTERNAL


def test_escapes_of_a_terminal_do_not_reach_a_message() -> None:
    assert one_line("\x1b[31mred\x1b[0m\n\tand\x00 more") == "[31mred [0m and more"

"""Each fault of a provider has its reason, and costs no more calls than llm.maxRetries allows."""

from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, crew, task

RETRYABLE, PERMANENT = ExitCode.LLM_RETRYABLE, ExitCode.LLM_PERMANENT

#: What was asked, and perhaps billed, without an answer that says so.
UNKNOWN = ("connectionReset", "timeout", "garbage", "html")

#: The fault, its reason and exit code, llm.maxRetries, and the HTTP calls that it costs.
FAULTS: list[tuple[dict[str, Any] | str, Reason, ExitCode, int, int]] = [
    ({"status": 401}, Reason.LLM_AUTHENTICATION, PERMANENT, 0, 1),
    ({"status": 401}, Reason.LLM_AUTHENTICATION, PERMANENT, 2, 1),
    ({"status": 403}, Reason.LLM_PERMISSION, PERMANENT, 2, 1),
    ({"status": 404}, Reason.LLM_BAD_REQUEST, PERMANENT, 2, 1),
    ({"status": 400}, Reason.LLM_BAD_REQUEST, PERMANENT, 2, 1),
    ("contextTooLong", Reason.LLM_CONTEXT_EXCEEDED, PERMANENT, 2, 2),  # CrewAI asks once for a summary
    ({"status": 429, "retryAfterSeconds": 0.2}, Reason.LLM_RATE_LIMITED, RETRYABLE, 0, 1),
    ({"status": 429, "retryAfterSeconds": 0.2}, Reason.LLM_RATE_LIMITED, RETRYABLE, 2, 3),
    ({"status": 500}, Reason.LLM_UNAVAILABLE, RETRYABLE, 0, 1),
    ({"status": 500}, Reason.LLM_UNAVAILABLE, RETRYABLE, 2, 3),
    ({"status": 503}, Reason.LLM_UNAVAILABLE, RETRYABLE, 0, 1),
    ("connectionReset", Reason.LLM_UNAVAILABLE, RETRYABLE, 0, 1),
    ("connectionReset", Reason.LLM_UNAVAILABLE, RETRYABLE, 2, 3),
    ({"kind": "timeout", "seconds": 20}, Reason.LLM_TIMEOUT, RETRYABLE, 0, 1),
    ({"kind": "timeout", "seconds": 20}, Reason.LLM_TIMEOUT, RETRYABLE, 2, 3),
    ("garbage", Reason.LLM_UNAVAILABLE, RETRYABLE, 2, 1),
    ("html", Reason.LLM_UNAVAILABLE, RETRYABLE, 2, 1),
    ("noChoices", Reason.LLM_UNAVAILABLE, RETRYABLE, 2, 1),
]


@pytest.mark.parametrize(("fault", "want", "want_code", "retries", "want_calls"), FAULTS, ids=str)
def test_a_fault_has_its_reason_and_few_calls(
    runner: Runner,
    llm: ThreadedLLM,
    fault: dict[str, Any] | str,
    want: Reason,
    want_code: ExitCode,
    retries: int,
    want_calls: int,
) -> None:
    llm.set_script({"default": {"fault": fault}})
    finished = runner.run(crew(), llm={"maxRetries": retries, "timeoutSeconds": 1})
    end = finished.end
    assert (end.outcome, end.reason, finished.exit_code) == (Outcome.FAILED, want, want_code), end.message
    assert llm.ledger.totals.calls == want_calls
    assert end.message.startswith("task report, agent Writer, model openai/gpt-4o: "), end.message
    assert [record.state for record in end.tasks] == [TaskState.FAILED]
    kind = fault if isinstance(fault, str) else fault.get("kind", "")
    assert end.usage.requests == (kind == "noChoices")  # nobody can use that answer, and it is billed
    assert end.usage.reserved_requests == (want_calls if kind in UNKNOWN else 0)
    assert end.usage.incomplete == (kind in UNKNOWN) == bool(end.usage.reserved_tokens)
    assert finished.lines[-1]["event"] == "run_failed"
    assert finished.lines[-1]["reason"] == want


def test_the_wait_that_a_provider_asks_for_reaches_the_record(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"fault": {"status": 429, "retryAfterSeconds": 7}}})
    assert runner.run(crew()).end.retry_after_seconds == 7


def test_a_refused_connection_is_an_unavailable_provider(runner: Runner) -> None:
    finished = runner.run(crew(), llm={"baseURL": "http://127.0.0.1:9/v1"})
    assert finished.end.reason is Reason.LLM_UNAVAILABLE, finished.end.message


def test_a_missing_key_is_an_authentication_failure_without_a_call(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), env={"OPENAI_API_KEY": ""})
    assert finished.end.reason is Reason.LLM_AUTHENTICATION, finished.end.message
    assert llm.ledger.totals.calls == 0


def test_the_first_failing_task_of_several_is_named(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [{"match": {"user": "Do report"}, "replies": [{"fault": {"status": 500}}]}]})
    end = runner.run(crew(task("facts", "researcher"), task("report"))).end
    assert end.message.startswith("task report, agent Writer, model openai/gpt-4o: 500 InternalServerError")
    assert (end.tasks_total, end.tasks_succeeded) == (2, 1)


def test_an_endpoint_that_fails_once_is_asked_again_within_one_attempt(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [{"replies": [{"fault": {"status": 500}, "repeat": 1}, {"text": "fine"}]}]})
    finished = runner.run(crew(), llm={"maxRetries": 1})
    assert finished.end.outcome is Outcome.SUCCEEDED
    assert (llm.ledger.totals.calls, finished.end.usage.requests) == (2, 1)

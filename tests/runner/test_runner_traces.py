"""The spans of an attempt, as an endpoint for OpenTelemetry gets them."""

from collections.abc import Iterator
from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome
from crewrun_runner import traces
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, RUN_UID, Runner, crew, task, wait_for
from tests.runner.otlp import Receiver, Span, tree

PROMPT, ANSWER, RESULT = "quokkas in spring", "an answer about wombats", "a result about bilbies"
DELEGATE = {
    "name": "delegate_work_to_coworker",
    "arguments": {"task": "look up numbats", "context": "for the report", "coworker": "Researcher"},
}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WATCH_IMPORTS = """
import os, sys
exit = os._exit
def tell(code):
    sys.stderr.write("IMPORTED %s\\n" % [name for name in sys.modules if name == "crewrun_runner.tracing"])
    sys.stderr.flush()
    exit(code)
os._exit = tell
import runpy
runpy.run_module("crewrun_runner", run_name="__main__")
"""


@pytest.fixture
def endpoint(runner: Runner) -> Iterator[Receiver]:
    with Receiver(runner._python) as receiver:
        yield receiver


def tracing(endpoint: Receiver, attempt: int = 1, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.endpoint, "CREWRUN_ATTEMPT": str(attempt), **more}


def a_crew_that_delegates() -> dict[str, Any]:
    definition = crew(task("facts", "researcher"), task("report"))
    writer = {**definition["agents"]["writer"], "allow_delegation": True}
    return {**definition, "agents": {**definition["agents"], "writer": writer}}


def paths(spans: list[Span]) -> list[str]:
    """From the run to each span, in the order of their starts."""
    by_id = {span.id: span for span in spans}

    def path(span: Span) -> str:
        return f"{path(by_id[span.parent])} > {span.name}" if span.parent in by_id else span.name

    return [path(span) for span in sorted(spans, key=lambda span: (span.start, path(span)))]


def test_run_attempt_task_agent_and_calls_are_spans_within_each_other(
    runner: Runner, llm: ThreadedLLM, endpoint: Receiver
) -> None:
    replies = [{"toolCalls": [DELEGATE], "repeat": 1}, {"text": f"{ANSWER} {KEY}"}]
    llm.set_script({"rules": [{"match": {"user": "Do report"}, "replies": replies}], "default": {"text": RESULT}})
    env = tracing(endpoint, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20otlp-canary-77")
    finished = runner.run(a_crew_that_delegates(), env=env, inputs={"topic": PROMPT}, verbose=True)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    spans = endpoint.spans
    writer = "run c > attempt > task report > invoke_agent Writer"
    tool = f"{writer} > execute_tool delegate_work_to_coworker"
    assert paths(spans) == [
        "run c",
        "run c > attempt",
        "run c > attempt > task facts",
        "run c > attempt > task facts > invoke_agent Researcher",
        "run c > attempt > task facts > invoke_agent Researcher > chat gpt-4o",
        "run c > attempt > task report",
        writer,
        f"{writer} > chat gpt-4o",
        tool,
        f"{tool} > invoke_agent Researcher",
        f"{tool} > invoke_agent Researcher > chat gpt-4o",
        f"{writer} > chat gpt-4o",
    ]
    assert len({span.trace for span in spans}) == 1
    assert not [span for span in spans if span.failed or span.end < span.start]
    want_resource = {
        "service.name": "crewrun-runner",
        "k8s.namespace.name": "team-a",
        "crewrun.run": "research-x7k2p",
        "crewrun.run.uid": RUN_UID,
        "crewrun.attempt": 1,
    }
    assert all(want_resource.items() <= span.resource.items() for span in spans)
    first = next(span for span in spans if span.name == "chat gpt-4o")
    assert first.kind == "CLIENT"
    assert first.attributes == {
        "crewrun.task": "facts",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.agent.name": "Researcher",
        "gen_ai.usage.input_tokens": llm.ledger.entries[0].tokens.prompt,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": llm.ledger.entries[0].tokens.completion,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.response.id": "chatcmpl-00000001",
        "gen_ai.response.finish_reasons": ["stop"],
    }
    (called,) = [span for span in spans if span.attributes.get("gen_ai.operation.name") == "execute_tool"]
    assert called.attributes["gen_ai.tool.name"] == "delegate_work_to_coworker"
    (attempt,) = [span for span in spans if span.name == "attempt"]
    assert (attempt.attributes["crewrun.outcome"], attempt.attributes["crewrun.reason"]) == ("Succeeded", "Completed")
    for text in (PROMPT, ANSWER, RESULT, "numbats", KEY):
        assert not [body for body in endpoint.bodies if text.encode() in body]
    assert endpoint.headers[0]["authorization"] == "Bearer otlp-canary-77"
    assert "otlp-canary-77" not in finished.everything


def test_parallel_tasks_keep_their_own_calls(runner: Runner, llm: ThreadedLLM, endpoint: Receiver) -> None:
    llm.set_script({"default": {"text": ANSWER, "delaySeconds": 0.2}})
    names = ["facts", "risks", "costs"]
    tasks = [task(name, "researcher", async_execution=True) for name in names]
    runner.run(crew(*tasks, task("report", context=names)), env=tracing(endpoint))
    spans = endpoint.spans
    for name in names:
        assert f"run c > attempt > task {name} > invoke_agent Researcher > chat gpt-4o" in paths(spans)
    by_id = {span.id: span for span in spans}
    for span in spans:
        if span.name == "chat gpt-4o":
            assert span.attributes["crewrun.task"] == by_id[by_id[span.parent].parent].attributes["crewrun.task"]


def test_a_call_that_fails_is_an_error_with_its_class_all_the_way_up(
    runner: Runner, llm: ThreadedLLM, endpoint: Receiver
) -> None:
    llm.set_script({"default": {"fault": {"status": 401, "echoKey": True}}})
    finished = runner.run(crew(), env=tracing(endpoint))
    assert finished.exit_code == ExitCode.LLM_PERMANENT
    spans = endpoint.spans
    assert {span.name: span.attributes.get("error.type") for span in spans if span.failed} == {
        "attempt": "LLMAuthentication",
        "task report": "AuthenticationError",
        "invoke_agent Writer": "AuthenticationError",
        "chat gpt-4o": "AuthenticationError",
    }
    assert len(spans) == 5
    assert not [body for body in endpoint.bodies if KEY.encode() in body]


@pytest.mark.parametrize(
    ("given", "attempt", "want_trace", "want_parents"),
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", 1, TRACE, {"run c": PARENT, "attempt": "run c"}, id="continued"),
        pytest.param(
            f"00-{TRACE}-{PARENT}-01", 2, TRACE, {"attempt": f"{traces.run_span_id(RUN_UID):016x}"}, id="second attempt"
        ),
        pytest.param(
            "",
            2,
            f"{traces.trace_id(RUN_UID):032x}",
            {"attempt": f"{traces.run_span_id(RUN_UID):016x}"},
            id="of its own",
        ),
        pytest.param(
            "00-nonsense", 1, f"{traces.trace_id(RUN_UID):032x}", {"run c": "", "attempt": "run c"}, id="not valid"
        ),
    ],
)
def test_the_attempts_of_a_run_are_in_one_trace(
    runner: Runner,
    llm: ThreadedLLM,
    endpoint: Receiver,
    given: str,
    attempt: int,
    want_trace: str,
    want_parents: dict[str, str],
) -> None:
    finished = runner.run(crew(), env=tracing(endpoint, attempt, TRACEPARENT=given))
    spans = endpoint.spans
    assert {span.trace for span in spans} == {want_trace}
    assert want_parents.items() <= tree(spans).items()
    assert ("run c" in tree(spans)) == (attempt == 1)
    complaints = [line for line in finished.lines if line["event"] == "traceparent_ignored"]
    assert len(complaints) == (given == "00-nonsense")


def test_a_parent_that_is_not_sampled_is_respected(runner: Runner, llm: ThreadedLLM, endpoint: Receiver) -> None:
    finished = runner.run(crew(), env=tracing(endpoint, TRACEPARENT=f"00-{TRACE}-{PARENT}-00"))
    assert finished.end.outcome is Outcome.SUCCEEDED
    assert not endpoint.bodies


def test_nothing_is_imported_when_there_is_no_endpoint(runner: Runner, llm: ThreadedLLM, endpoint: Receiver) -> None:
    finished = runner.run(crew(), arguments=("-c", WATCH_IMPORTS))
    assert finished.end.outcome is Outcome.SUCCEEDED
    assert "IMPORTED []" in finished.stderr


def test_another_protocol_is_refused_and_the_run_goes_on(runner: Runner, llm: ThreadedLLM, endpoint: Receiver) -> None:
    finished = runner.run(crew(), env=tracing(endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="grpc"))
    assert finished.end.outcome is Outcome.SUCCEEDED
    (line,) = [line for line in finished.lines if line["event"] == "traces_refused"]
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in line["message"]
    assert not endpoint.bodies


def test_an_endpoint_that_hangs_delays_neither_the_record_nor_the_end(
    runner: Runner, llm: ThreadedLLM, endpoint: Receiver
) -> None:
    endpoint.hold()
    running = runner.start(crew(), env=tracing(endpoint))
    wait_for(endpoint.asked.is_set)
    finished = running.finish()  # the endpoint has not answered yet
    assert (finished.exit_code, finished.end.outcome) == (0, Outcome.SUCCEEDED)
    assert [line["event"] for line in finished.lines][-2:] == ["run_completed", "traces_given_up"]


def test_a_stopped_attempt_closes_its_spans(runner: Runner, llm: ThreadedLLM, endpoint: Receiver) -> None:
    llm.set_script({"default": {"text": ANSWER, "delaySeconds": 30}})
    running = runner.start(crew(), env=tracing(endpoint), pod={"terminationGracePeriodSeconds": 1})
    wait_for(lambda: llm.ledger.totals.calls)
    running.stop()
    finished = running.finish()
    assert finished.end.outcome is Outcome.STOPPED
    spans = endpoint.spans
    assert paths(spans)[-1] == "run c > attempt > task report > invoke_agent Writer > chat gpt-4o"
    assert not [span for span in spans if span.failed]
    (attempt,) = [span for span in spans if span.name == "attempt"]
    assert attempt.attributes["crewrun.outcome"] == "Stopped"

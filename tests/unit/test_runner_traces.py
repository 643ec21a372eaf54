"""What spans are called and say."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from crewrun_api.traceparent import Traceparent, parse
from crewrun_runner import exporting, traces
from crewrun_runner.calls import Charge
from crewrun_runner.operations import Kind, Operation, Result
from crewrun_runner.payload import Execution
from crewrun_runner.tokens import Tokens

START = datetime(2026, 1, 1, tzinfo=UTC)
ME = Execution("team-a", "research", "0f3ab", 2, "pod-1")


def an_operation(kind: Kind, **fields: Any) -> Operation:
    return Operation(kind, "s", "k", START, task="report", **fields)


@pytest.mark.parametrize(
    ("operation", "want_name", "want_attributes"),
    [
        pytest.param(an_operation(Kind.TASK, agent="Writer"), "task report", {}, id="task"),
        pytest.param(
            an_operation(Kind.AGENT, agent="Writer"),
            "invoke_agent Writer",
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Writer"},
            id="agent",
        ),
        pytest.param(
            an_operation(Kind.LLM_CALL, model="bedrock/claude"),
            "chat claude",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "claude",
                "gen_ai.provider.name": "aws.bedrock",
            },
            id="a provider with another name",
        ),
        pytest.param(
            an_operation(Kind.LLM_CALL, model="gpt-4o"),
            "chat gpt-4o",
            {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"},
            id="a model without a provider",
        ),
        pytest.param(
            an_operation(Kind.TOOL, tool="search"),
            "execute_tool search",
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.tool.type": "function"},
            id="tool",
        ),
        pytest.param(an_operation(Kind.GUARDRAIL), "guardrail", {}, id="guardrail"),
    ],
)
def test_a_span_is_named_and_described_by_the_conventions(
    operation: Operation, want_name: str, want_attributes: dict[str, Any]
) -> None:
    assert traces.name(operation) == want_name
    assert traces.attributes(operation) == {"crewrun.task": "report", **want_attributes}


@pytest.mark.parametrize(
    ("result", "want_attributes"),
    [
        pytest.param({}, {}, id="completed"),
        pytest.param({"error": "TimeoutError"}, {"error.type": "TimeoutError"}, id="failed"),
        pytest.param({"error": "HookAborted", "prevented": True}, {"crewrun.prevented": True}, id="prevented"),
        pytest.param({"from_cache": True}, {"crewrun.tool.from_cache": True}, id="from the cache"),
        pytest.param(
            {"charges": (Charge("t", "m", Tokens(5, 3, 2, reasoning=1)),), "texts": {"answer": "x"}},
            {
                "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.cache_read.input_tokens": 3,
                "gen_ai.usage.output_tokens": 2,
                "gen_ai.usage.reasoning.output_tokens": 1,
            },
            id="tokens, and no text",
        ),
    ],
)
def test_the_end_of_a_span_says_how_it_went(result: dict[str, Any], want_attributes: dict[str, Any]) -> None:
    assert traces.outcome(Result(START, **result)) == want_attributes


def test_the_ids_of_a_run_are_its_own_and_valid() -> None:
    header = f"00-{traces.trace_id('u'):032x}-{traces.run_span_id('u'):016x}-01"
    assert parse(header) == Traceparent(traces.trace_id("u"), traces.run_span_id("u"), True)
    assert traces.trace_id("u") != traces.trace_id("v")


@pytest.mark.parametrize(
    ("environ", "want_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
    ],
)
def test_only_an_endpoint_turns_traces_on(environ: dict[str, str], want_wanted: bool) -> None:
    assert traces.wanted(environ) is want_wanted


def test_what_cannot_be_imported_is_told_and_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image of one's own without OpenTelemetry."""
    monkeypatch.setitem(sys.modules, "crewrun_runner.tracing", None)
    lines: list[tuple[str, dict[str, Any]]] = []
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    begun = exporting.begin(environ, ME, "c", str, lambda event, **fields: lines.append((event, fields)), START)
    assert begun is None
    ((event, fields),) = lines
    assert (event, fields["error"]) == ("traces_refused", "ModuleNotFoundError")

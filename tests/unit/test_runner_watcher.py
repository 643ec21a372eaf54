"""CrewAI's events as operations: what is within what, what ended, and how."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from crewrun_runner.calls import Charge
from crewrun_runner.ledger import Task
from crewrun_runner.operations import Kind, Operation, Result
from crewrun_runner.tokens import Tokens
from crewrun_runner.watcher import Watcher

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STOPPED = "the run ends"
CHARGE = Charge("t1", "openai/gpt-4o", Tokens(3, 0, 2), 7)


class Calls:
    """One LLM call that everything happens in."""

    def model_of(self, event: Any) -> str:
        return str(event.model)

    def charges(self) -> list[Charge]:
        return [CHARGE]

    def prevented(self, error: str) -> bool:
        return error.endswith(STOPPED)


class Seen:
    """Operations by the event that started them."""

    def __init__(self) -> None:
        self.started_ones: dict[str, Operation] = {}
        self.results: list[tuple[str, Result]] = []

    def started(self, operation: Operation) -> None:
        self.started_ones[operation.scope] = operation

    def ended(self, operation: Operation, result: Result) -> None:
        self.results.append((operation.scope, result))

    @property
    def parents(self) -> dict[str, str | None]:
        return {scope: operation.parent for scope, operation in self.started_ones.items()}

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(scope, result.error) for scope, result in self.results]


def an_event(kind: str, event_id: str = "", parent: str | None = None, ends: str | None = None, **more: Any) -> Any:
    common = {"type": kind, "event_id": event_id or f"{kind}-{ends}", "parent_event_id": parent}
    known = {"started_event_id": ends, "timestamp": NOW, "agent_role": "Writer", "task_id": "t1"}
    return SimpleNamespace(**{**common, **known, **more})


def a_call(kind: str, call: str, **more: Any) -> Any:
    return an_event(kind, call_id=call, model="gpt-4o", messages=[], response="text", **more)


def watched(*events: Any, raised: type[BaseException] | None = None, verbose: bool = False) -> Seen:
    seen = Seen()
    task = Task("t1", "report", "Writer")
    watcher = Watcher([seen], lambda event: event.task_id, {"t1": task}.get, Calls(), verbose)
    for event in events:
        watcher.see(event, raised)
    return seen


def test_scopes_between_operations_are_skipped() -> None:
    seen = watched(
        an_event("crew_kickoff_started", "crew"),
        an_event("task_started", "task", "crew"),
        an_event("agent_execution_started", "agent", "task"),
        an_event("flow_started", "flow", "agent"),
        a_call("llm_call_started", "c1", event_id="call", parent="flow"),
        an_event("tool_usage_started", "tool", "flow", tool_name="search", tool_args={}),
    )
    assert seen.parents == {"task": None, "agent": "task", "call": "agent", "tool": "agent"}
    assert {operation.task for operation in seen.started_ones.values()} == {"report"}


def test_an_event_from_a_thread_that_lost_its_place_belongs_to_its_task() -> None:
    seen = watched(an_event("task_started", "task"), a_call("llm_call_started", "c1", event_id="call"))
    assert seen.parents["call"] == "task"


def test_a_failed_call_that_is_told_of_twice_ends_once_and_takes_nothing_else_along() -> None:
    seen = watched(
        an_event("task_started", "task"),
        an_event("agent_execution_started", "agent", "task"),
        a_call("llm_call_started", "c1", event_id="call", parent="agent"),
        a_call("llm_call_failed", "c1", ends="call", error="no"),
        a_call("llm_call_failed", "c1", ends="agent", error="no"),
        an_event("agent_execution_error", ends="task", error="no", error_type=KeyError),
        an_event("task_failed", ends=None, error="no", error_type=ValueError),
        raised=TimeoutError,
    )
    assert seen.errors == [("call", "TimeoutError"), ("agent", "KeyError"), ("task", "ValueError")]


def test_tools_that_run_at_once_end_each_by_its_own_start() -> None:
    names = {"tool_name": "search", "tool_args": {}}
    seen = watched(
        an_event("tool_usage_started", "one", **names),
        an_event("tool_usage_started", "two", **names),
        an_event("tool_usage_finished", ends="one", output="", **names),
        an_event("tool_usage_error", ends="two", error=ValueError("x"), **names),
        an_event("tool_usage_error", ends="two", error=ValueError("x"), **names),
    )
    assert seen.errors == [("one", ""), ("two", "ValueError")]


@pytest.mark.parametrize(
    ("start", "end", "want_error"),
    [
        pytest.param(
            an_event("llm_guardrail_started", "s", guardrail="g"),
            an_event("llm_guardrail_completed", ends="s", success=True, error=None, result="r"),
            "",
            id="a guardrail accepts",
        ),
        pytest.param(
            an_event("llm_guardrail_started", "s", guardrail="g"),
            an_event("llm_guardrail_completed", ends="s", success=False, error="short", result=None),
            "Refused",
            id="a guardrail refuses",
        ),
        pytest.param(
            an_event("tool_usage_started", "s", tool_name="a", tool_args={}),
            an_event(
                "tool_usage_finished",
                ends="s",
                tool_name="a",
                output="",
                failure=SimpleNamespace(reason=SimpleNamespace(value="tool_reported")),
            ),
            "tool_reported",
            id="a tool says that it failed",
        ),
        pytest.param(
            an_event("memory_query_started", "s"),
            an_event("memory_query_failed", ends="s", error="gone"),
            "Error",
            id="no class is known",
        ),
        pytest.param(
            an_event("task_started", "s"),
            an_event("task_failed", ends="s", error="bad", error_type=KeyError),
            "KeyError",
            id="the event names the class",
        ),
    ],
)
def test_an_error_is_a_short_name(start: Any, end: Any, want_error: str) -> None:
    assert watched(start, end).errors == [("s", want_error)]


def test_what_the_runner_prevents_has_not_failed() -> None:
    start, end = an_event("task_started", "s"), an_event("task_failed", ends="s", error=STOPPED, error_type=OSError)
    ((_, result),) = watched(start, end).results
    assert result.prevented


def test_a_completed_call_has_its_tokens() -> None:
    seen = watched(
        a_call("llm_call_started", "c1", event_id="call"),
        a_call("llm_call_completed", "c1", ends="call", response_id="r-1", finish_reason="stop"),
    )
    ((_, result),) = seen.results
    assert (result.tokens, result.micro) == (CHARGE.tokens, 7)
    assert (result.response, result.finish_reason) == ("r-1", "stop")
    assert seen.started_ones["call"].kind is Kind.LLM_CALL


def test_texts_are_taken_from_events_only_when_it_is_verbose() -> None:
    messages = [
        {"role": r, "content": c} for r, c in (("system", "s"), ("assistant", "a"), ("tool", "t"), ("user", "u"))
    ]
    start = a_call("llm_call_started", "c1", event_id="call")
    start.messages = messages
    end = a_call("llm_call_completed", "c1", ends="call")
    for verbose, want_prompt, want_answer in ((True, "tool: t\nuser: u", "text"), (False, None, None)):
        seen = watched(start, end, verbose=verbose)
        assert seen.started_ones["call"].texts.get("prompt") == want_prompt
        assert seen.results[0][1].texts.get("answer") == want_answer


def test_an_observer_that_fails_does_not_reach_the_crew(capsys: pytest.CaptureFixture[str]) -> None:
    bus = SimpleNamespace(emit=lambda source, event: "future")
    Watcher([], lambda event: event.nothing, lambda _: None, Calls(), False).watch(bus)
    assert bus.emit(None, event=an_event("task_started", "s")) == "future"
    assert "AttributeError" in capsys.readouterr().err

"""CrewAI's events, in the order in which they happen, as operations for whoever wants to tell of them.

The bus gives events to handlers in a pool of threads, so that an end may come before its start, and the exception
behind a failure is out of sight. So the bus's `emit` is wrapped: each event is read in the thread that it happens
in, after CrewAI has put it in its place and before its handlers have run.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from crewrun_runner.calls import Charge
from crewrun_runner.ledger import Task
from crewrun_runner.operations import Kind, Operation, Operations, Result

_STARTS: Mapping[str, Kind] = {
    "task_started": Kind.TASK,
    "agent_execution_started": Kind.AGENT,
    "lite_agent_execution_started": Kind.AGENT,
    "llm_call_started": Kind.LLM_CALL,
    "tool_usage_started": Kind.TOOL,
    "llm_guardrail_started": Kind.GUARDRAIL,
    "memory_query_started": Kind.MEMORY_SEARCH,
    "memory_save_started": Kind.MEMORY_SAVE,
    "knowledge_search_query_started": Kind.KNOWLEDGE_SEARCH,
}
_ENDS: Mapping[str, Kind] = {
    "task_completed": Kind.TASK,
    "task_failed": Kind.TASK,
    "agent_execution_completed": Kind.AGENT,
    "agent_execution_error": Kind.AGENT,
    "lite_agent_execution_completed": Kind.AGENT,
    "lite_agent_execution_error": Kind.AGENT,
    "llm_call_completed": Kind.LLM_CALL,
    "llm_call_failed": Kind.LLM_CALL,
    "tool_usage_finished": Kind.TOOL,
    "tool_usage_error": Kind.TOOL,
    "llm_guardrail_completed": Kind.GUARDRAIL,
    "memory_query_completed": Kind.MEMORY_SEARCH,
    "memory_query_failed": Kind.MEMORY_SEARCH,
    "memory_save_completed": Kind.MEMORY_SAVE,
    "memory_save_failed": Kind.MEMORY_SAVE,
    "knowledge_search_query_completed": Kind.KNOWLEDGE_SEARCH,
    "knowledge_search_query_failed": Kind.KNOWLEDGE_SEARCH,
}
#: When no exception is at hand.
_UNNAMED = "Error"


class Observer(Protocol):
    """Called in the crew's own threads: quick, and never blocking."""

    def started(self, operation: Operation) -> None: ...

    def ended(self, operation: Operation, result: Result) -> None: ...


class Asked(Protocol):
    """What is known of the LLM call that an event happens in."""

    def model_of(self, event: Any) -> str: ...

    def charges(self) -> Sequence[Charge]: ...

    def prevented(self, error: str) -> bool: ...


class Watcher:
    """`task_of` gives the key of the crew's task that an event belongs to, and `find` that task. Texts are taken from
    events when it is verbose, and otherwise nobody gets to see one."""

    def __init__(
        self,
        observers: Sequence[Observer],
        task_of: Callable[[Any], str],
        find: Callable[[str], Task | None],
        calls: Asked,
        verbose: bool,
    ) -> None:
        self._observers = observers
        self._task_of = task_of
        self._find = find
        self._calls = calls
        self._verbose = verbose
        self._operations = Operations()

    def watch(self, bus: Any) -> Callable[[], None]:
        """From now on, until what is returned is called."""
        emit = bus.emit

        def watched(source: Any, event: Any) -> Any:
            future = emit(source, event)
            try:
                self.see(event, sys.exc_info()[0])
            except Exception:  # telling of the crew must not disturb it
                traceback.print_exc()
            return future

        def stop() -> None:
            bus.emit = emit

        bus.emit = watched
        return stop

    def see(self, event: Any, raised: type[BaseException] | None) -> None:
        """One event, and the exception that is being handled where it happens."""
        if event.type.endswith("_started"):
            self._operations.entered(event.event_id, event.parent_event_id)
        if kind := _STARTS.get(event.type):
            operation = self._operations.begin(self._operation(kind, event), self._task_of(event))
            for observer in self._observers:
                observer.started(operation)
        elif (kind := _ENDS.get(event.type)) and (ended := self._ended(kind, event)):
            result = self._result(kind, event, raised)
            for observer in self._observers:
                observer.ended(ended, result)

    def _ended(self, kind: Kind, event: Any) -> Operation | None:
        return self._operations.end(kind, event.started_event_id, self._key(kind, event))

    def _operation(self, kind: Kind, event: Any) -> Operation:
        task = self._find(self._task_of(event))
        return Operation(
            kind=kind,
            scope=event.event_id,
            key=self._key(kind, event),
            start=event.timestamp,
            task=task.name if task else "",
            agent=_role(event) or (task.agent if task else ""),
            model=self._calls.model_of(event) if kind is Kind.LLM_CALL else "",
            tool=getattr(event, "tool_name", ""),
            texts=_asked(kind, event) if self._verbose else {},
        )

    def _key(self, kind: Kind, event: Any) -> str:
        if kind is Kind.TASK:
            return str(event.task_id)
        if kind is Kind.LLM_CALL:
            return str(event.call_id)
        return f"{self._task_of(event)} {_role(event)} {getattr(event, 'tool_name', '')}"

    def _result(self, kind: Kind, event: Any, raised: type[BaseException] | None) -> Result:
        error = _error(event, raised)
        return Result(
            end=event.timestamp,
            error=error,
            prevented=bool(error) and self._calls.prevented(str(getattr(event, "error", ""))),
            charges=tuple(self._calls.charges()) if kind is Kind.LLM_CALL else (),
            from_cache=bool(getattr(event, "from_cache", False)),
            response=getattr(event, "response_id", None) or "",
            finish_reason=getattr(event, "finish_reason", None) or "",
            texts=_answered(kind, event) if self._verbose else {},
        )


def _role(event: Any) -> str:
    """The role of the agent that does it. Events of agents leave it to the agent, and those of a task to the task."""
    agent = getattr(event, "agent", None) or getattr(getattr(event, "task", None), "agent", None)
    information = getattr(event, "agent_info", None) or {}
    return str(event.agent_role or getattr(agent, "role", None) or information.get("role") or "")


def _error(event: Any, raised: type[BaseException] | None) -> str:
    """The class of the error. CrewAI passes its text on, which may quote a prompt."""
    if event.type == "llm_guardrail_completed":
        return "" if event.success else "Refused"
    if failure := getattr(event, "failure", None):
        return str(failure.reason.value)
    if not event.type.endswith(("_failed", "_error")):
        return ""
    kind = getattr(event, "error_type", None) or raised
    if kind is None and isinstance(getattr(event, "error", None), BaseException):
        kind = type(event.error)
    return kind.__name__ if kind else _UNNAMED


def _asked(kind: Kind, event: Any) -> dict[str, str]:
    if kind is Kind.LLM_CALL:
        return {"prompt": _new_messages(event.messages)}
    if kind is Kind.TOOL:
        return {"arguments": str(event.tool_args)}
    return {"prompt": str(event.guardrail)} if kind is Kind.GUARDRAIL else {}


def _answered(kind: Kind, event: Any) -> dict[str, str]:
    if kind is Kind.LLM_CALL:
        return {"answer": str(getattr(event, "response", ""))}
    if kind is Kind.TOOL:
        return {"result": str(getattr(event, "output", getattr(event, "error", "")))}
    if kind is Kind.GUARDRAIL:
        return {"answer": str(event.error or event.result)}
    return {}


def _new_messages(messages: Any) -> str:
    """What was said since the model's last answer: the rest has been in the lines before."""
    if not isinstance(messages, list):
        return str(messages or "")
    new: list[str] = []
    for message in reversed(messages):
        if message.get("role") == "assistant":
            break
        new.append(f"{message.get('role')}: {message.get('content')}")
    return "\n".join(reversed(new))

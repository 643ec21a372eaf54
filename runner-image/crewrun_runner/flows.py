"""A Flow where the runner drives a crew: nobody knows its tasks before they begin, and it has no resume."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from crewai.flow.flow_config import flow_config
from crewai.flow.runtime import Flow
from crewai.task import Task

from crewrun_api.reasons import Reason
from crewrun_runner import ledger
from crewrun_runner.ledger import Ledger
from crewrun_runner.refusal import Refusal

#: What CrewAI calls for a task, whoever executes it and however.
_CORES = ("_execute_core", "_aexecute_core")


class FlowAsCrew:
    """What `LoadedCrew` needs of a crew: its tasks so far, and a kickoff."""

    def __init__(self, flow: Any, seen: Ledger) -> None:
        self._flow = flow
        self._ledger = seen
        self._lock = threading.Lock()
        self.tasks: list[Any] = []
        self.agents: list[Any] = []
        flow.stream = False  # nobody reads the pieces
        _nobody_to_ask()
        for core in _CORES:
            setattr(Task, core, _told(getattr(Task, core), self._begins))

    def kickoff(self, inputs: dict[str, Any]) -> Any:
        try:
            return self._flow.kickoff(inputs=inputs or None)
        except ValueError as error:
            if str(error).startswith("Invalid inputs for structured state"):
                raise Refusal(Reason.INVALID_INPUTS, f"the inputs do not fit the Flow's state: {error}") from error
            raise

    def _begins(self, task: Any, agent: Any) -> None:
        """A task of one of its crews: it is in the ledger before its first event."""
        with self._lock:
            if not any(task is known for known in self.tasks):
                self.tasks.append(task)
                role = agent.role if agent is not None else ""
                self._ledger.discover(ledger.Task(str(task.id), task.name or f"task-{len(self.tasks)}", role))


def _told(core: Callable[..., Any], begins: Callable[[Any, Any], None]) -> Callable[..., Any]:
    @wraps(core)
    def execute(task: Any, agent: Any, *args: Any, **kwargs: Any) -> Any:
        begins(task, agent or task.agent)
        return core(task, agent, *args, **kwargs)

    return execute


def _nobody_to_ask() -> None:
    """A Flow that would read from a terminal ends at its first question. One with a provider of its own may ask."""
    resolve = Flow._resolve_input_provider

    @wraps(resolve)
    def resolve_input_provider(flow: Any) -> Any:
        if flow.input_provider is None and flow_config.input_provider is None:
            raise _refusal("ask()")
        return resolve(flow)

    def request_human_feedback(*_: Any, **__: Any) -> Any:
        raise _refusal("@human_feedback")

    Flow._resolve_input_provider = resolve_input_provider
    Flow._request_human_feedback = wraps(Flow._request_human_feedback)(request_human_feedback)


def _refusal(what: str) -> Refusal:
    text = f"the Flow uses {what} without a provider: it asks a person at a terminal, and nobody is there; remove it"
    return Refusal(Reason.INPUT_REQUIRED, text)

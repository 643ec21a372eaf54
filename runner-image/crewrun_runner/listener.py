"""From CrewAI's events to the ledger."""

from collections.abc import Callable
from typing import Any

from crewai.context import get_current_task_id
from crewai.events.types.task_events import TaskCompletedEvent, TaskFailedEvent, TaskStartedEvent
from crewai.hooks.dispatch import HookAborted

from crewrun_runner.ledger import Ledger
from crewrun_runner.models import STOPPED


class Listener:
    """Handlers run in a pool of threads, each in a copy of the context that emitted the event."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._handlers: list[tuple[Any, Callable[[Any, Any], None]]] = [
            (TaskStartedEvent, self._task_started),
            (TaskCompletedEvent, self._task_completed),
            (TaskFailedEvent, self._task_failed),
        ]

    def register(self, bus: Any) -> None:
        for event, handler in self._handlers:
            bus.register_handler(event, handler)

    def unregister(self, bus: Any) -> None:
        for event, handler in self._handlers:
            bus.off(event, handler)

    def _task_started(self, _: Any, event: Any) -> None:
        agent = event.task.agent if event.task is not None else None
        self._ledger.task_started(str(event.task_id), agent.role if agent else "", event.timestamp)

    def _task_completed(self, _: Any, event: Any) -> None:
        self._ledger.task_ended(str(event.task_id), event.timestamp, answer=str(event.output.raw))

    def _task_failed(self, _: Any, event: Any) -> None:
        if (event.error_type, event.error) == (HookAborted, STOPPED):
            return  # we prevented its next call: it has no result, and has not failed
        self._ledger.task_ended(str(event.task_id), event.timestamp, error=event.error)


def task_of(event: Any) -> str:
    """The crew's task that the call belongs to. A delegated piece of work is a task of its own to CrewAI, and
    only the context knows for which of the crew's tasks it is done."""
    return str(get_current_task_id() or event.task_id or "")

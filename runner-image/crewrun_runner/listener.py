"""From CrewAI's events to the ledger and the log. Never a prompt, never an answer, in a log line."""

import time
from typing import Any

from crewai.context import get_current_task_id
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallFailedEvent, LLMCallStartedEvent
from crewai.events.types.task_events import TaskCompletedEvent, TaskFailedEvent, TaskStartedEvent
from crewai.hooks.dispatch import HookAborted

from crewrun_runner.ledger import Ledger
from crewrun_runner.models import STOPPED
from crewrun_runner.settings import Prepared
from crewrun_runner.streams import Log, timestamp
from crewrun_runner.tokens import Tokens


class Listener:
    """Handlers run in a pool of threads, each in a copy of the context that emitted the event."""

    def __init__(self, ledger: Ledger, prepared: Prepared, log: Log) -> None:
        self._ledger = ledger
        self._named = prepared.named
        self._log = log
        self._began: dict[str, float] = {}
        self._failed: set[str] = set()

    def register(self, bus: Any) -> None:
        for event, handler in (
            (TaskStartedEvent, self._task_started),
            (TaskCompletedEvent, self._task_completed),
            (TaskFailedEvent, self._task_failed),
            (LLMCallStartedEvent, self._call_started),
            (LLMCallCompletedEvent, self._call_completed),
            (LLMCallFailedEvent, self._call_failed),
        ):
            bus.register_handler(event, handler)

    def _task_started(self, _: Any, event: Any) -> None:
        agent = event.task.agent if event.task is not None else None
        self._ledger.task_started(str(event.task_id), agent.role if agent else "", event.timestamp)
        self._task_line("task_started", event)

    def _task_completed(self, _: Any, event: Any) -> None:
        self._ledger.task_ended(str(event.task_id), event.timestamp, answer=str(event.output.raw))
        self._task_line("task_completed", event)

    def _task_failed(self, _: Any, event: Any) -> None:
        if (event.error_type, event.error) == (HookAborted, STOPPED):
            return  # we prevented its next call: it has no result, and has not failed
        self._ledger.task_ended(str(event.task_id), event.timestamp, error=event.error)
        error = event.error_type.__name__ if event.error_type else None
        self._task_line("task_failed", event, level="error", error=error)

    def _task_line(self, name: str, event: Any, level: str = "info", **fields: Any) -> None:
        if task := self._ledger.find(str(event.task_id)):
            if task.start and task.end:
                fields["durationSeconds"] = round((task.end - task.start).total_seconds(), 3)
            ts = timestamp(event.timestamp)
            self._log(name, level=level, ts=ts, task=task.name, agent=task.agent, **fields)

    def _call_started(self, _: Any, event: Any) -> None:
        self._began[event.call_id] = time.monotonic()

    def _call_completed(self, _: Any, event: Any) -> None:
        tokens = Tokens.of(event.usage or {})
        self._call_line(
            "llm_call_completed",
            event,
            promptTokens=tokens.prompt,
            cachedPromptTokens=tokens.cached,
            completionTokens=tokens.completion,
            totalTokens=tokens.total,
        )

    def _call_failed(self, _: Any, event: Any) -> None:
        if self._ledger.closed:
            return  # prevented
        if event.call_id not in self._failed:  # CrewAI tells of one failed call twice
            self._failed.add(event.call_id)
            self._call_line("llm_call_failed", event, level="warning")

    def _call_line(self, name: str, event: Any, level: str = "info", **fields: Any) -> None:
        if began := self._began.get(event.call_id):
            fields["durationSeconds"] = round(time.monotonic() - began, 3)
        task = self._ledger.find(_task_of(event))
        self._log(
            name,
            level=level,
            ts=timestamp(event.timestamp),
            task=task.name if task else None,
            agent=event.agent_role or (task.agent if task else None),
            model=self._named(event.model or ""),
            **fields,
        )


def _task_of(event: Any) -> str:
    """The crew's task that the call belongs to. A delegated piece of work is a task of its own to CrewAI, and
    only the context knows for which of the crew's tasks it is done."""
    return str(get_current_task_id() or event.task_id or "")

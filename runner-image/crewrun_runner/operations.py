"""What CrewAI does, as operations with a start, an end and a place in each other: a task, an agent at work on it, an
LLM call, a tool. Purely computational; events come in, one operation goes out when it starts and one when it ends.

CrewAI's events say which event they happen within, but name many more scopes than are told of here, and after a
failed call, which it tells of twice, they name the wrong one. So every scope is remembered, an end must be of the
kind of its start, and what has no place belongs to its task.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from crewrun_runner.calls import Charge
from crewrun_runner.tokens import Tokens


class Kind(StrEnum):
    """Each is the beginning of the names of its log events."""

    TASK = "task"
    AGENT = "agent"
    LLM_CALL = "llm_call"
    TOOL = "tool"
    GUARDRAIL = "guardrail"
    MEMORY_SEARCH = "memory_search"
    MEMORY_SAVE = "memory_save"
    KNOWLEDGE_SEARCH = "knowledge_search"


@dataclass(frozen=True)
class Operation:
    """One that has started. `scope` is the event that started it; `key` finds it when that is not known."""

    kind: Kind
    scope: str
    key: str
    start: datetime
    parent: str | None = None  # the scope of the operation that it is a part of
    task: str = ""
    agent: str = ""
    model: str = ""
    tool: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)  # only when the run is verbose


@dataclass(frozen=True)
class Result:
    """How one ended. `error` is a class, a status or another short name, and empty when all went well."""

    end: datetime
    error: str = ""
    prevented: bool = False  # by the runner, because the run ends: it has no result, and has not failed
    charges: tuple[Charge, ...] = ()  # what was answered for it, and what that cost
    from_cache: bool = False
    response: str = ""  # the provider's id of its answer
    finish_reason: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def tokens(self) -> Tokens | None:
        return sum((charge.tokens for charge in self.charges), Tokens()) if self.charges else None

    @property
    def micro(self) -> int | None:
        """What it cost in micro-USD, as far as prices are known; None when none is."""
        known = [charge.micro for charge in self.charges if charge.micro is not None]
        return sum(known) if known else None


class Operations:
    """Those that are open. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within: dict[str, str | None] = {}
        self._open: dict[str, Operation] = {}
        self._tasks: dict[str, str] = {}

    def entered(self, scope: str, within: str | None) -> None:
        """Some scope began, of an operation or not."""
        with self._lock:
            self._within[scope] = within

    def begin(self, operation: Operation, task_key: str) -> Operation:
        """The operation in its place. `task_key` names the task that it belongs to."""
        with self._lock:
            parent = self._around(operation.scope) or self._tasks.get(task_key)
            placed = replace(operation, parent=parent)
            self._open[operation.scope] = placed
            if operation.kind is Kind.TASK:
                self._tasks[task_key] = operation.scope
            return placed

    def end(self, kind: Kind, scope: str | None, key: str) -> Operation | None:
        """The operation that has ended; None when it ended before, or nobody saw it start."""
        with self._lock:
            found = self._open.get(scope or "")
            if found is None or (found.kind, found.key) != (kind, key):
                alike = (each for each in reversed(self._open.values()) if (each.kind, each.key) == (kind, key))
                found = next(alike, None)
            if found is not None:
                del self._open[found.scope]
            return found

    def _around(self, scope: str) -> str | None:
        """The innermost open operation that the scope is within."""
        outer = self._within.get(scope)
        while outer is not None and outer not in self._open:
            outer = self._within.get(outer)
        return outer

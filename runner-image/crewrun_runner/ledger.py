"""What happened, folded from events into tasks and usage. Purely computational, and safe to share by threads.

CrewAI calls handlers in a pool of threads, so events arrive in any order: every fold here comes out the same
whatever the order. A provider's answer counts once, in the thread that has received it. Before a request is made,
what it can use at the most is reserved, under the one lock that guards the budget too.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crewrun_api.outcome import TaskRecord, Usage, preview
from crewrun_api.reasons import Reason, TaskState
from crewrun_runner.budget import Caps, Need, No, answer_that_fits, exceeded
from crewrun_runner.calls import Calls, Charge
from crewrun_runner.pacer import Pacer
from crewrun_runner.streams import timestamp


class Stopping(Exception):
    """The run ends: the LLM request that was about to be made must not."""


class BudgetExceeded(Exception):
    """An LLM request does not fit what the run may spend; the text says which limit."""


@dataclass(frozen=True)
class Ticket:
    """A reservation. `answer` is how long the answer may be, tokens, and `less` whether the request wanted more."""

    number: int
    task: str
    model: str
    answer: int
    less: bool = False


@dataclass
class Task:
    """One task of the crew. `key` is CrewAI's id of it."""

    key: str
    name: str
    agent: str = ""
    start: datetime | None = None
    end: datetime | None = None
    failed: bool = False
    error: str = ""
    answer: str = ""
    failing_model: str = ""
    llm_errors: set[str] = field(default_factory=set)
    #: What an earlier attempt's checkpoint says of it, if that attempt finished it.
    restored: TaskRecord | None = None

    @property
    def state(self) -> TaskState:
        if self.end is None:
            return TaskState.PENDING if self.start is None else TaskState.RUNNING
        return TaskState.FAILED if self.failed else TaskState.SUCCEEDED


class Ledger:
    """The record's tasks and usage, as far as they are known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._tasks: dict[str, Task] = {}
        self._calls = Calls()
        self._closed = False
        #: What the run may spend.
        self.caps = Caps()
        #: How fast.
        self.pacer = Pacer()
        #: Which model was asked in the place of which, and why the first time.
        self.failovers: dict[tuple[str, str], Reason] = {}
        #: Why the budget ends the run, once it does.
        self.budget_exceeded = ""
        #: Called after each change, with whether a task ended.
        self.changed: Callable[[bool], None] = lambda _: None
        #: Why a checkpoint that was there was not used.
        self.checkpoint_refused = ""
        #: What somebody should look at while the crew goes on.
        self.warning = ""

    def expect(self, tasks: Iterable[Task]) -> None:
        """The crew's tasks, in their order."""
        with self._lock:
            self._tasks = {task.key: task for task in tasks}

    def discover(self, task: Task) -> None:
        """A task that nobody expected: of a crew that a Flow has made."""
        with self._lock:
            self._tasks.setdefault(task.key, task)

    def restore(self, records: Mapping[str, TaskRecord]) -> None:
        """Tasks that an earlier attempt finished: nothing that happens now changes what is said of them."""
        with self._lock:
            for key, record in records.items():
                self._tasks[key].restored = record

    def task_started(self, key: str, agent: str, moment: datetime) -> None:
        with self._lock:
            if task := self._tasks.get(key):
                task.agent = agent or task.agent
                task.start = moment if task.start is None else min(task.start, moment)
        self.changed(False)

    def task_ended(self, key: str, moment: datetime, answer: str = "", error: str | None = None) -> None:
        with self._lock:
            if task := self._tasks.get(key):
                task.end, task.failed = moment, error is not None
                task.answer, task.error = answer, error or ""
        self.changed(True)

    def reserve(self, task: str, model: str, need: Need) -> Ticket:
        """A request is about to be made. Waits while others hold what it needs. Raises Stopping, or BudgetExceeded
        when it cannot fit. Who reserves tells others."""
        with self._freed:
            while True:
                if self._closed:
                    raise Stopping
                answer = answer_that_fits(self.caps, self._calls.spent, self._calls.held, need)
                if answer is No.NEVER:
                    raise BudgetExceeded(self._exceed(need))
                if not isinstance(answer, No):
                    return Ticket(self._calls.reserve(need, answer), task, model, answer, answer < need.answer)
                self._freed.wait()

    def release(self, ticket: Ticket) -> None:
        """The request was not made, or nobody bills it."""
        with self._freed:
            self._calls.release(ticket.number)
            self.pacer.settle(ticket.number, 0)
            self._freed.notify_all()
        self.changed(False)

    def settle(self, ticket: Ticket, charge: Charge) -> None:
        """The request was answered."""
        with self._freed:
            self._calls.settle(ticket.number, charge)
            self.pacer.settle(ticket.number, charge.tokens.total)
            self._freed.notify_all()
        self.changed(False)

    def lose(self, ticket: Ticket) -> None:
        """The request was made, and what it used is not known."""
        with self._freed:
            self._calls.lose(ticket.number)
            self.pacer.settle(ticket.number, None)
            self._freed.notify_all()
        self.changed(False)

    def cut(self, ticket: Ticket) -> None:
        """An answer ended at the limit that the budget set for it: nobody can use it."""
        with self._freed:
            self._exceed(None, ticket.answer)

    @property
    def closed(self) -> bool:
        """Whether no request is made any more."""
        with self._lock:
            return self._closed

    def failed_over(self, model: str, other: str, reason: Reason) -> None:
        """Another model is asked in the place of one that failed."""
        with self._lock:
            self.failovers.setdefault((model, other), reason)

    def close(self) -> None:
        """No request is made any more."""
        with self._freed:
            self._closed = True
            self.pacer.close()
            self._freed.notify_all()

    def warn(self, text: str) -> None:
        """Something that the crew survives, so far."""
        self.warning = text
        self.changed(True)

    def call_failed(self, key: str, model: str, error: str) -> None:
        """A model was asked for a task, and gave no answer that could be used."""
        with self._lock:
            if task := self._tasks.get(key):
                task.failing_model = model
                task.llm_errors.add(error)

    @property
    def calls_in_flight(self) -> int:
        with self._lock:
            return self._calls.in_flight

    @property
    def resumed_from(self) -> Task | None:
        """The first task that no earlier attempt finished, if one finished any."""
        with self._lock:
            tasks = list(self._tasks.values())
        if not any(task.restored for task in tasks):
            return None
        return next((task for task in tasks if task.restored is None), None)

    def find(self, key: str) -> Task | None:
        with self._lock:
            return self._tasks.get(key)

    def culprit(self, error: str) -> Task | None:
        """The task whose failure is this error; without one, the first that failed."""
        with self._lock:
            failed = sorted(
                (task for task in self._tasks.values() if task.failed and task.end),
                key=lambda task: (task.error != error, task.end),
            )
        return failed[0] if failed else None

    def usage(self) -> Usage:
        """What this attempt's calls used."""
        with self._lock:
            return self._calls.usage()

    def tasks(self, redact: Callable[[str], str], ended: bool) -> list[TaskRecord]:
        """The crew's tasks, in their order. A task that is running when all ends is pending: it has no
        result, and whoever goes on has to do it again."""
        with self._lock:
            return [self._record(task, redact, ended) for task in self._tasks.values()]

    def _record(self, task: Task, redact: Callable[[str], str], ended: bool) -> TaskRecord:
        if task.restored is not None:
            return task.restored
        return TaskRecord(
            name=redact(task.name),
            agent=redact(task.agent),
            state=TaskState.PENDING if ended and task.state is TaskState.RUNNING else task.state,
            start_time=timestamp(task.start) if task.start else None,
            completion_time=timestamp(task.end) if task.end else None,
            preview=preview(redact(task.answer)),
            **self._figures(task.key),
        )

    def _figures(self, key: str) -> dict[str, Any]:
        figures = self._calls.of_task(key)
        return {
            "total_tokens": figures.tokens,
            "cost_usd": figures.micro,
            "unpriced_requests": figures.unpriced,
            "models": figures.models,
        }

    def _exceed(self, need: Need | None, cut_at: int = 0) -> str:
        """The first to find it says why; nobody who comes later spends anything."""
        self._closed = True
        self.pacer.close()
        self.budget_exceeded = self.budget_exceeded or exceeded(self.caps, self._calls.spent, need, cut_at)
        self._freed.notify_all()
        return self.budget_exceeded

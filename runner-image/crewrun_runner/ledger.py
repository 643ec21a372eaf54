"""What happened, folded from events into tasks and usage. Purely computational, and safe to share by threads.

CrewAI calls handlers in a pool of threads, so events arrive in any order: every fold here comes out the same
whatever the order. A provider's answer counts once, by the event that says that its call completed. Before a
call begins, what it can cost at the most is reserved; its first event that says it ended drops that.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from crewrun_api.outcome import TaskRecord, Usage, preview
from crewrun_api.reasons import TaskState
from crewrun_runner.calls import Calls, Tokens
from crewrun_runner.streams import timestamp


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
        self._tasks: dict[str, Task] = {}
        self._calls = Calls()
        #: Called after each change, with whether a task ended.
        self.changed: Callable[[bool], None] = lambda _: None
        #: Why a checkpoint that was there was not used.
        self.checkpoint_refused = ""

    def expect(self, tasks: Iterable[Task]) -> None:
        """The crew's tasks, in their order."""
        with self._lock:
            self._tasks = {task.key: task for task in tasks}

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
            self._calls.release_all(key)
        self.changed(True)

    def reserve(self, key: str, tokens: int) -> None:
        """A call is about to begin that can use so many tokens at the most. Who reserves tells others."""
        with self._lock:
            self._calls.reserve(key, tokens)

    def release(self, key: str) -> None:
        """The call that was about to begin does not."""
        with self._lock:
            self._calls.release(key)
        self.changed(False)

    def call_started(self, call: str) -> None:
        with self._lock:
            self._calls.started(call)

    def call_completed(self, event: str, call: str, key: str, model: str, tokens: Tokens) -> None:
        with self._lock:
            self._calls.completed(event, call, key, model, tokens)
        self.changed(False)

    def call_failed(self, call: str, key: str, model: str, error: str) -> None:
        with self._lock:
            self._calls.closed(call, key)
            if task := self._tasks.get(key):
                task.failing_model = model
                task.llm_errors.add(error)
        self.changed(False)

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
            total_tokens=self._calls.of_task(task.key).total,
            preview=preview(redact(task.answer)),
        )

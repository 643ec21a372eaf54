"""What happened, folded from events into tasks and usage. Purely computational, and safe to share by threads.

CrewAI calls handlers in a pool of threads, so events arrive in any order: every fold here comes out the same
whatever the order. A provider's answer counts once, by the event that says that its call completed.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from crewrun_api.outcome import ModelUsage, TaskRecord, Usage, preview
from crewrun_api.reasons import TaskState
from crewrun_runner.streams import timestamp

#: No answer has so many: an endpoint that reports nonsense must not spoil the record.
_MOST_TOKENS = 10**9


@dataclass(frozen=True)
class Tokens:
    """The usage numbers of one answer."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @classmethod
    def of(cls, usage: dict[str, object] | None) -> "Tokens":
        """From a provider's numbers; what it leaves out is 0."""
        prompt, completion, total = (_count(usage, f"{name}_tokens") for name in ("prompt", "completion", "total"))
        if not prompt and not completion:
            prompt = total  # an endpoint that reports a sum alone: nothing of it may get lost
        return cls(prompt, min(prompt, _count(usage, "cached_prompt_tokens")), completion)

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


def _count(usage: dict[str, object] | None, name: str) -> int:
    value = (usage or {}).get(name)
    return min(max(0, value), _MOST_TOKENS) if isinstance(value, int) else 0


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
        self._calls: dict[str, tuple[str, str, Tokens]] = {}
        self._open: set[str] = set()
        self._closed: set[str] = set()

    def expect(self, tasks: Iterable[Task]) -> None:
        """The crew's tasks, in their order."""
        with self._lock:
            self._tasks = {task.key: task for task in tasks}

    def task_started(self, key: str, agent: str, moment: datetime) -> None:
        with self._lock:
            if task := self._tasks.get(key):
                task.agent = agent or task.agent
                task.start = moment if task.start is None else min(task.start, moment)

    def task_ended(self, key: str, moment: datetime, answer: str = "", error: str | None = None) -> None:
        with self._lock:
            if task := self._tasks.get(key):
                task.end, task.failed = moment, error is not None
                task.answer, task.error = answer, error or ""

    def call_started(self, call: str) -> None:
        with self._lock:
            if call not in self._closed:
                self._open.add(call)

    def call_completed(self, event: str, call: str, key: str, model: str, tokens: Tokens) -> None:
        with self._lock:
            self._close(call)
            self._calls[event] = (key, model, tokens)

    def call_failed(self, call: str, key: str, model: str, error: str) -> None:
        with self._lock:
            self._close(call)
            if task := self._tasks.get(key):
                task.failing_model = model
                task.llm_errors.add(error)

    def _close(self, call: str) -> None:
        self._open.discard(call)
        self._closed.add(call)

    @property
    def calls_in_flight(self) -> int:
        with self._lock:
            return len(self._open)

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
        """Tokens and calls, in all and by model. A call that is open now is not in them, and they say so."""
        with self._lock:
            calls, open_calls = list(self._calls.values()), len(self._open)
        totals = sum((tokens for _, _, tokens in calls), Tokens())
        return Usage(
            requests=len(calls),
            prompt_tokens=totals.prompt,
            cached_prompt_tokens=totals.cached,
            completion_tokens=totals.completion,
            total_tokens=totals.total,
            incomplete=open_calls > 0,
            by_model=[_of_model(model, calls) for model in sorted({model for _, model, _ in calls})],
        )

    def tasks(self, redact: Callable[[str], str], ended: bool) -> list[TaskRecord]:
        """The crew's tasks, in their order. A task that is running when all ends is pending: it has no
        result, and whoever goes on has to do it again."""
        with self._lock:
            return [self._record(task, redact, ended) for task in self._tasks.values()]

    def _record(self, task: Task, redact: Callable[[str], str], ended: bool) -> TaskRecord:
        tokens = sum((tokens for key, _, tokens in self._calls.values() if key == task.key), Tokens())
        return TaskRecord(
            name=redact(task.name),
            agent=redact(task.agent),
            state=TaskState.PENDING if ended and task.state is TaskState.RUNNING else task.state,
            start_time=timestamp(task.start) if task.start else None,
            completion_time=timestamp(task.end) if task.end else None,
            total_tokens=tokens.total,
            preview=preview(redact(task.answer)),
        )


def _of_model(model: str, calls: list[tuple[str, str, Tokens]]) -> ModelUsage:
    own = [tokens for _, name, tokens in calls if name == model]
    total = sum(own, Tokens())
    return ModelUsage(
        model=model,
        requests=len(own),
        prompt_tokens=total.prompt,
        cached_prompt_tokens=total.cached,
        completion_tokens=total.completion,
    )

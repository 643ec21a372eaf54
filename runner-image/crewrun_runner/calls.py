"""LLM calls: which are open, what those can use at the most, and what the others used.

Purely computational, and not safe to share by threads: the ledger is.
"""

from dataclasses import dataclass

from crewrun_api.outcome import ModelUsage, Usage

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


class Calls:
    """The calls of one attempt. `task` is CrewAI's id of the task that a call is made for."""

    def __init__(self) -> None:
        self._completed: dict[str, tuple[str, str, Tokens]] = {}
        self._open: set[str] = set()
        self._closed: set[str] = set()
        self._reserved: dict[str, list[int]] = {}

    def reserve(self, task: str, tokens: int) -> None:
        """A call is about to begin that can use so many tokens at the most."""
        self._reserved.setdefault(task, []).append(min(max(0, tokens), _MOST_TOKENS))

    def release(self, task: str) -> None:
        """The oldest reservation of a task is done with: its calls follow each other."""
        if reserved := self._reserved.get(task):
            reserved.pop(0)

    def release_all(self, task: str) -> None:
        """The task has ended. What is reserved for it still is for a call that something else prevented."""
        self._reserved.pop(task, None)

    def started(self, call: str) -> None:
        if call not in self._closed:
            self._open.add(call)

    def completed(self, event: str, call: str, task: str, model: str, tokens: Tokens) -> None:
        self.closed(call, task)
        self._completed[event] = (task, model, tokens)

    def closed(self, call: str, task: str) -> None:
        self._open.discard(call)
        if call not in self._closed:  # CrewAI tells of one failed call twice
            self._closed.add(call)
            self.release(task)

    @property
    def in_flight(self) -> int:
        """A call is reserved a moment before its event says that it began; not every call is reserved."""
        return max(len(self._open), sum(map(len, self._reserved.values())))

    def of_task(self, task: str) -> Tokens:
        return sum((tokens for key, _, tokens in self._completed.values() if key == task), Tokens())

    def usage(self) -> Usage:
        """Tokens and calls, in all and by model. A call that is open now is not in them, and they say so, with
        what such calls can use at the most."""
        calls = list(self._completed.values())
        totals = sum((tokens for _, _, tokens in calls), Tokens())
        return Usage(
            requests=len(calls),
            prompt_tokens=totals.prompt,
            cached_prompt_tokens=totals.cached,
            completion_tokens=totals.completion,
            total_tokens=totals.total,
            incomplete=self.in_flight > 0,
            reserved_tokens=sum(map(sum, self._reserved.values())),
            by_model=[_of_model(model, calls) for model in sorted({model for _, model, _ in calls})],
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

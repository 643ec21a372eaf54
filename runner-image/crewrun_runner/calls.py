"""LLM requests: which are open, what those can use at the most, and what the others used.

Purely computational, and not safe to share by threads: the ledger is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from crewrun_api.outcome import MOST_COUNT, ModelUsage, Usage
from crewrun_runner.budget import Amount, Need
from crewrun_runner.tokens import Tokens


@dataclass(frozen=True)
class Charge:
    """One answered request. `task` is CrewAI's id of the task that it was made for, `micro` its cost in micro-USD,
    None when nobody knows the price."""

    task: str
    model: str
    tokens: Tokens
    micro: int | None = None
    price_key: str | None = None
    price_date: str | None = None


@dataclass(frozen=True)
class TaskFigures:
    """What was used for one task."""

    tokens: int
    micro: int
    unpriced: int
    models: list[str]


class Calls:
    """The requests of one attempt."""

    def __init__(self) -> None:
        self._charges: list[Charge] = []
        self._open: dict[int, tuple[Need, int]] = {}
        self._last = 0
        #: What the charges sum up to, with what may have been billed beside them.
        self.spent = Amount()
        self._lost = Amount()

    def reserve(self, need: Need, answer: int) -> int:
        """A request is about to be made, with an answer of so many tokens at the most; the number that it goes by
        from now on."""
        self._last += 1
        self._open[self._last] = need, answer
        return self._last

    def release(self, number: int) -> None:
        """The request was not made, or nobody bills it."""
        self._open.pop(number, None)

    def settle(self, number: int, charge: Charge) -> None:
        """The request was answered."""
        if self._open.pop(number, None) is None:
            return
        self._charges.append(charge)
        self.spent += Amount(1, charge.tokens.total, charge.micro or 0)

    def lose(self, number: int) -> None:
        """The request was made, and nobody says what it used: it may be billed all the same."""
        if made := self._open.pop(number, None):
            need, answer = made
            self._lost += need.amount(answer)
            self.spent += need.amount(answer)

    @property
    def held(self) -> Amount:
        """What the open requests can use at the most. Asked for anew each time: prices may become known meanwhile."""
        return sum((need.amount(answer) for need, answer in self._open.values()), Amount())

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def of_task(self, task: str) -> TaskFigures:
        own = [charge for charge in self._charges if charge.task == task]
        return TaskFigures(
            tokens=sum(charge.tokens.total for charge in own),
            micro=sum(charge.micro or 0 for charge in own),
            unpriced=sum(charge.micro is None for charge in own),
            models=sorted({charge.model for charge in own}),
        )

    def usage(self) -> Usage:
        """Tokens, requests and cost, in all and by model. What is open or lost is not in them, and they say so, with
        what it can have used at the most."""
        unknown = self._lost + self.held
        return Usage(
            **_sums(self._charges),
            total_tokens=sum(charge.tokens.total for charge in self._charges),
            incomplete=unknown.requests > 0,
            reserved_requests=unknown.requests,
            reserved_tokens=min(unknown.tokens, MOST_COUNT),
            reserved_cost_usd=min(unknown.micro, MOST_COUNT),
            by_model=[_of_model(model, self._charges) for model in sorted({charge.model for charge in self._charges})],
        )


def _of_model(model: str, charges: Iterable[Charge]) -> ModelUsage:
    own = [charge for charge in charges if charge.model == model]
    priced = next((charge for charge in reversed(own) if charge.price_key), own[-1])
    return ModelUsage(**_sums(own), model=model, price_key=priced.price_key, price_date=priced.price_date)


def _sums(charges: list[Charge]) -> dict[str, int]:
    tokens = sum((charge.tokens for charge in charges), Tokens())
    return {
        "requests": len(charges),
        "prompt_tokens": tokens.prompt,
        "cached_prompt_tokens": tokens.cached,
        "completion_tokens": tokens.completion,
        "reasoning_tokens": tokens.reasoning,
        "cost_usd": sum(charge.micro or 0 for charge in charges),
        "unpriced_requests": sum(charge.micro is None for charge in charges),
    }

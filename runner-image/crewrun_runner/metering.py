"""Every request to a model passes here: it is reserved before it is made, and charged when it is answered."""

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from crewrun_runner import exchange
from crewrun_runner.bound import UNKNOWN_ANSWER, listed_answer, own_limit, prompt_tokens
from crewrun_runner.budget import Need
from crewrun_runner.calls import Charge
from crewrun_runner.exchange import Asked
from crewrun_runner.ledger import Ledger, Ticket
from crewrun_runner.pricing import Prices, micro_cost, most_micro
from crewrun_runner.tokens import Tokens

#: What asks for a reservation: a task's id, a model's name, and what the request needs. It may wait.
Reserve = Callable[[str, str, Need], Ticket]


@dataclass
class Call:
    """One call of an LLM. `model` is its name as the crew or profile has it, `task` CrewAI's id of the task."""

    meter: "Meter"
    llm: Any
    model: str
    task: str
    #: Whether a request of it was seen.
    metered: bool = False
    #: What CrewAI itself noted, for one whose requests are not seen.
    noted: list[Tokens] = field(default_factory=list)
    #: Whether a request of it was answered, well or badly: whoever asks again pays again.
    answered: bool = False
    #: What was answered so far.
    charges: list[Charge] = field(default_factory=list)
    #: Whether an answer of it ended at a limit that the budget set.
    cut: bool = False


#: The call that the code at hand is made for.
current: ContextVar[Call | None] = ContextVar("crewrun_llm_call", default=None)


class Meter:
    """Reserves and charges for one attempt."""

    def __init__(self, reserve: Reserve, ledger: Ledger, prices: Prices) -> None:
        self._reserve = reserve
        self._ledger = ledger
        self._prices = prices

    def request(self, call: Call, asked: Asked, body: bytes) -> tuple[Ticket, bytes]:
        """Reserve for a request, and limit its answer to what is left. May wait, and raises what `reserve` does."""
        call.metered = True
        capped = self._ledger.caps.any
        listed = _listed(call.llm)
        answer = asked.answer or listed or UNKNOWN_ANSWER
        ticket = self._take(call, asked.prompt, answer * asked.choices, asked.limitable)
        # How long an unknown model would answer on its own account is unknown too.
        if capped and asked.limitable and (ticket.less or not (asked.answer or listed)):
            body = exchange.limited(body, asked, max(1, ticket.answer // asked.choices))
        return ticket, body

    def whole(self, call: Call, messages: Any, tools: Any) -> Ticket:
        """Reserve for a call whose requests are not seen."""
        answer = own_limit(call.llm) or _listed(call.llm) or UNKNOWN_ANSWER
        return self._take(call, prompt_tokens(messages, tools), answer, limitable=False)

    def charge(self, call: Call, ticket: Ticket, tokens: Tokens) -> None:
        """The provider has answered."""
        price = self._prices.of(ticket.model)
        charge = Charge(
            task=ticket.task,
            model=ticket.model,
            tokens=tokens,
            micro=None if price is None else micro_cost(price, tokens),
            price_key=price.key if price else None,
            price_date=price.date if price else None,
        )
        call.charges.append(charge)
        self._ledger.settle(ticket, charge)

    def answered(self, call: Call, ticket: Ticket, content_type: str, body: bytes) -> None:
        """The whole answer of a request has come."""
        call.answered = True
        found = exchange.answered(content_type, body)
        if found.tokens is None:
            self.lost(ticket)  # it may be billed, and does not say how much
        else:
            self.charge(call, ticket, found.tokens)
        if found.cut and (ticket.less or (self._ledger.caps.any and ticket.answer == UNKNOWN_ANSWER)):
            call.cut = True
            self._ledger.cut(ticket)

    def free(self, ticket: Ticket) -> None:
        """Nobody bills it."""
        self._ledger.release(ticket)

    def lost(self, ticket: Ticket) -> None:
        """It may be billed."""
        self._ledger.lose(ticket)

    def priced(self, model: str) -> bool:
        """Whether a budget in USD can be kept with this model."""
        return self._ledger.caps.micro is None or self._prices.of(model) is not None

    def _take(self, call: Call, prompt: int, answer: int, limitable: bool) -> Ticket:
        def most_cost(tokens: int) -> int:
            price = self._prices.known(call.model)
            return 0 if price is None else most_micro(price, prompt, tokens)

        if self._ledger.caps.micro is not None:
            self._prices.of(call.model)
        ticket = self._reserve(call.task, call.model, Need(prompt, answer, most_cost, limitable))
        # The list takes a while to load: that goes on while the request is under way.
        self._prices.preload([call.model], lambda: self._ledger.changed(False))
        return ticket


def _listed(llm: Any) -> int | None:
    return listed_answer(_catalog(), str(getattr(llm, "provider", "")), str(getattr(llm, "model", "")))


@cache
def _catalog() -> dict[str, Any]:
    """CrewAI's own copy of LiteLLM's list of models."""
    text = files("crewai.llms").joinpath("litellm_catalog", "model_prices_and_context_window.json").read_text()
    catalog: dict[str, Any] = json.loads(text)
    return catalog

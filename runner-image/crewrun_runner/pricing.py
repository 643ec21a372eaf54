"""What an answer costs: prices of the run's own first, else the list of genai-prices.

The list is two megabytes of Python, so it is loaded when it is first needed, which is while the first request is on
its way. Nothing here asks the network for newer prices: an image says what it charges by.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from functools import cache
from importlib.metadata import version
from types import ModuleType
from typing import Any, Protocol

from crewrun_api import settings
from crewrun_api.money import MICRO
from crewrun_runner.tokens import Tokens

#: The release of genai-prices that the runner is locked to, and its day: the package itself does not say it.
PRICE_LIST = ("0.2.3", "2026-11-10")
OWN_PRICE = "spec.prices"
#: CrewAI's word for a provider, where the list has another one.
_PROVIDERS = {"gemini": "google", "bedrock": "aws", "claude": "anthropic", "azure_openai": "azure"}


class Price(Protocol):
    """The price of one model. `date` is the day of the list it comes from, None for one of the run's own."""

    @property
    def key(self) -> str: ...

    @property
    def date(self) -> str | None: ...

    def usd(self, tokens: Tokens) -> Decimal: ...


@dataclass(frozen=True)
class OwnPrice:
    """A price that the run brings: USD for a million tokens."""

    input: Decimal
    cached: Decimal
    output: Decimal
    key: str = OWN_PRICE
    date: str | None = None

    def usd(self, tokens: Tokens) -> Decimal:
        uncached = tokens.prompt - tokens.cached
        return (uncached * self.input + tokens.cached * self.cached + tokens.completion * self.output) / MICRO


@dataclass(frozen=True)
class ListedPrice:
    """An entry of the list; some change with the length of the prompt or the time of day."""

    entry: Any
    provider: Any
    key: str
    date: str | None

    def usd(self, tokens: Tokens) -> Decimal:
        used = _list().Usage(
            input_tokens=tokens.prompt,
            cache_read_tokens=tokens.cached,
            cache_write_tokens=tokens.written,
            output_tokens=tokens.completion,
        )
        found = self.entry.calc_price(used, self.provider, genai_request_timestamp=datetime.now(UTC))
        return Decimal(found.total_price)


class Prices:
    """Prices by model, as the crew or profile names it. Safe to share by threads."""

    def __init__(self, own: Mapping[str, settings.Price]) -> None:
        self._own = {model: _own(price) for model, price in own.items()}
        self._known: dict[str, Price | None] = {}
        self._loading: threading.Thread | None = None

    def preload(self, models: Iterable[str], loaded: Callable[[], None]) -> None:
        """Begin to look up these models, and go on meanwhile; `loaded` is called when they are known."""

        def look_up() -> None:
            for model in models:
                self.of(model)
            loaded()

        if self._loading is None:
            self._loading = threading.Thread(target=look_up, name="prices", daemon=True)
            self._loading.start()

    def known(self, model: str) -> Price | None:
        """The price, if it was looked up before."""
        return self._known.get(model)

    def of(self, model: str) -> Price | None:
        """None when nobody knows it."""
        if model not in self._known:
            self._known[model] = self._own.get(model) or self._own.get(model.partition("/")[2]) or _listed(model)
        return self._known[model]


def micro_cost(price: Price, tokens: Tokens) -> int:
    """What an answer cost, in whole micro-USD."""
    return int((price.usd(tokens) * MICRO).to_integral_value(ROUND_HALF_EVEN))


def most_micro(price: Price, prompt: int, answer: int) -> int:
    """What a request can cost at the most: a prompt is sent, read from a cache or put into one."""
    ways = (Tokens(prompt, 0, answer), Tokens(prompt, prompt, answer), Tokens(prompt, 0, answer, prompt))
    return int((max(price.usd(tokens) for tokens in ways) * MICRO).to_integral_value(ROUND_UP))


def _own(price: settings.Price) -> OwnPrice:
    cached = price.cached_input_per_million_usd or price.input_per_million_usd
    return OwnPrice(Decimal(price.input_per_million_usd), Decimal(cached), Decimal(price.output_per_million_usd))


def _listed(model: str) -> ListedPrice | None:
    prefix, slash, name = model.partition("/")
    provider, name = (prefix.lower(), name) if slash else ("openai", model)
    snapshot = _list().data_snapshot.get_snapshot()
    try:
        found, entry = snapshot.find_provider_model(name, None, _PROVIDERS.get(provider, provider), None)
    except LookupError:
        return None
    release, day = PRICE_LIST
    date = day if version("genai-prices") == release else None
    return ListedPrice(entry, found, f"{found.id}/{entry.id}", date)


@cache
def _list() -> Any:
    """The library without its updates over the network, for which it imports an HTTP client that the image lacks."""
    updates = ModuleType("genai_prices.update_prices")
    for name in ("UpdatePrices", "wait_prices_updated_async", "wait_prices_updated_sync"):
        setattr(updates, name, None)
    sys.modules.setdefault(updates.__name__, updates)
    import genai_prices
    import genai_prices.data

    return genai_prices

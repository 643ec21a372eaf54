"""Money as whole micro-USD: what one LLM call cost is rounded once, and all sums of it are exact.

On the wire an amount is a decimal string with six places, as `0.006310`. What was used of models whose price
nobody knows is counted apart, and is never 0: where nothing else was used, the cost is `unknown`.
"""

import re
from collections.abc import Callable
from decimal import ROUND_UP, Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_serializer

from crewrun_api.model import Model

MICRO = 1_000_000
UNKNOWN = "unknown"
_MOST = 10**15
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_PATTERN = r"^(unknown|[0-9]{1,10}\.[0-9]{6})$"


def micro_usd(amount: str) -> int:
    """A decimal amount of USD as micro-USD; what is smaller is rounded up. Raises ValueError."""
    if not _AMOUNT.fullmatch(amount):  # an exponent would make a number that takes minutes to write down
        raise ValueError(f"{amount[:40]!r} is not an amount of USD")
    return int((Decimal(amount) * MICRO).to_integral_value(ROUND_UP))


def usd(micro: int) -> str:
    """An amount as a decimal string."""
    return f"{micro // MICRO}.{micro % MICRO:06d}"


def _read(value: Any) -> Any:
    if isinstance(value, str):
        return 0 if value == UNKNOWN else micro_usd(value)
    return value


MicroUSD = Annotated[
    int,
    Field(ge=0, le=_MOST),
    BeforeValidator(_read),
    PlainSerializer(usd, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "maxLength": 20}),
]


class Priced(Model):
    """Something that cost money."""

    cost_usd: MicroUSD = Field(
        default=0,
        description="What it cost, USD with six decimal places, as far as prices are known; `unknown` when none is.",
    )
    unpriced_requests: Annotated[int, Field(ge=0, le=_MOST)] = Field(
        default=0, description="LLM requests that are not in costUSD, since nobody knows the price of their model."
    )

    @model_serializer(mode="wrap")
    def _unknown_is_not_nothing(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        document = serialise(self)
        if not self.unpriced_requests:  # it is seldom there, and statuses are small
            document.pop("unpricedRequests", None)
            document.pop("unpriced_requests", None)
        elif not self.cost_usd:
            document["costUSD" if "unpricedRequests" in document else "cost_usd"] = UNKNOWN
        return document

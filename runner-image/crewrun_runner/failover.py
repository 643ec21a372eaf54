"""Which model is asked next, and when. Purely computational: time is an argument.

CrewAI and the providers' SDKs would each try again in loops around each other: 27 requests for one refused call.
Here tries have one owner. A call is tried `max_retries` times more with its own model where that can help, and then
with the next; a model that failed so is left alone for a while, since what follows would only wait for it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from crewrun_api.reasons import Reason

#: How long a model that failed is not asked first, seconds.
OPEN_SECONDS = 60.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
#: A provider that wants to be left alone for longer than this is: the attempt ends, and the operator waits.
_LONGEST_RETRY_AFTER = 30.0

_PASSING = frozenset({Reason.LLM_RATE_LIMITED, Reason.LLM_UNAVAILABLE, Reason.LLM_TIMEOUT})
#: Another model may be on another key.
_ELSEWHERE = _PASSING | {Reason.LLM_AUTHENTICATION, Reason.LLM_PERMISSION}


@dataclass
class Circuits:
    """The models that failed, each with the time until which it is left alone."""

    open_until: dict[str, float] = field(default_factory=dict)

    def order(self, models: Sequence[str], now: float) -> list[str]:
        """The models to ask, in turn; those that failed of late come last, the one that has rested longest first."""
        until = {model: self.open_until.get(model, 0.0) for model in models}  # others change it meanwhile
        closed = [model for model in models if until[model] <= now]
        return closed + sorted((model for model in models if model not in closed), key=until.__getitem__)

    def failed(self, model: str, now: float) -> None:
        self.open_until[model] = now + OPEN_SECONDS

    def answered(self, model: str) -> None:
        self.open_until.pop(model, None)


def wait_before_retry(reason: Reason | None, tried: int, retries: int, retry_after: float | None) -> float | None:
    """Seconds until the same model is asked again, after it was asked `tried` times; None: not again."""
    if reason not in _PASSING or tried > retries:
        return None
    if retry_after is not None:
        return retry_after if retry_after <= _LONGEST_RETRY_AFTER else None
    return float(min(_FIRST_WAIT * 2 ** (tried - 1), _LONGEST_WAIT))


def may_fail_over(reason: Reason | None) -> bool:
    """Whether another model may do better."""
    return reason in _ELSEWHERE


def fallbacks_of(model: str, primary: str | None, fallbacks: Sequence[str]) -> list[str]:
    """The models that stand in for this one: fallbacks belong to the model of the settings."""
    return [other for other in fallbacks if other != model] if primary is not None and model == primary else []

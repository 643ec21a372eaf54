"""Whether an LLM request still fits what a run may spend. Purely computational.

Before it is made, a request reserves the most that it can use: its prompt, and the longest answer that it allows.
Where less than that is left, the answer is limited to what is: a provider does not go on beyond a limit, so what is
spent never exceeds the budget, whatever runs side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from crewrun_api.allowance import Allowance
from crewrun_api.money import micro_usd, usd

#: An answer is not asked for when fewer tokens than these are left for it: it would cost its prompt and be cut.
LEAST_ANSWER = 256


@dataclass(frozen=True)
class Amount:
    """Requests, tokens and micro-USD together."""

    requests: int = 0
    tokens: int = 0
    micro: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.micro + other.micro)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.micro - other.micro)


@dataclass(frozen=True)
class Caps:
    """The budget of a run, and what was gone of it when this attempt began. None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    micro: int | None = None
    before: Amount = Amount()

    @classmethod
    def of(cls, allowance: Allowance) -> "Caps":
        budget, spent = allowance.budget, allowance.spent
        micro = None if budget.max_cost_usd is None else micro_usd(budget.max_cost_usd)
        before = Amount(spent.requests, spent.tokens, spent.cost_usd)
        return cls(budget.max_requests, budget.max_tokens, micro, before)

    @property
    def any(self) -> bool:
        return (self.requests, self.tokens, self.micro) != (None, None, None)


@dataclass(frozen=True)
class Need:
    """What a request can use. `most_cost` is micro-USD by the number of tokens of the answer, 0 without a price.
    An answer that cannot be limited must fit as it is."""

    prompt: int
    answer: int
    most_cost: Callable[[int], int]
    limitable: bool = True

    @property
    def least(self) -> int:
        """The shortest answer that the request is made for."""
        return min(LEAST_ANSWER, self.answer) if self.limitable else self.answer

    def amount(self, answer: int) -> Amount:
        return Amount(1, self.prompt + answer, self.most_cost(answer))


class No(Enum):
    """Why a request is not made now."""

    LATER = auto()  # another one holds what it needs, and may give it back
    NEVER = auto()  # it cannot fit


def answer_that_fits(caps: Caps, spent: Amount, held: Amount, need: Need) -> int | No:
    """The tokens that the answer may have; `held` is what requests that are open now may still use."""
    used = caps.before + spent
    if (answer := _fitting(caps, used + held, need)) is not None:
        return answer
    waits = held != Amount() and _fitting(caps, used, need) is not None
    return No.LATER if waits else No.NEVER


def _fitting(caps: Caps, used: Amount, need: Need) -> int | None:
    if caps.requests is not None and used.requests >= caps.requests:
        return None
    answer = need.answer
    if caps.tokens is not None:
        answer = min(answer, caps.tokens - used.tokens - need.prompt)
    if caps.micro is not None:
        answer = _affordable(need, answer, caps.micro - used.micro)
    return answer if answer >= need.least else None


def _affordable(need: Need, answer: int, micro: int) -> int:
    """The longest answer, up to this one, that costs no more; prices only rise with length."""
    if answer < 0 or need.most_cost(0) > micro:
        return -1
    low, high = 0, answer
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need.most_cost(middle) <= micro else (low, middle - 1)
    return low


def exceeded(caps: Caps, spent: Amount, need: Need | None, cut_at: int) -> str:
    """What a person is told when the budget ends a run; without a need, an answer was cut at so many tokens."""
    used = caps.before + spent
    least = need.least if need else 0
    more = need.amount(least) if need else Amount()
    limits = (
        ("maxCostUSD", caps.micro, used.micro, more.micro, usd),
        ("maxTokens", caps.tokens, used.tokens, more.tokens, str),
        ("maxRequests", caps.requests, used.requests, more.requests, str),
    )
    known = [(name, cap, gone, lacks, shown) for name, cap, gone, lacks, shown in limits if cap is not None]
    spent_words = ", ".join(f"{shown(gone)} of {name} {shown(cap)}" for name, cap, gone, _, shown in known)
    lacking = " and ".join(f"{shown(lacks)} of {name}" for name, cap, gone, lacks, shown in known if gone + lacks > cap)
    what = f"the next LLM request may need {lacking}" if need else f"an answer was cut at its limit of {cut_at} tokens"
    return f"spent {spent_words}; {what}; raise the budget and set rerun to go on at the first unfinished task"

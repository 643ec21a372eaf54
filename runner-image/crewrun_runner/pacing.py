"""When the next request to a model may be made, by the lease of a queue's rate. Purely computational.

Times are a monotonic clock's. A request may be made when nothing is owed; then one request is owed, and the most tokens
that it can use, and that is paid at the lease's rate. So a request that needs more than a minute's tokens is made too,
and those after it wait the longer.
"""

from dataclasses import dataclass
from math import inf

from crewrun_api.report import Lease, Paced

#: Less than this of a request or a token is what adding up fractions leaves over.
_NOTHING = 1e-6


@dataclass
class _Debt:
    """What is owed of one thing that is bounded; without a rate, nothing ever is."""

    rate: float | None = None  # a minute
    owed: float = 0.0
    waited: bool = False

    def set_rate(self, rate: float | None) -> None:
        self.rate = rate
        if rate is None:
            self.owed = 0.0

    def pay(self, seconds: float) -> None:
        if self.rate is not None:
            self.add(-self.rate * seconds / 60)

    def add(self, amount: float) -> None:
        if self.rate is not None:
            owed = self.owed + amount
            self.owed = owed if owed > _NOTHING else 0.0

    @property
    def seconds(self) -> float:
        """Until nothing is owed."""
        if self.rate is None:
            return 0.0
        return self.owed / self.rate * 60 if self.rate > 0 else inf


class Pacing:
    """The lease of one runner, and what it owes."""

    def __init__(self) -> None:
        self._requests, self._tokens = _Debt(), _Debt()
        self._reserved: dict[int, int] = {}  # tokens, by the number of the request
        self._end: float | None = None  # of the lease; None: there is no rate
        self._paid_until = -inf

    def bind(self) -> None:
        """There is a rate: no request is made before there is a lease."""
        self._end = -inf

    @property
    def bound(self) -> bool:
        """Whether there is a rate."""
        return self._end is not None

    def holds(self, now: float) -> bool:
        """Whether there is a lease that has not ended, or none is needed."""
        return self._end is None or now < self._end

    @property
    def nothing(self) -> bool:
        """Whether the lease is one of nothing."""
        return self.bound and 0 in (self._requests.rate, self._tokens.rate)

    def lease(self, lease: Lease | None, sent: float, now: float) -> None:
        """The answer to a report that was sent then; None: there is no rate. The operator counts the lease from when it
        gave it, which was later: it must not end first."""
        self._pay(now)
        self._end = None if lease is None else sent + lease.seconds
        self._requests.set_rate(lease.requests_per_minute if lease else None)
        self._tokens.set_rate(lease.tokens_per_minute if lease else None)
        self._requests.waited = self._tokens.waited = False

    def seconds(self, now: float) -> float:
        """Until the next request may be made, or the lease ends; infinite when it has ended."""
        if self._end is None:
            return 0.0
        if now >= self._end:
            return inf
        self._pay(now)
        return min(max(self._requests.seconds, self._tokens.seconds), self._end - now)

    def waited(self) -> None:
        """A request had to wait: this is told of what keeps it from being made."""
        for debt in (self._requests, self._tokens):
            debt.waited |= debt.seconds > 0

    def take(self, number: int, tokens: int, now: float) -> None:
        """A request is made now, which can use so many tokens."""
        self._pay(now)
        self._requests.add(1)
        self._tokens.add(tokens)
        self._reserved[number] = tokens

    def settle(self, number: int, tokens: int | None, now: float) -> None:
        """It used so many; None: nobody knows."""
        self._pay(now)
        reserved = self._reserved.pop(number, None)
        if reserved is not None and tokens is not None:
            self._tokens.add(tokens - reserved)

    def told(self, now: float) -> Paced | None:
        """What the operator is told of it; None when there is no rate."""
        if self._end is None:
            return None
        self._pay(now)
        holds = self.holds(now)
        return Paced(
            requests_per_minute=self._requests.rate if holds else 0,
            tokens_per_minute=self._tokens.rate if holds else 0,
            seconds=self._end - now if holds else 0,
            requests_waited=self._requests.waited,
            tokens_waited=self._tokens.waited,
            requests_owed=self._requests.owed,
            tokens_owed=self._tokens.owed,
        )

    def _pay(self, now: float) -> None:
        """Nothing is paid by a lease that has ended."""
        until = now if self._end is None else min(now, self._end)
        if until > self._paid_until > -inf:
            self._requests.pay(until - self._paid_until)
            self._tokens.pay(until - self._paid_until)
        self._paid_until = max(self._paid_until, now)

"""One rate and those who share it, each by leases of a part. Purely computational.

Times are seconds of a clock that is never set, rates are by the minute.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, inf

LEASE_SECONDS = 30.0
#: How often the parts are computed anew at the most; of a few also when somebody comes or goes.
_EVERY_SECONDS, _FEW = 1.0, 100
#: What was used longer ago than this has mostly faded.
_LATELY_SECONDS = 30.0
_HEADROOM = 1.25
#: Of an even share: what is left to one that uses nothing.
_LEAST = 0.1
#: Less than this is what adding up fractions leaves over.
_NOTHING = 1e-6


def water_level(rate: float, demands: Iterable[float]) -> tuple[float, float]:
    """Up to what demands are met where the rate is not enough for all; else what is left over for each."""
    left, rising = rate, sorted(demands)
    for met, demand in enumerate(rising):
        others = len(rising) - met
        if demand * others > left:
            return left / others, 0.0
        left -= demand
    return inf, left / len(rising) if rising else left


@dataclass(frozen=True, slots=True)
class Word:
    """What one of those who share says: the part it goes by and for how long, how much it used so far, whether it had
    to wait, and what it owes."""

    part: float = 0.0
    seconds: float = 0.0
    used: float = 0.0
    waited: bool = False
    owed: float = 0.0


@dataclass(slots=True)
class _Sharer:
    """One who shares, or has ended and owes. `leases` are those that it may go by: each a part, and its end."""

    at: float
    used: float = 0.0
    lately: float = 0.0
    owed: float = 0.0
    waits: bool = True  # how much one will want that has just come is not known
    wanted: float = 0.0  # when the parts were computed
    leases: list[tuple[float, float]] = field(default_factory=list)
    #: What is paid off before it may use its part, of its own when it has ended; and up to when that was counted.
    debt: float = 0.0
    paid_until: float = 0.0

    def holds(self, now: float) -> float:
        return max((part for part, end in self.leases if end > now), default=0.0)

    def lasts(self, now: float) -> bool:
        return any(end > now for _, end in self.leases)

    def wants(self, least: float) -> float:
        return inf if self.waits or self.debt else least + _HEADROOM * self.lately / _LATELY_SECONDS * 60

    def hear(self, word: Word, now: float, *, first: bool) -> None:
        """What was used before the first word was not used lately."""
        faded = self.lately * exp((self.at - now) / _LATELY_SECONDS)
        self.lately = faded + (0.0 if first else max(0.0, word.used - self.used))
        self.waits = word.waited or first
        self.used, self.owed, self.at = word.used, word.owed, now

    def pay(self, now: float) -> None:
        """Pay off the debt with the part that nobody uses meanwhile."""
        if self.debt:
            left = self.debt - self.holds(self.paid_until) * (now - self.paid_until) / 60
            self.debt = left if left > _NOTHING else 0.0
        self.paid_until = now


class Sharing:
    """One rate. What all may hold together is never more, whatever gets lost."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._sharers: dict[str, _Sharer] = {}
        self._ended: dict[str, _Sharer] = {}  # who has ended and owes, the oldest first
        self._held = 0.0  # never less than what is held
        self._level, self._spare = inf, 0.0
        self._counted_at = -inf

    @property
    def empty(self) -> bool:
        """Whether nothing of it is lent out."""
        return not self._sharers and not self._ended

    def renew(self, who: str, word: Word, now: float, *, believe: bool = False, all_known: bool = True) -> float:
        """The part that one gets who has just spoken. To believe it is to take its word for a part that was given by
        somebody else. Unless all are known, others may hold parts that nobody has told of."""
        first = who not in self._sharers
        sharer = self._sharers[who] if not first else self._join(who, now)
        sharer.hear(word, now, first=first)
        sharer.pay(now)
        held = sharer.holds(now)
        believed = max(held, self._free(held)) if believe else held
        goes_by = min(word.part, believed)
        sharer.leases = [(goes_by, now + min(word.seconds, LEASE_SECONDS))]
        self._held += sharer.holds(now) - held
        self._count_if_due(now, news=first)
        part = min(max(sharer.wanted, sharer.wants(self._least)), self._level) + self._spare
        part = min(part, self._free(goes_by)) if all_known else min(part, goes_by)
        part = part if part > _NOTHING else 0.0
        sharer.leases.append((part, now + LEASE_SECONDS))
        self._held += max(0.0, part - goes_by)
        return part if not sharer.debt else 0.0

    def leave(self, who: str, now: float, owed: float | None = None) -> None:
        """One has ended, owing this or what it said last. It gives back its part, but a debt gets one until it is paid:
        of a debt larger than a minute's rate nobody knows any more."""
        if (sharer := self._sharers.pop(who, None)) is None:
            return
        sharer.pay(now)
        sharer.debt = min(sharer.debt + (sharer.owed if owed is None else owed), max(1.0, self.rate))
        held = sharer.holds(now)
        sharer.leases = [(held, inf)]
        if sharer.debt:
            self._ended[who] = sharer
        else:
            self._held -= held
        self._count_if_due(now, news=True)

    def drop(self, who: str) -> None:
        """One is bound by this rate no more."""
        self._sharers.pop(who, None)
        self._counted_at = -inf

    def _join(self, who: str, now: float) -> _Sharer:
        """One comes, and takes the place of one that has ended, with its debt. Otherwise many that come for one request
        each would never pay."""
        self._count_if_due(now, news=True)
        ended = self._ended.pop(next(iter(self._ended))) if self._ended else _Sharer(now)
        ended.pay(now)
        self._sharers[who] = _Sharer(now, debt=ended.debt, leases=ended.leases, paid_until=now)
        return self._sharers[who]

    def _free(self, own: float) -> float:
        return max(0.0, self.rate - (self._held - own))

    @property
    def _least(self) -> float:
        return _LEAST * self.rate / max(1, len(self._sharers))

    def _count_if_due(self, now: float, *, news: bool) -> None:
        if now - self._counted_at >= _EVERY_SECONDS or (news and len(self._sharers) <= _FEW):
            self._count(now)

    def _count(self, now: float) -> None:
        """Who has not spoken for as long as a lease is forgotten: it may make no request."""
        for sharer in self._ended.values():
            sharer.pay(now)
        self._ended = {who: each for who, each in self._ended.items() if each.debt}
        self._sharers = {who: each for who, each in self._sharers.items() if each.at == now or each.lasts(now)}
        everybody = [*self._sharers.values(), *self._ended.values()]
        self._held = sum(each.holds(now) for each in everybody)
        for each in everybody:
            each.wanted = each.wants(self._least)
        self._level, self._spare = water_level(self.rate, (each.wanted for each in everybody))
        self._counted_at = now
        for each in self._ended.values():
            held = each.holds(now)
            part = min(self._level + self._spare, self._free(held))
            each.leases = [(part, inf)]
            self._held += part - held

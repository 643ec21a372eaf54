"""What the runs of a queue have done, and how that outlives the operator. Memory only.

Each run says its own part in its status, so the sums over the runs that are there need nothing else. Of those that
are deleted only the queue's status tells: it says what they had, and it says all sums as they were when it was
written, which is more where runs were deleted that nobody saw go.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from crewrun_api.queue import Sums

#: The beginning of a window, as a timestamp; empty where there is no budget.
Start = str


@dataclass(frozen=True, slots=True)
class Part:
    """What one run has done: attempts that were admitted, and what it spent in the window that it spent in last."""

    admitted: int = 0
    window: Start = ""
    micro_usd: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Spent:
    """Sums of one window."""

    micro_usd: int = 0
    tokens: int = 0

    def add(self, part: Part, sign: int = 1) -> None:
        self.micro_usd += sign * part.micro_usd
        self.tokens += sign * part.tokens


@dataclass(slots=True)
class Total:
    """The sum of some parts."""

    admitted: int = 0
    windows: defaultdict[Start, Spent] = field(default_factory=lambda: defaultdict(Spent))

    def add(self, part: Part, sign: int = 1) -> None:
        self.admitted += sign * part.admitted
        if part.window:
            self.windows[part.window].add(part, sign)

    def at(self, start: Start) -> Sums:
        """The sums as of the window that began then."""
        spent = self.windows.get(start) or Spent()
        return Sums(admitted=self.admitted, spent_usd=spent.micro_usd, spent_tokens=spent.tokens)


class Ledger:
    """The sums over runs that are there, and over those that are deleted."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._live, self._deleted = Total(), Total()

    @property
    def empty(self) -> bool:
        """Whether it knows of no run."""
        return not self._parts

    def put(self, uid: str, part: Part) -> None:
        """The part of a run that is there, in place of what it was before."""
        old = self._parts.get(uid, Part())
        self._parts[uid] = part
        if old != part:
            self._live.add(old, -1)
            self._live.add(part)

    def drop(self, uid: str, *, deleted: bool) -> None:
        """The run is deleted, or another queue's."""
        if part := self._parts.pop(uid, None):
            self._live.add(part, -1)
            if deleted:
                self._deleted.add(part)

    def recall(self, total: Sums, deleted: Sums, start: Start) -> None:
        """What a status says that was written before this process began, once all runs are known."""
        live, gone = self._live.at(start), self._deleted.at(start)
        self._deleted.add(
            Part(
                admitted=max(deleted.admitted, total.admitted - live.admitted - gone.admitted),
                window=start,
                micro_usd=max(deleted.spent_usd, total.spent_usd - live.spent_usd - gone.spent_usd),
                tokens=max(deleted.spent_tokens, total.spent_tokens - live.spent_tokens - gone.spent_tokens),
            )
        )

    def total(self, start: Start) -> Sums:
        """All that was done, as of the window that began then."""
        live, gone = self._live.at(start), self._deleted.at(start)
        return Sums(
            admitted=live.admitted + gone.admitted,
            spent_usd=live.spent_usd + gone.spent_usd,
            spent_tokens=live.spent_tokens + gone.spent_tokens,
        )

    def deleted(self, start: Start) -> Sums:
        """The part of it that deleted runs had."""
        return self._deleted.at(start)

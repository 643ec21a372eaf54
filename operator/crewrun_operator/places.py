"""Who waits in one queue, who holds a place, and who is next. Memory only; O(log n) for each event.

A run waits in a share, at a time that orders it. The share with the fewest places goes first, and of equal ones that
whose first run comes first. With one share that is first in, first out.
"""

from collections import Counter, defaultdict

from sortedcontainers import SortedList

#: A run, by UID.
Uid = str
#: The place of a run in the order of its share: what comes first is less.
Order = tuple[int, Uid]


class Places:
    """The order of those that wait. A run is in it once: it waits, or it holds a place."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, SortedList[Order]] = defaultdict(SortedList)
        self._waiting: dict[Uid, tuple[str, Order]] = {}
        self._holding: dict[Uid, str] = {}
        self._held: Counter[str] = Counter()
        #: The shares in which somebody waits: places held, the first of its line, the share.
        self._turns: SortedList[tuple[int, Order, str]] = SortedList()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def holding(self) -> int:
        """How many places are held."""
        return len(self._holding)

    def wait(self, uid: Uid, share: str, time: int) -> None:
        """Let the run wait; it no longer holds a place."""
        if self._waiting.get(uid) == (share, (time, uid)):
            return
        self.remove(uid)
        self._forget_turn(share)
        self._lines[share].add((time, uid))
        self._waiting[uid] = share, (time, uid)
        self._take_turn(share)

    def hold(self, uid: Uid, share: str) -> None:
        """Give the run a place."""
        if self._holding.get(uid) == share:
            return
        self.remove(uid)
        self._forget_turn(share)
        self._holding[uid] = share
        self._held[share] += 1
        self._take_turn(share)

    def remove(self, uid: Uid) -> None:
        """The run neither waits nor holds a place."""
        if waiting := self._waiting.pop(uid, None):
            share, order = waiting
            self._forget_turn(share)
            self._lines[share].remove(order)
        elif uid in self._holding:
            share = self._holding.pop(uid)
            self._forget_turn(share)
            self._held[share] -= 1
        else:
            return
        self._take_turn(share)

    def first(self) -> Uid | None:
        """Who is next; None when nobody waits."""
        if not self._turns:
            return None
        _, (_, uid), _ = self._turns[0]
        return uid

    def share_of(self, uid: Uid) -> str:
        """The share in which the run waits or holds a place."""
        return self._waiting[uid][0] if uid in self._waiting else self._holding[uid]

    def ahead(self, uid: Uid) -> int:
        """How many go before this one that waits, if no place gets free that is held now."""
        share, order = self._waiting[uid]
        before = self._lines[share].index(order)
        turn = self._held[share] + before
        return before + sum(self._earlier(other, turn, (order, share)) for other in self._lines if other != share)

    def _earlier(self, share: str, turn: int, mine: tuple[Order, str]) -> int:
        """How many of this share go before: when they do, it holds fewer places, or as many and they come first."""
        line, fewer = self._lines[share], turn - self._held[share]
        if fewer < 0:
            return 0
        return min(fewer, len(line)) + (fewer < len(line) and (line[fewer], share) < mine)

    def _forget_turn(self, share: str) -> None:
        """Before the share changes: what tells of its turn, if somebody waits in it."""
        if line := self._lines.get(share):
            self._turns.remove((self._held[share], line[0], share))

    def _take_turn(self, share: str) -> None:
        if line := self._lines.get(share):
            self._turns.add((self._held[share], line[0], share))
        elif not self._held[share]:  # names of shares come from people
            self._lines.pop(share, None)
            self._held.pop(share, None)

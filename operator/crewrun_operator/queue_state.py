"""One queue: which runs wait in it, which hold a place, who gets one now, and what they have spent.

A run's own status says whether it waits or holds a place, so that a restart needs nothing else. What is only in memory
is the wish of a run that was just seen, and a place that was given and is not recorded yet: if the process dies, the
run waits again. Memory only, no I/O, no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any

from crewrun_api.queue import BY_CREW, SECONDS_PER_PRIORITY, Ordering, QueueSpec, StopPolicy, Sums
from crewrun_api.reasons import Phase
from crewrun_operator.changes import known_micro_usd
from crewrun_operator.places import Places
from crewrun_operator.queue_object import QueueObject
from crewrun_operator.sums import Ledger, Part
from crewrun_operator.times import parse, stamp
from crewrun_operator.views import Manifest
from crewrun_operator.windows import window_start

#: A run or a queue, by namespace and name.
Key = tuple[str, str]
_ENDED = frozenset(phase.value for phase in Phase if phase.ended)


class Hold(Enum):
    """Why a queue gives no place now."""

    MISSING = auto()  # there is no such object
    INVALID = auto()  # its spec says what this operator does not know
    STOPPED = auto()  # its stopPolicy
    BUDGET_SPENT = auto()  # the budget of this window
    FULL = auto()  # all places are held


class Standing(Enum):
    """Where a run stands in its queue."""

    WAITS = auto()
    GRANTED = auto()  # it was given a place, which its status does not say yet
    HOLDS = auto()  # it has an open attempt


@dataclass(frozen=True, slots=True)
class Place:
    """What a run that wants a place has to know."""

    queue: str
    granted: bool
    hold: Hold | None = None  # why nobody gets a place; None: who is before it does
    ahead: int = 0  # runs that go before it


@dataclass(frozen=True, slots=True)
class _Member:
    run: Manifest
    standing: Standing
    time: datetime  # by which it is ordered
    since: datetime  # since when it waits


class Queue:
    """One queue, by name. Runs may be in it while its object is not there."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.object: QueueObject | None = None
        self.hold: Hold | None = Hold.MISSING
        self._ledger = Ledger()
        self._places = Places()
        self._members: dict[str, _Member] = {}
        self._recalled = False

    @property
    def spec(self) -> QueueSpec | None:
        return self.object.spec if self.object else None

    @property
    def pending(self) -> int:
        """Runs that wait."""
        return self._places.waiting

    @property
    def running(self) -> int:
        """Runs that hold a place, or were given one."""
        return self._places.holding

    def oldest_wait_seconds(self, now: datetime) -> float:
        """How long the run that waits longest has waited."""
        waits = [member.since for member in self._members.values() if member.standing is Standing.WAITS]
        return max(0.0, (now - min(waits)).total_seconds()) if waits else 0.0

    def window(self, now: datetime) -> str:
        """When the window of its budget began, as a timestamp; empty without one."""
        cap = self.object.cap if self.object else None
        return stamp(window_start(cap.window, now)) if cap else ""

    def sums(self, now: datetime) -> tuple[Sums, Sums]:
        """What its runs have done, the spending in this window; and the part of it that deleted runs had."""
        window = self.window(now)
        return self._ledger.total(window), self._ledger.deleted(window)

    def put_object(self, found: QueueObject) -> bool:
        """Take its object; False when nothing is new about what it asks for."""
        old, self.object = self.object, found
        if old is not None and old.asks_for_the_same(found):
            return False
        if old is None or _shares(old.spec) != _shares(found.spec):
            self._places = Places()
            for uid, member in self._members.items():
                self._put(uid, member)
        return True

    def put(self, run: Manifest) -> None:
        """Take what the status of a run says that is in this queue."""
        uid, old = run["metadata"]["uid"], self._members.get(run["metadata"]["uid"])
        self._ledger.put(uid, _part(run))
        standing = _standing(run)
        if standing is None:
            self._leave(uid)
            return
        if standing is Standing.WAITS and old is not None and old.standing is Standing.GRANTED:
            standing = Standing.GRANTED
        self._put(uid, _Member(run, standing, _time(run), _since(run)))

    def join(self, run: Manifest, time: datetime, now: datetime) -> None:
        """Let a run wait whose status does not say so."""
        uid = run["metadata"]["uid"]
        if uid not in self._members:
            self._put(uid, _Member(run, Standing.WAITS, time, now))

    def drop(self, uid: str, *, deleted: bool) -> None:
        """The run is deleted, or in another queue."""
        self._ledger.drop(uid, deleted=deleted)
        self._leave(uid)

    def admit(self, now: datetime) -> Iterator[Key]:
        """Give places to those who are next; the runs that were given one."""
        if self.object is not None and not self._recalled:
            told, window = self.object.status, self.object.status.window_start or ""
            self._ledger.recall(told, told.deleted or Sums(), window)
            self._recalled = True
        closed = self._closed(now)
        while closed is None and self._room() and (uid := self._places.first()) is not None:
            member = replace(self._members[uid], standing=Standing.GRANTED)
            self._put(uid, member)
            yield member.run["metadata"]["namespace"], member.run["metadata"]["name"]
        self.hold = closed or (None if self._room() else Hold.FULL)

    def place(self, uid: str) -> Place | None:
        """The place of a run that wants one, or was given it."""
        member = self._members.get(uid)
        if member is None or member.standing is Standing.HOLDS:
            return None
        if member.standing is Standing.GRANTED:
            return Place(self.key[1], granted=True)
        return Place(self.key[1], granted=False, hold=self.hold, ahead=self._places.ahead(uid))

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.object is None and self._ledger.empty and not self._members

    def _closed(self, now: datetime) -> Hold | None:
        """Why it gives nobody a place, however many are free."""
        if self.object is None:
            return Hold.MISSING
        if self.object.spec is None:
            return Hold.INVALID
        if self.object.spec.stop_policy is not StopPolicy.NONE:
            return Hold.STOPPED
        if (cap := self.object.cap) is None:
            return None
        spent = self._ledger.total(self.window(now))
        over_usd = cap.micro_usd is not None and spent.spent_usd >= cap.micro_usd
        over_tokens = cap.tokens is not None and spent.spent_tokens >= cap.tokens
        return Hold.BUDGET_SPENT if over_usd or over_tokens else None

    def _room(self) -> bool:
        most = self.spec.max_concurrent_runs if self.spec else None
        return most is None or self._places.holding < most

    def _put(self, uid: str, member: _Member) -> None:
        self._members[uid] = member
        share = _share(member.run, self.spec)
        if member.standing is Standing.WAITS:
            self._places.wait(uid, share, _order(member))
        else:
            self._places.hold(uid, share)

    def _leave(self, uid: str) -> None:
        if self._members.pop(uid, None):
            self._places.remove(uid)


def _standing(run: Manifest) -> Standing | None:
    """Where a run stands, by its own words."""
    status, spec = run.get("status") or {}, run["spec"]
    phase, attempts = status.get("phase"), status.get("attempts")
    if phase in _ENDED:
        return None
    if attempts and not attempts[-1].get("outcome"):
        return Standing.HOLDS
    leaves = spec.get("suspend") or spec.get("cancel") or "deletionTimestamp" in run["metadata"]
    return Standing.WAITS if phase == Phase.QUEUED and not leaves else None


def _part(run: Manifest) -> Part:
    status = run.get("status") or {}
    window = status.get("window") or {}
    micro = known_micro_usd(window.get("costUSD", ""))
    return Part(status.get("attemptCount", 0), window.get("start", ""), micro, window.get("totalTokens", 0))


def _time(run: Manifest) -> datetime:
    return parse((run.get("status") or {}).get("orderTime") or run["metadata"]["creationTimestamp"])


def _since(run: Manifest) -> datetime:
    return parse((run.get("status") or {}).get("queueTime") or run["metadata"]["creationTimestamp"])


def _order(member: _Member) -> int:
    """Less is sooner. A point of priority is as good as a wait, so the order of two never changes while they wait."""
    return int(member.time.timestamp()) - SECONDS_PER_PRIORITY * (member.run["spec"].get("priority") or 0)


def _shares(spec: QueueSpec | None) -> str | None:
    """What makes a share; None: there is one."""
    return spec.fair_share_by if spec and spec.ordering is Ordering.FAIR_SHARE else None


def _share(run: Manifest, spec: QueueSpec | None) -> str:
    by = _shares(spec)
    if by is None:
        return ""
    if by == BY_CREW:
        reference: dict[str, Any] = run["spec"].get("crewRef") or {}
        return str(reference.get("name", ""))
    return str((run["metadata"].get("labels") or {}).get(by, ""))

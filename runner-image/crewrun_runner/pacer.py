"""Requests that wait for their turn under a queue's rate, one after the other. Safe to share by threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import isinf

from crewrun_api.report import Lease, Paced
from crewrun_runner.pacing import Pacing

RATE = "requests wait for their turn under the rate of the queue; said once"
NO_LEASE = "no lease of the queue's rate is left, and requests wait for the operator to answer a report"
NO_PART = "others hold the whole rate of the queue, and requests wait for a part of it"


class Pacer:
    """Without a rate nobody waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news = threading.Condition()
        self._turn = threading.Lock()
        self._pacing = Pacing()
        self._closed = False
        self._said: set[str] = set()
        #: Called when requests begin to wait, with what for.
        self.waits: Callable[[str], None] = lambda _: None

    def now(self) -> float:
        """The time of its clock."""
        return self._clock()

    def bind(self) -> None:
        """There is a rate: nothing goes before the first lease."""
        with self._news:
            self._pacing.bind()

    def lease(self, lease: Lease | None, sent: float) -> None:
        """The lease in the answer to a report that was sent then; None: there is no rate."""
        with self._news:
            self._pacing.lease(lease, sent, self._clock())
            self._said.discard(NO_LEASE)
            if not self._pacing.nothing:
                self._said.discard(NO_PART)
            self._news.notify_all()

    def told(self) -> Paced | None:
        """What the next report says of it."""
        with self._news:
            return self._pacing.told(self._clock())

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be made; then nobody else comes in until it is. What is set aside for a request is
        set aside in here, so that nothing is while it waits."""
        with self._turn if self._pacing.bound else nullcontext():
            with self._news:
                self._wait()
            yield

    def take(self, number: int, tokens: int) -> bool:
        """The request is made now, or when it may; False if that is never, because the run ends."""
        with self._news:
            self._wait()
            if may := self._pacing.seconds(self._clock()) <= 0:
                self._pacing.take(number, tokens, self._clock())
            return may

    def settle(self, number: int, tokens: int | None) -> None:
        """The request has ended, and used so many tokens; None: nobody knows."""
        with self._news:
            self._pacing.settle(number, tokens, self._clock())
            self._news.notify_all()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _wait(self) -> None:
        while not self._closed and (seconds := self._pacing.seconds(self._clock())) > 0:
            self._pacing.waited()
            self._say(NO_LEASE if isinf(seconds) else NO_PART if self._pacing.nothing else RATE)
            self._news.wait(None if isinf(seconds) else seconds)

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self.waits(why)

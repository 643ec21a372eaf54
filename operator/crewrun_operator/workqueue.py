"""A work queue: keyed, deduplicating, with delayed adds.

A key that is added while it is worked is worked once more afterwards; one key is never worked by two
workers at a time. The clock is the event loop's, so tests can drive it.
"""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Add keys, take them with `get`, give them back with `done`."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K] = asyncio.Queue()  # a key wakes one worker, and no other
        self._waiting: set[K] = set()
        self._active: set[K] = set()
        self._added_at: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Let the key be worked soon; adding it again before that changes nothing."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._added_at[key] = asyncio.get_running_loop().time()
        if key not in self._active:
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Let the key be worked in so many seconds; of several such wishes for a key the newest counts."""
        self.forget(key)
        if seconds <= 0:
            self.add(key)
            return
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def forget(self, key: K) -> None:
        """Drop the delayed add of this key, if there is one."""
        if timer := self._timers.pop(key, None):
            timer.cancel()

    async def get(self) -> K:
        """The next key; until `done` no other worker gets it."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._added_at.pop(key, None)
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """The key was worked; if it was added meanwhile it gets its turn now."""
        self._active.discard(key)
        if key in self._waiting:
            self._ready.put_nowait(key)

    def oldest_wait(self) -> float:
        """How long, in seconds, the key that waits longest has waited for a worker."""
        oldest = min(self._added_at.values(), default=None)
        return 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

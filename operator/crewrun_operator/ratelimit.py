"""Token buckets: how often something may happen, for each of many callers."""

import time
from collections import OrderedDict
from collections.abc import Callable


class Buckets:
    """A bucket for each key. Memory is bounded: with too many keys, the one that was not used for longest is
    forgotten, and is full again when it comes back."""

    def __init__(
        self, per_second: float, burst: float, *, tick: Callable[[], float] = time.monotonic, limit: int = 10_000
    ) -> None:
        self._per_second, self._burst, self._tick, self._limit = per_second, burst, tick, limit
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str = "", cost: float = 1) -> bool:
        """That much from the bucket, which may owe it; False when there is nothing in it."""
        level = self._level(key)
        taken = level >= 1
        self._buckets[key] = (level - cost * taken, self._tick())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._limit:
            self._buckets.popitem(last=False)
        return taken

    def spent(self, key: str = "") -> bool:
        """Whether there is nothing to take; takes nothing."""
        return self._level(key) < 1

    def _level(self, key: str) -> float:
        if (bucket := self._buckets.get(key)) is None:
            return self._burst
        level, at = bucket
        return min(self._burst, level + (self._tick() - at) * self._per_second)

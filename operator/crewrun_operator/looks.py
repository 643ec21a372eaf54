"""Which sources of runs were looked up live, and whether that counts for a run. Memory only, no I/O, no clock.

Watches are independent, so what was applied before a run may be seen after it. A look at the API server that begins
after the run was seen finds all of that; it counts for every run that was seen by then and is made of the same Crew,
until a watch tells of something else.
"""

from collections.abc import Hashable

#: Names come from people.
_MOST = 10_000


class Looks:
    """Time here is a count of the runs that were seen, new or with another spec."""

    def __init__(self) -> None:
        self._time = 0
        self._seen: dict[str, int] = {}  # by the run's UID
        self._found: dict[Hashable, tuple[int, Hashable]] = {}

    def see(self, uid: str) -> None:
        """A run is new, or asks for something else: only a look that begins now counts for it."""
        self._time += 1
        self._seen[uid] = self._time

    def forget(self, uid: str) -> None:
        self._seen.pop(uid, None)

    def begin(self) -> int:
        """A look begins now."""
        return self._time

    def since(self, uid: str) -> int:
        """When a look must have begun to count for this run."""
        return self._seen.get(uid, 0)

    def end(self, sources: Hashable, began: int, found: Hashable) -> None:
        """A look at these sources, begun then, found these versions."""
        if len(self._found) >= _MOST:
            self._found.clear()  # whoever needs one looks again
        self._found[sources] = began, found

    def count(self, uid: str, sources: Hashable, versions: Hashable) -> bool:
        """Whether these versions are what a look found that counts for this run."""
        began, found = self._found.get(sources, (-1, None))
        return began >= self.since(uid) and found == versions

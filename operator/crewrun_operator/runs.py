"""The runs that are known. Memory only, no I/O.

One that has ended is kept packed: it is rarely looked at, and thousands of them stay until their time to live is over.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import intern

from crewrun_api.reasons import Phase
from crewrun_operator.documents import decoded, encoded
from crewrun_operator.views import Manifest, version

#: A run, by namespace and name. Built here and nowhere else.
Key = tuple[str, str]
_ENDED = frozenset(phase.value for phase in Phase if phase.ended)
_GOING = frozenset({Phase.STARTING.value, Phase.RUNNING.value, Phase.CANCELLING.value})


@dataclass(frozen=True, slots=True)
class Brief:
    """What is asked of all runs at once, and must cost nothing."""

    uid: str
    version: int
    queue: str
    phase: str

    @property
    def ended(self) -> bool:
        return self.phase in _ENDED


class Runs(Mapping[Key, Manifest]):
    """Manifests by key. What is read of one that has ended is a copy."""

    def __init__(self) -> None:
        self._briefs: dict[Key, Brief] = {}
        self._open: dict[Key, Manifest] = {}
        self._ended: dict[Key, bytes] = {}
        self._going: set[Key] = set()

    def __getitem__(self, key: Key) -> Manifest:
        if (run := self._open.get(key)) is not None:
            return run
        return decoded(zlib.decompress(self._ended[key]))

    def __contains__(self, key: object) -> bool:
        """Whether there is such a run; none is unpacked for it."""
        return key in self._briefs

    def __iter__(self) -> Iterator[Key]:
        return iter(self._briefs)

    def __len__(self) -> int:
        return len(self._briefs)

    def put(self, run: Manifest) -> Brief:
        """Keep this version of a run in the place of an older one."""
        key, status = key_of(run), run.get("status") or {}
        self._forget(key)
        phase, queue = intern(status.get("phase") or ""), intern(status.get("queue") or "")
        self._briefs[key] = brief = Brief(run["metadata"]["uid"], version(run), queue, phase)
        if brief.ended:
            self._ended[key] = zlib.compress(encoded(run), 1)
        else:
            self._open[key] = run
        if phase in _GOING:
            self._going.add(key)
        return brief

    def drop(self, key: Key) -> None:
        self._forget(key)
        self._briefs.pop(key, None)

    def brief(self, key: Key) -> Brief | None:
        return self._briefs.get(key)

    def briefs(self) -> Iterator[tuple[Key, Brief]]:
        """All runs, and none of them unpacked."""
        return iter(self._briefs.items())

    def open(self) -> Iterator[tuple[Key, Manifest]]:
        """Those that have not ended."""
        return iter(self._open.items())

    @property
    def going(self) -> int:
        """How many have an open attempt."""
        return len(self._going)

    def _forget(self, key: Key) -> None:
        self._going.discard(key)
        self._open.pop(key, None)
        self._ended.pop(key, None)


def key_of(manifest: Manifest) -> Key:
    """Namespace and name."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]

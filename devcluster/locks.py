"""Advisory file locks: two builders, or an `up` and a `down` of one cluster, take turns."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster.progress import say


@contextmanager
def locked(path: Path, *, waiting_for: str) -> Iterator[None]:
    """Hold the lock on `path`; say what is being waited for when somebody else has it.

    The kernel drops the lock when its holder dies, so a crash leaves nothing to clean.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another devcluster that is {waiting_for} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

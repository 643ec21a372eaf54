"""The termination message on its way: a file that holds either the old content or the new one, whole.

kubelet reads it when the process is gone, however it went. So each content goes over the one before in one
write on a descriptor that stays open, and spaces cover what is left of a longer one: nothing is truncated
first, and readers of JSON do not mind spaces at the end.
"""

import os
from pathlib import Path


class TerminationMessage:
    """The file. Who writes takes care that only one thread does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._length = 0

    def __str__(self) -> str:
        return str(self._path)

    def write(self, data: bytes) -> None:
        """Put `data` in the place of all that stands there. Raises OSError."""
        if self._descriptor is None:  # nothing of ours is there to be lost yet
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        padded = data.ljust(self._length)
        self._length = max(self._length, os.pwrite(self._descriptor, padded, 0))
        if self._length < len(padded):
            raise OSError(f"only {self._length} of {len(padded)} bytes could be written")

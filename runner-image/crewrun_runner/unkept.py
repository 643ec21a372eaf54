"""The checkpoint that the operator does not have yet. Purely computational."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from crewrun_api.report import STORED_LIMIT_BYTES, Upload
from crewrun_runner.streams import Log

_Finished = TypeVar("_Finished")


@dataclass(frozen=True)
class Checkpoint:
    """The bytes of so many finished tasks."""

    tasks: int
    upload: Upload


class Unkept(Generic[_Finished]):
    """Knows how many finished tasks the operator has, and packs them when there are more."""

    def __init__(
        self,
        finished: Callable[[], Sequence[_Finished]],
        total: int,
        pack: Callable[[Sequence[_Finished]], bytes],
        log: Log,
    ) -> None:
        self._finished = finished
        self._total = total
        self._pack = pack
        self._log = log
        self._lock = threading.Lock()
        self._settled = len(finished())  # what was restored is kept already
        self._packed: Checkpoint | None = None
        self._complained = False

    @property
    def pending(self) -> bool:
        """Whether there is something to be kept. After the last task nothing is left to go on with."""
        return self._settled < len(self._finished()) < self._total

    def due(self) -> Checkpoint | None:
        """The checkpoint to send now. It stays the same until it is settled or another task is finished."""
        with self._lock:
            finished = self._finished()
            if not self._settled < len(finished) < self._total:
                return None
            if self._packed is None or self._packed.tasks != len(finished):
                self._packed = self._made(finished)
            return self._packed

    def settle(self, checkpoint: Checkpoint) -> None:
        """The operator has it, or will never take it."""
        self._settled = max(self._settled, checkpoint.tasks)

    def _made(self, finished: Sequence[_Finished]) -> Checkpoint | None:
        try:
            data = self._pack(finished)
        except Exception as error:
            self._complain("checkpoint_failed", error=type(error).__name__)
        else:
            if len(data) <= STORED_LIMIT_BYTES:
                return Checkpoint(len(finished), Upload.of(data))
            text = f"{len(data)} bytes of finished tasks; {STORED_LIMIT_BYTES} can be kept, so a retry does them again"
            self._complain("checkpoint_too_large", message=text)
        self._settled = len(finished)
        return None

    def _complain(self, event: str, **fields: str) -> None:
        if not self._complained:  # later ones are larger still
            self._complained = True
            self._log(event, level="warning", **fields)

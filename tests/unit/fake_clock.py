"""An event loop whose time passes at once: it jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_BUSY = 2_000


class _Selector(selectors.DefaultSelector):
    now = 1000.0
    _turns = 0  # of the loop, while no time passed

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("the test would wait for ever: nothing is scheduled")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > _BUSY:
            raise RuntimeError("the code under test is busy without end: no time passes")
        self.now += max(timeout, 0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, but no timer takes real time; a test that waits for nothing fails."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)

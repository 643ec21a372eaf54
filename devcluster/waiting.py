"""Waiting for a condition, with a look at whether it can still come true."""

from __future__ import annotations

import time
from collections.abc import Callable

from devcluster.errors import DevClusterError
from devcluster.paths import Layout
from devcluster.processes import Process, alive
from devcluster.progress import tail

PAUSE = 0.05


def wait_ready(process: Process, ready: Callable[[], bool], *, layout: Layout, seconds: float) -> None:
    """Return once `ready` is true; raise at once when the process ends, or when the time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive(process):
            raise failure(process.name, "ended right after its start", layout)
        if time.monotonic() > deadline:
            raise failure(process.name, f"is not ready after {seconds:.0f} s", layout)
        time.sleep(PAUSE)


def failure(component: str, what: str, layout: Layout) -> DevClusterError:
    """An error that shows the end of the component's log."""
    log = layout.logs / f"{component}.log"
    return DevClusterError(
        f"{component} {what}. The end of its log:\n{tail(log)}\n  Whole log: {log}",
        hint="read the log; `python -m devcluster down` clears what is left",
    )

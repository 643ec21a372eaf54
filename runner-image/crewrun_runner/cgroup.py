"""A warning before the kernel kills the runner for its memory."""

import threading
from collections.abc import Callable
from pathlib import Path

from crewrun_runner.streams import Log

_HIGH = 0.9
_EVERY_SECONDS = 2.0
_ROOT = Path("/sys/fs/cgroup")
#: Usage, limit and statistics with the name of what can be given back: of cgroup v2, and of v1.
_FILES = (
    ("memory.current", "memory.max", "memory.stat", "inactive_file"),
    ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def high(usage: int, limit: int) -> str | None:
    """What to say when the limit is near. Pure."""
    if usage < limit * _HIGH:
        return None
    used, most = usage // 2**20, limit // 2**20
    return (
        f"the runner uses {used} MiB of its limit of {most} MiB; above it it is killed: raise "
        "pod.resources.limits.memory, or give retry.outOfMemory"
    )


def read(root: Path = _ROOT) -> tuple[int, int] | None:
    """Memory in use as kubelet counts it, without files that the kernel can drop, and the limit."""
    for usage, limit, statistics, droppable in _FILES:
        try:
            used, most = int((root / usage).read_text()), (root / limit).read_text().strip()
            lines = (line.split() for line in (root / statistics).read_text().splitlines())
            files = next((int(number) for name, number in lines if name == droppable), 0)
        except (OSError, ValueError):
            continue
        return (max(used - files, 0), int(most)) if most.isdigit() else None  # v2 says max for none
    return None


def watch(
    log: Log,
    warn: Callable[[str], None],
    look: Callable[[], tuple[int, int] | None] = read,
    seconds: float = _EVERY_SECONDS,
) -> None:
    """Says it once. A thread that no end waits for; without a limit there is none."""
    if look() is None:
        return

    def until_said() -> None:
        pause = threading.Event()
        while found := look():
            if text := high(*found):
                log("memory_high", level="warning", message=text)
                warn(text)
                return
            pause.wait(seconds)

    threading.Thread(target=until_said, name="crewrun-memory", daemon=True).start()

"""Starts servers that outlive us, and finds and ends exactly those again.

A process is known by its pid, its start time and the machine's boot: a pid alone may be somebody
else's by now. Each also carries the cluster's state folder in its environment, which finds those
that were started in the instant before a crash, when the record was not written yet.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devcluster.errors import DevClusterError

MARK = "CREWRUN_DEVCLUSTER_STATE"
PROC = Path("/proc")
# Seconds a server may take to end by itself. Without etcd the API server would need 16.
GRACE = 10.0


@dataclass(frozen=True)
class Process:
    """One started program. `started` is in clock ticks since boot, as /proc counts."""

    name: str
    pid: int
    started: int
    boot: str
    ports: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Process:
        return cls(data["name"], data["pid"], data["started"], data["boot"], tuple(data["ports"]))


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def parse_stat(text: str) -> tuple[str, int, int]:
    """State, parent and start time from /proc/PID/stat, whose second field may hold anything."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def stat(pid: int) -> tuple[str, int, int] | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (OSError, IndexError, ValueError):
        return None


def alive(process: Process) -> bool:
    """Whether this very process runs: a reused pid is not it, a zombie is no longer running."""
    if process.boot != boot_id():
        return False
    found = stat(process.pid)
    return found is not None and found[0] not in "ZX" and found[2] == process.started


def start(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    state: Path,
    ports: tuple[int, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start a detached program in a session of its own, with its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **(env or {}), MARK: str(state)}
    try:
        # posix_spawn and not Popen: nothing in this process waits for the child.
        pid = os.posix_spawn(
            command[0],
            list(command),
            environment,
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
    except OSError as error:
        raise DevClusterError(f"cannot start {name} ({command[0]}): {error}") from error
    found = stat(pid)
    return Process(name, pid, found[2] if found else 0, boot_id(), ports)


def marked(state: Path) -> list[Process]:
    """Every running process that was started for the cluster in this state folder."""
    mark = f"{MARK}={state}".encode()
    found = []
    for pid in _pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue  # gone by now, or another user's and so not ours
        if mark in environment.split(b"\0") and (process := identify(pid)):
            found.append(process)
    return found


def stop(processes: Sequence[Process], *, grace: float = GRACE) -> None:
    """Ask each to end, wait, then kill the rest. Returns when all are gone."""
    handles = [(process, fd) for process in processes if (fd := _open(process)) is not None]
    try:
        for _, fd in handles:
            _signal(fd, signal.SIGTERM)
        if left := _wait(handles, grace):
            for _, fd in left:
                _signal(fd, signal.SIGKILL)
            if stuck := _wait(left, GRACE):
                names = ", ".join(f"{process.name} (pid {process.pid})" for process, _ in stuck)
                raise DevClusterError(f"these processes do not end, not even when killed: {names}")
    finally:
        for process, fd in handles:
            os.close(fd)
            _reap(process.pid)


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def program_name(arguments: list[str]) -> str:
    """What a process is, from its command line: our one binary says it in its first argument. Pure."""
    name = Path(arguments[0]).name
    return arguments[1] if name == "crewrun-kube" and len(arguments) > 1 else name


def identify(pid: int) -> Process | None:
    """The process as it runs now; None when it has ended."""
    found = stat(pid)
    if found is None or found[0] in "ZX":
        return None
    try:
        arguments = (PROC / str(pid) / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return None
    return Process(program_name(arguments), pid, found[2], boot_id())


def _open(process: Process) -> int | None:
    """A handle on exactly this process: between look and signal the pid cannot change hands."""
    if not alive(process):
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if alive(process):
        return fd
    os.close(fd)
    return None


def _signal(fd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)


def _wait(handles: list[tuple[Process, int]], seconds: float) -> list[tuple[Process, int]]:
    """Those that have not ended in time; a handle becomes readable when its process ends."""
    deadline = time.monotonic() + seconds
    left = list(handles)
    while left and (remaining := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([fd for _, fd in left], [], [], remaining)
        left = [(process, fd) for process, fd in left if fd not in ready]
    return left


def _reap(pid: int) -> None:
    """Collect the process if it is a child of this one (tests start clusters in-process)."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)

"""The node that Pods run on, for tests that kill a runner or stop a component: devcluster's own, or kind's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from devcluster import processes
from devcluster.paths import Layout
from devcluster.record import Record

# In the node's container, where a Pod's processes are processes like any other. The first match is enough.
_SIGNAL = """
for process in /proc/[0-9]*; do
  if tr '\\0' '\\n' 2>/dev/null < "$process/environ" | grep -qxF "$1"; then
    kill -s "$2" "${process#/proc/}"
    exit
  fi
done
echo "no process has $1 in its environment" >&2
exit 1
"""


class Node(Protocol):
    def signal(self, pod_uid: str, number: signal.Signals) -> None:
        """Send a signal to the runner of this Pod."""

    def stopped(self, component: str) -> AbstractContextManager[None]:
        """Within it, containerd or kubelet does not run; after it, it runs as before."""


def mark(pod_uid: str) -> str:
    return f"CREWRUN_POD_UID={pod_uid}"


class NativeNode:
    """The node is this machine, and its components are devcluster's processes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def signal(self, pod_uid: str, number: signal.Signals) -> None:
        os.kill(runner_pid(pod_uid), number)

    @contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        record = Record.load(self._layout)
        running = record.process(component) if record else None
        assert record is not None and running is not None, "the node is devcluster's"
        command = Path(f"/proc/{running.pid}/cmdline").read_text().rstrip("\0").split("\0")
        processes.stop([running])
        try:
            yield
        finally:
            log = self._layout.logs / f"{component}-again.log"
            again = processes.start(component, command, log=log, state=self._layout.state, ports=running.ports)
            record.processes = [again if each is running else each for each in record.processes]
            record.save(self._layout)


def runner_pid(pod_uid: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark(pod_uid).encode() in (process / "environ").read_bytes().split(b"\0"):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"no process of the Pod {pod_uid} runs on this machine")


class KindNode:
    """The node is a container, whose components are services of its systemd."""

    def __init__(self, name: str) -> None:
        self._container = f"{name}-control-plane"

    def signal(self, pod_uid: str, number: signal.Signals) -> None:
        self._exec("sh", "-c", _SIGNAL, "sh", mark(pod_uid), number.name.removeprefix("SIG"))

    @contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        self._exec("systemctl", "stop", component)
        try:
            yield
        finally:
            self._exec("systemctl", "start", component)

    def _exec(self, *command: str) -> None:
        subprocess.run(["docker", "exec", self._container, *command], check=True)


def node_of(kubeconfig: Path) -> Node:
    """The node behind devcluster's kubeconfig, which lies in the cluster's state folder."""
    layout = Layout(kubeconfig.parent.name, kubeconfig.parent)
    record = Record.load(layout)
    provider = record.provider if record else "nobody"
    assert provider in ("native", "kind"), f"this test disturbs the node, and the cluster was made by {provider}"
    return NativeNode(layout) if provider == "native" else KindNode(layout.name)

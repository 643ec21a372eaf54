"""What a node-size cluster changes on the machine besides the network: kernel settings, cgroups,
mounts, folders. Each change has its undoing beside it. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from devcluster import network
from devcluster.errors import DevClusterError
from devcluster.paths import Layout
from devcluster.processes import Process, identify
from devcluster.progress import find_program, run_quick
from devcluster.record import Record

CGROUPS = Path("/sys/fs/cgroup")
NETWORK_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
# The runtime, its network plugins and the kubelet make these, and nobody can tell them not to.
FOLDERS = tuple(
    Path(name)
    for name in (
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
        "/var/log/containers",
        "/run/containerd/s",
        "/run/containerd",
        "/run/crewrun",
    )
)
MNT_DETACH = 2
SYSCTL = Path("/proc/sys")
# The first by us, the others by the kubelet when it starts; `down` puts the old values back.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


# --- kernel settings


def read_sysctls() -> dict[str, str]:
    return {name: (SYSCTL / name).read_text().strip() for name in SYSCTLS if (SYSCTL / name).exists()}


def set_sysctl(name: str, value: str) -> None:
    path = SYSCTL / name
    if path.read_text().strip() == value:
        return
    try:
        path.write_text(value)
    except OSError as error:
        raise DevClusterError(
            f"cannot set {path} to {value}: {error}", hint="pods need it; set it from outside this container or sandbox"
        ) from error


def restore_sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        try:
            if (SYSCTL / name).read_text().strip() != value:
                (SYSCTL / name).write_text(value)
        except OSError:
            pass  # not ours to change on this machine: then it was not changed either


# --- cgroups


def cgroup_roots(name: str) -> list[Path]:
    """Our cgroup in each hierarchy: one on a v2 machine, one a controller on a v1 machine."""
    if not CGROUPS.is_dir():
        return []
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / name]
    return [
        entry / name
        for entry in sorted(CGROUPS.iterdir())
        if (entry / "cgroup.procs").exists() and not entry.is_symlink()
    ]


def make_cgroups(name: str) -> None:
    """The kubelet wants its root to exist."""
    for root in cgroup_roots(name):
        root.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # v1 takes no process while these are empty
            if (root / setting).exists() and not (root / setting).read_text().strip():
                (root / setting).write_text((root.parent / setting).read_text())


def cgroup_processes(name: str) -> list[Process]:
    """Every process in our cgroups: the containers', whoever their parent is by now."""
    pids = {
        int(pid)
        for root in cgroup_roots(name)
        for procs in root.rglob("cgroup.procs")
        for pid in procs.read_text().split()
    }
    return [process for pid in sorted(pids) if (process := identify(pid))]


def remove_cgroups(name: str) -> None:
    deadline = time.monotonic() + 10.0
    for root in cgroup_roots(name):
        for folder, _, _ in os.walk(root, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                    break
                except OSError:  # busy for a moment after its last process ended
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)


# --- folders


def missing_folders() -> list[str]:
    return [str(folder) for folder in FOLDERS if not folder.exists()]


def remove_folders(names: Iterable[str]) -> None:
    """Remove those that were not there before, unless somebody else put something in."""
    for folder in map(Path, names):
        for leftover in (*folder.glob("kubelet_internal_checkpoint"), *folder.glob("kubelet.sock")):
            leftover.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()


# --- containers


def ctr(socket: Path, *arguments: str, check: bool = True, timeout: float = 600.0) -> str:
    return run_quick(
        ["ctr", "-a", str(socket), "-n", "k8s.io", *arguments],
        check=check,
        what="asking containerd",
        hint="python -m devcluster status",
        timeout=timeout,
    ).stdout


def delete_tasks(socket: Path) -> None:
    """Let containerd itself take its containers down, if it still can: it knows best what to clean."""
    if not socket.exists() or not find_program("ctr"):
        return
    # A containerd that hangs must not hold up `down`: what is left is killed afterwards.
    if tasks := ctr(socket, "tasks", "ls", "-q", check=False, timeout=10.0).split():
        ctr(socket, "tasks", "delete", "--force", *tasks, check=False, timeout=30.0)


def shim_sockets(layout: Layout) -> list[Path]:
    """Sockets of our shims: they lie in a folder that all containerds share."""
    written = (layout.run / "containerd/io.containerd.runtime.v2.task/k8s.io").glob("*/address")
    return [Path(path.read_text().strip().removeprefix("unix://")) for path in written]


def network_results(names: Iterable[str], bridge: str) -> set[str]:
    """Those files of the network plugins' shared cache that are about our pods. Pure.

    NETWORK-SANDBOX-eth0 is ours by its name, and then so is cni-loopback-SANDBOX-lo.
    """
    listed = list(names)
    sandboxes = {name.split("-")[-2] for name in listed if name.startswith(f"{bridge}-")}
    return {name for name in listed if name.count("-") >= 2 and name.split("-")[-2] in sandboxes}


# --- mounts


def parse_mounts(mountinfo: str, below: Iterable[Path]) -> list[str]:
    """Mount points under these folders, the latest first: the order in which to unmount. Pure."""
    roots = tuple(f"{path}/" for path in below)
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines() if line]
    return [point for point in reversed(points) if point.startswith(roots)]


def unmount_below(folders: Iterable[Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for point in parse_mounts(Path("/proc/self/mountinfo").read_text(), folders):
        # Detach: what a dying process still holds must not keep the folder in place.
        if libc.umount2(os.fsencode(point), MNT_DETACH) != 0 and os.path.ismount(point):
            raise DevClusterError(f"cannot unmount {point}: {os.strerror(ctypes.get_errno())}")


def remove_node_traces(layout: Layout, record: Record | None) -> None:
    """Everything outside the state folder, after the processes are gone."""
    if not layout.run.exists() and not (record and record.subnet):
        return
    sockets = shim_sockets(layout)
    unmount_below([layout.state, layout.run])
    network.remove_bridge(layout.bridge)
    network.remove_tables([layout.bridge, "kube-proxy"])
    remove_cgroups(layout.bridge)
    if record:
        restore_sysctls(record.sysctls)
    for link in CONTAINER_LOGS.glob("*.log") if CONTAINER_LOGS.is_dir() else []:
        if link.is_symlink() and str(link.readlink()).startswith(f"{layout.pod_logs}/"):
            link.unlink()
    if NETWORK_RESULTS.is_dir():
        for name in network_results([entry.name for entry in NETWORK_RESULTS.iterdir()], layout.bridge):
            (NETWORK_RESULTS / name).unlink()
    for socket in sockets:
        socket.unlink(missing_ok=True)
    if layout.run.exists():
        shutil.rmtree(layout.run)
    if record:
        remove_folders(record.folders)

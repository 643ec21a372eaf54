"""Removes what `up` made. Works from the record, and without it from what bears the cluster's name.

Every step accepts that its object is gone already: `down` after a crash, or twice, is the same call.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from devcluster import host
from devcluster.paths import Layout
from devcluster.processes import Process, marked, stop
from devcluster.progress import say
from devcluster.record import Record

# Each group ends before the next is told to: without etcd the API server would need 16 s to give
# up, and without the API server its clients only fill their logs.
ORDER = (
    {"kwok", "coredns", "kube-proxy", "kubelet", "kube-scheduler", "kube-controller-manager"},
    {"kube-apiserver"},
    {"etcd"},
)


def stop_groups(processes: Sequence[Process]) -> list[list[Process]]:
    """The processes in the order in which to stop them; those without a place come last. Pure."""
    placed = set().union(*ORDER)
    groups = [[process for process in processes if process.name in names] for names in ORDER]
    groups.append([process for process in processes if process.name not in placed])
    return [group for group in groups if group]


def stop_servers(layout: Layout, record: Record | None) -> None:
    """End every process of the cluster, containers included."""
    if record is None or record.size == "node":
        host.delete_tasks(layout.containerd_socket)
    # The mark finds what the record missed, started just before a crash; and containerd's shims.
    found = {process.pid: process for process in [*marked(layout.state), *(record.processes if record else [])]}
    for group in stop_groups(list(found.values())):
        stop(group)
    # Containers whose runtime is gone: nobody is left to see them end well.
    stop(host.cgroup_processes(layout.bridge), grace=0.0)


def remove_all(layout: Layout, record: Record | None, *, keep_logs: bool = False) -> None:
    """Stop everything and remove every trace; with `keep_logs`, leave the logs for a person to read."""
    stop_servers(layout, record)
    if record is None or record.size == "node":
        host.remove_node_traces(layout, record)
    remove_files(layout, keep_logs=keep_logs)


def remove_files(layout: Layout, *, keep_logs: bool = False) -> None:
    """Delete what is ours in the state folder, and the folder when that was all."""
    for path in layout.owned():
        if keep_logs and path == layout.logs:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    try:
        layout.state.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        if not keep_logs:
            say(f"{layout.state} holds files that are not devcluster's: left as they are")

"""The node of a node-size cluster: network, containerd, kubelet, kube-proxy, CoreDNS. Needs root."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from devcluster import components, host, network, packages
from devcluster.api import Api
from devcluster.binaries import Binaries
from devcluster.components import Plan
from devcluster.control_plane import PATIENCE, await_healthy, launch, node_ready
from devcluster.documents import PAUSE_IMAGE, coredns_rbac
from devcluster.errors import DevClusterError
from devcluster.images import Image, build_image
from devcluster.loading import load_missing
from devcluster.paths import GO_MODULE, Layout, cache_dir
from devcluster.progress import SYSTEM_PATH
from devcluster.record import Record
from devcluster.tools import ensure_tool
from devcluster.waiting import wait_ready

COMPONENTS = ("containerd", "kubelet", "kube-proxy", "coredns")


def prepare(layout: Layout, binaries: Binaries) -> None:
    """Everything that takes long or may fail for good, before anything is made on the machine."""
    refuse_second_node(layout)
    packages.ensure(packages.NODE)
    ensure_tool("coredns")
    pause_archive(binaries)


def refuse_second_node(layout: Layout) -> None:
    """kube-proxy owns one table of the whole machine, so there is one node on it at a time."""
    for owner in layout.run.parent.glob("*/owner"):
        if owner.parent != layout.run:
            other = owner.read_text().strip()
            raise DevClusterError(
                f"another node-size cluster is on this machine, or crashed on it: {other}.",
                hint=f"python -m devcluster down --state-dir {other}",
            )
    if any(name == "kube-proxy" for _, name in network.tables()) and not layout.run.exists():
        raise DevClusterError(
            "another Kubernetes node runs on this machine: its kube-proxy has nftables rules here.",
            hint="use that cluster with CLUSTER=current KUBE_CONTEXT=NAME, or --size control-plane",
        )


def pause_archive(binaries: Binaries) -> Path:
    """The image of a Pod's sandbox: one static program, from scratch."""
    archive = cache_dir() / "images" / "pause.tar"
    build_image(Image(GO_MODULE / "pause" / "Dockerfile", binaries.pause.parent, PAUSE_IMAGE, archive, only=("pause",)))
    return archive


def make_network(plan: Plan, record: Record) -> None:
    """The bridge and what lets packets pass; recorded before it is made."""
    layout = plan.layout
    record.sysctls = host.read_sysctls()
    record.folders = host.missing_folders()
    record.save(layout)
    layout.run.mkdir(parents=True, mode=0o700, exist_ok=True)
    (layout.run / "owner").write_text(f"{layout.state}\n")
    network.add_bridge(layout.bridge, plan.subnet)
    network.add_nat(layout.bridge, plan.subnet)
    host.set_sysctl("net/ipv4/ip_forward", "1")
    host.make_cgroups(layout.bridge)


def start_node(plan: Plan, record: Record, binaries: Binaries) -> None:
    """On return the node takes Pods, service addresses work and names resolve."""
    layout = plan.layout
    api = Api.from_file(layout.kubeconfig)
    env = {"PATH": SYSTEM_PATH}
    runtime = launch(
        plan, record, "containerd", [packages.program("containerd"), *components.containerd(plan)], env=env
    )
    await_healthy(plan, runtime)
    load(layout, record, [pause_archive(binaries)])
    for path, document in coredns_rbac():
        api.apply(path, document)
    started = [
        launch(
            plan,
            record,
            "kubelet",
            components.kube_command(binaries.kube, "kubelet", components.kubelet(plan)),
            "kubelet-healthz",
            env=env,
        ),
        launch(
            plan,
            record,
            "kube-proxy",
            components.kube_command(binaries.kube, "kube-proxy", components.kube_proxy(plan)),
            "proxy-healthz",
            "proxy-metrics",
            env=env,
        ),
        launch(plan, record, "coredns", [str(ensure_tool("coredns")), *components.coredns(plan)], "coredns-health"),
    ]
    for process in started:
        await_healthy(plan, process)
    wait_ready(started[0], partial(node_ready, api, plan.node), layout=layout, seconds=PATIENCE)


def load(layout: Layout, record: Record, archives: Sequence[Path]) -> None:
    """Import images into the node's containerd."""
    present = set(host.ctr(layout.containerd_socket, "images", "ls", "-q").split())
    load_missing(
        layout,
        record,
        archives,
        present,
        lambda archive: host.ctr(
            layout.containerd_socket, "images", "import", "--snapshotter", "overlayfs", str(archive.absolute())
        ),
    )

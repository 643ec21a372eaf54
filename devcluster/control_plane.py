"""Starts etcd, the API server, the controller manager and the scheduler, and kwok when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from devcluster import components
from devcluster.api import Api
from devcluster.binaries import Binaries
from devcluster.components import Plan
from devcluster.documents import fake_node
from devcluster.health import healthy
from devcluster.processes import Process, start
from devcluster.record import Record
from devcluster.waiting import wait_ready

# Seconds until a component counts as stuck: long, since a loaded machine is slow and not broken.
PATIENCE = 90.0


def launch(
    plan: Plan, record: Record, name: str, command: Sequence[str], *ports: str, env: Mapping[str, str] | None = None
) -> Process:
    """Start one component and write it down."""
    layout = plan.layout
    process = start(
        name,
        command,
        log=layout.logs / f"{name}.log",
        state=layout.state,
        env=env,
        ports=tuple(plan.ports[port] for port in ports),
    )
    record.processes.append(process)
    record.save(layout)
    return process


def await_healthy(plan: Plan, process: Process) -> None:
    wait_ready(process, lambda: healthy(process, plan.layout), layout=plan.layout, seconds=PATIENCE)


def start_control_plane(plan: Plan, record: Record, binaries: Binaries) -> None:
    """On return the API server is ready and the namespace `default` can take Pods."""

    def kube(program: str, arguments: list[str], *ports: str) -> Process:
        return launch(plan, record, program, components.kube_command(binaries.kube, program, arguments), *ports)

    plan.layout.etcd.mkdir(mode=0o700, parents=True, exist_ok=True)
    etcd = kube("etcd", components.etcd(plan), "etcd", "etcd-peer")
    # Started together: the API server keeps trying until etcd answers.
    apiserver = kube("kube-apiserver", components.kube_apiserver(plan), "apiserver")
    await_healthy(plan, etcd)
    await_healthy(plan, apiserver)
    manager = kube("kube-controller-manager", components.kube_controller_manager(plan), "controller-manager")
    scheduler = kube("kube-scheduler", components.kube_scheduler(plan), "scheduler")
    await_healthy(plan, scheduler)
    api = Api.from_file(plan.layout.kubeconfig)
    # Without this account the API server refuses every Pod in the namespace.
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_ready(manager, lambda: api.ok(account), layout=plan.layout, seconds=PATIENCE)


def start_kwok(plan: Plan, record: Record, binary: Path, stages: Path, nodes: int) -> None:
    """Start kwok with the caller's stages and make its nodes; on return they take Pods."""
    api = Api.from_file(plan.layout.kubeconfig)
    process = launch(plan, record, "kwok", [str(binary), *components.kwok(plan, stages.absolute())], "kwok")
    await_healthy(plan, process)
    names = []
    for number in range(nodes):
        node = fake_node(number)
        names.append(node["metadata"]["name"])
        api.apply(f"/api/v1/nodes/{names[-1]}", node)
    for name in names:
        wait_ready(process, partial(node_ready, api, name), layout=plan.layout, seconds=PATIENCE)


def node_ready(api: Api, name: str) -> bool:
    """Ready, and no longer tainted as not ready: only then does the scheduler use it."""
    node = api.get(f"/api/v1/nodes/{name}")
    if node is None:
        return False
    conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
    taints = [taint["key"] for taint in node["spec"].get("taints", [])]
    return conditions.get("Ready") == "True" and "node.kubernetes.io/not-ready" not in taints

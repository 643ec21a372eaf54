"""The provider that needs no Docker: Kubernetes' own programs as plain processes on this machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devcluster import network, node
from devcluster.binaries import ensure_kube
from devcluster.cleanup import remove_all
from devcluster.components import PORTS, Plan
from devcluster.control_plane import start_control_plane, start_kwok
from devcluster.errors import DevClusterError
from devcluster.files import write_configs, write_pki
from devcluster.health import healthy
from devcluster.locks import locked
from devcluster.paths import Layout
from devcluster.ports import take_ports
from devcluster.progress import say
from devcluster.provider import ComponentStatus, Size, Status, UpOptions
from devcluster.record import Record, refuse_foreign_folder
from devcluster.tools import ensure_tool


def settings(options: UpOptions) -> dict[str, Any]:
    """What makes one `up` different from another, in the form in which it is recorded."""
    stages = options.kwok_config
    return {
        "size": options.size,
        "apiserver_args": list(options.apiserver_args),
        "kwok_config": hashlib.sha256(stages.read_bytes()).hexdigest() if stages else "",
        "kwok_nodes": options.kwok_nodes,
    }


class Native:
    name = "native"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def why_not(self, size: Size) -> str | None:
        if platform.system() != "Linux":
            return f"it runs on Linux, this is {platform.system()}"
        if size == "node" and os.geteuid() != 0:
            return (
                "a node needs root (containers, a network bridge); the control plane alone does not: "
                "--size control-plane"
            )
        return None

    def up(self, options: UpOptions) -> None:
        layout = self.layout
        check(options)
        with locked(layout.lock, waiting_for=f"working on cluster {layout.name!r}"):
            record = Record.load(layout)
            if record and record.ready and all(healthy(process, layout) for process in record.processes):
                if record.settings != settings(options):
                    raise DevClusterError(
                        f"cluster {layout.name!r} is up with other settings: {record.settings}.",
                        hint=f"python -m devcluster down --name {layout.name}, then up again",
                    )
                say(f"cluster {layout.name!r} is up already")
                return
            refuse_foreign_folder(layout.state)
            if record or layout.state.exists():
                say("clearing what the last run left")
                remove_all(layout, record)
            self._make(options)

    def _make(self, options: UpOptions) -> None:
        layout = self.layout
        binaries = ensure_kube()
        kwok = ensure_tool("kwok") if options.kwok_config else None
        if options.size == "node":
            node.prepare(layout, binaries)
        record = Record(self.name, options.size, settings=settings(options))
        record.save(layout)
        try:
            plan = self._plan(options, record)
            write_pki(plan)
            write_configs(plan)
            if options.size == "node":
                node.make_network(plan, record)
            start_control_plane(plan, record, binaries)
            if options.size == "node":
                node.start_node(plan, record, binaries)
            if kwok and options.kwok_config:
                start_kwok(plan, record, kwok, options.kwok_config, options.kwok_nodes)
        except BaseException:
            # The logs stay: the error names them. The next `up` or `down` removes them.
            remove_all(layout, record, keep_logs=True)
            Record(self.name, options.size).save(layout)
            raise
        record.ready = True
        record.save(layout)

    def _plan(self, options: UpOptions, record: Record) -> Plan:
        ports = take_ports(PORTS)
        if options.size == "control-plane":
            return Plan(self.layout, ports, apiserver_args=options.apiserver_args)
        record.subnet = network.free_subnet(network.used_networks())
        return Plan(
            self.layout,
            {**ports, "apiserver": 6443},
            node=f"{self.layout.name}-node",
            address=network.gateway(record.subnet),
            subnet=record.subnet,
            apiserver_args=options.apiserver_args,
        )

    def down(self) -> None:
        if platform.system() != "Linux":
            return  # nothing of ours can be here
        with locked(self.layout.lock, waiting_for=f"working on cluster {self.layout.name!r}"):
            remove_all(self.layout, Record.load(self.layout))

    def status(self) -> Status:
        record = Record.load(self.layout)
        if record is None:
            return Status(self.name, up=False)
        found = tuple(
            ComponentStatus(
                process.name,
                healthy(process, self.layout),
                f"pid {process.pid} ports {','.join(map(str, process.ports)) or '-'}",
            )
            for process in record.processes
        )
        return Status(self.name, up=record.ready and all(entry.healthy for entry in found), components=found)

    def load(self, archives: Sequence[Path]) -> None:
        with locked(self.layout.lock, waiting_for=f"working on cluster {self.layout.name!r}"):
            record = Record.load(self.layout)
            if record is None or record.size != "node":
                raise DevClusterError(
                    f"cluster {self.layout.name!r} has no node that could run images.",
                    hint="python -m devcluster up --size node",
                )
            node.load(self.layout, record, archives)

    def kubeconfig(self) -> Path:
        if not self.layout.kubeconfig.exists():
            raise DevClusterError(
                f"cluster {self.layout.name!r} is not up: no {self.layout.kubeconfig}.", hint="python -m devcluster up"
            )
        return self.layout.kubeconfig

    def audit_log(self) -> Path:
        self.kubeconfig()
        return self.layout.audit_log


def check(options: UpOptions) -> None:
    """Refuse what cannot work before anything is made."""
    if options.kwok_config is None:
        return
    if options.size != "control-plane":
        raise DevClusterError("kwok's fake nodes are for --size control-plane: a real node would mix with them.")
    if not options.kwok_config.is_file():
        raise DevClusterError(f"--kwok-config: there is no file {options.kwok_config}.")

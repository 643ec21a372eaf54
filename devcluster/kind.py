"""The provider for people with Docker: a kind cluster with our configuration file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from devcluster import audit
from devcluster.api import Api
from devcluster.cleanup import remove_files
from devcluster.errors import DevClusterError
from devcluster.files import write
from devcluster.images import docker_is_up
from devcluster.loading import load_missing
from devcluster.locks import locked
from devcluster.paths import PACKAGE, Layout
from devcluster.progress import run_long, run_quick, say
from devcluster.provider import ComponentStatus, Size, Status, UpOptions
from devcluster.record import Record, refuse_foreign_folder
from devcluster.tools import ensure_tool

CONFIG = PACKAGE / "kind.yaml"
# Seconds for the node to be ready; pulling its image comes before and is not counted.
WAIT = "180s"


def cluster_config(base: Mapping[str, Any], options: UpOptions, audit_policy: Path) -> dict[str, Any]:
    """Our file, with an audit log and what the command line adds for the API server. Pure."""
    config = copy.deepcopy(dict(base))
    given = {key: value for key, _, value in (pair.partition("=") for pair in options.apiserver_args)}
    server = {"extraArgs": {**audit.kind_flags(), **given}, "extraVolumes": audit.kind_volumes()}
    patch = {"kind": "ClusterConfiguration", "apiServer": server}
    config["kubeadmConfigPatches"] = [yaml.safe_dump(patch, sort_keys=False)]
    for node in config["nodes"]:
        if node["role"] == "control-plane":
            node["extraMounts"] = [*node.get("extraMounts", []), audit.kind_mount(audit_policy)]
    return config


def create_command(kind: Path, layout: Layout) -> list[str]:
    return [
        str(kind),
        "create",
        "cluster",
        "--name",
        layout.name,
        "--config",
        str(layout.config / "kind.yaml"),
        "--kubeconfig",
        str(layout.kubeconfig),
        "--wait",
        WAIT,
    ]


def load_command(kind: Path, name: str, archive: Path) -> list[str]:
    return [str(kind), "load", "image-archive", str(archive.absolute()), "--name", name]


class Kind:
    name = "kind"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def why_not(self, size: Size) -> str | None:
        return None if docker_is_up() else "it needs Docker, and `docker info` finds no running one"

    def up(self, options: UpOptions) -> None:
        layout = self.layout
        if options.kwok_config:
            raise DevClusterError(
                "kwok comes with the native control plane only.",
                hint="on Linux: CLUSTER=native python -m devcluster up --size control-plane ...",
            )
        settings = {"size": options.size, "apiserver_args": list(options.apiserver_args)}
        kind = ensure_tool("kind")
        with locked(layout.lock, waiting_for=f"working on cluster {layout.name!r}"):
            record = Record.load(layout)
            there = self._exists(kind)
            if record and record.ready and there and record.settings == settings and self._answers():
                say(f"cluster {layout.name!r} is up already")
                return
            if record is None and there:
                raise DevClusterError(
                    f"a kind cluster named {layout.name!r} is there that devcluster did not make.",
                    hint=f"choose another with --name, or use it: CLUSTER=current KUBE_CONTEXT=kind-{layout.name}",
                )
            refuse_foreign_folder(layout.state)
            if there:
                say("removing what the last run left")
                self._delete(kind)
            record = Record(self.name, options.size, settings=settings)
            record.save(layout)
            policy = layout.config / audit.POLICY_FILE
            write(policy, audit.policy())
            write(layout.config / "kind.yaml", cluster_config(yaml.safe_load(CONFIG.read_text()), options, policy))
            run_long(
                create_command(kind, layout),
                what=f"making the kind cluster {layout.name}",
                log=layout.logs / "kind.log",
                hint="read the output above; the node's image is pulled from a "
                "registry: without one use CLUSTER=native",
            )
            record.ready = True
            record.save(layout)

    def down(self) -> None:
        with locked(self.layout.lock, waiting_for=f"working on cluster {self.layout.name!r}"):
            if Record.load(self.layout):
                self._delete(ensure_tool("kind"))
            remove_files(self.layout)

    def status(self) -> Status:
        record = Record.load(self.layout)
        answers = self._answers()
        return Status(
            self.name,
            up=bool(record and record.ready and answers),
            components=(ComponentStatus("kube-apiserver", answers, f"node {self.layout.name}-control-plane"),),
        )

    def load(self, archives: Sequence[Path]) -> None:
        name = self.layout.name
        listing = ["docker", "exec", f"{name}-control-plane", "ctr", "-n", "k8s.io", "images", "ls", "-q"]
        with locked(self.layout.lock, waiting_for=f"working on cluster {name!r}"):
            record = Record.load(self.layout)
            if record is None:
                raise DevClusterError(f"cluster {name!r} is not up.", hint="python -m devcluster up")
            kind = ensure_tool("kind")
            present = set(run_quick(listing, what="listing the node's images").stdout.split())

            def load(archive: Path) -> None:
                run_quick(load_command(kind, name, archive), what=f"loading {archive}")

            load_missing(self.layout, record, archives, present, load)

    def kubeconfig(self) -> Path:
        if not self.layout.kubeconfig.exists():
            raise DevClusterError(f"cluster {self.layout.name!r} is not up.", hint="python -m devcluster up")
        return self.layout.kubeconfig

    def audit_log(self) -> Path:
        """A copy: in the node it is root's."""
        self.kubeconfig()
        folder = self.layout.audit_log.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        source = f"{self.layout.name}-control-plane:{audit.KIND_LOGS}/."
        run_quick(["docker", "cp", "--quiet", source, str(folder)], what="copying the audit log out of kind's node")
        return self.layout.audit_log

    def _exists(self, kind: Path) -> bool:
        return self.layout.name in run_quick([str(kind), "get", "clusters"], what="kind get clusters").stdout.split()

    def _delete(self, kind: Path) -> None:
        run_quick(
            [str(kind), "delete", "cluster", "--name", self.layout.name, "--kubeconfig", str(self.layout.kubeconfig)],
            what=f"removing the kind cluster {self.layout.name}",
        )

    def _answers(self) -> bool:
        return self.layout.kubeconfig.exists() and Api.from_file(self.layout.kubeconfig).ok("/readyz")

"""The provider that makes nothing: a cluster of the person's own, and only one that was named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.cleanup import remove_files
from devcluster.errors import DevClusterError
from devcluster.files import write
from devcluster.paths import Layout
from devcluster.progress import run_quick, say
from devcluster.provider import ComponentStatus, Size, Status, UpOptions
from devcluster.record import Record, refuse_foreign_folder
from devcluster.tools import ensure_tool


class Current:
    name = "current"

    def __init__(self, layout: Layout, env: Mapping[str, str] | None = None) -> None:
        self.layout = layout
        self.env = os.environ if env is None else env

    def why_not(self, size: Size) -> str | None:
        if self.env.get("CLUSTER") != self.name:
            return "a cluster of yours is used only when you name it: CLUSTER=current KUBE_CONTEXT=NAME"
        if not self.env.get("KUBE_CONTEXT"):
            return "KUBE_CONTEXT must name the context to use (kubectl config get-contexts -o name)"
        return None

    def up(self, options: UpOptions) -> None:
        """Keep a kubeconfig of the named context alone, and look whether the cluster answers."""
        context = self.env["KUBE_CONTEXT"]
        if options.apiserver_args or options.kwok_config:
            raise DevClusterError(
                "--apiserver-arg and --kwok-config change a cluster; this one is yours.",
                hint="leave them out, or use CLUSTER=native",
            )
        record = Record.load(self.layout)
        settings = {"context": context}
        if record and record.settings != settings:
            raise DevClusterError(
                f"{self.layout.name!r} stands for another context: {record.settings}.",
                hint=f"python -m devcluster down --name {self.layout.name} (removes nothing of it)",
            )
        refuse_foreign_folder(self.layout.state)
        view = run_quick(
            [str(ensure_tool("kubectl")), "config", "view", "--raw", "--minify", "--flatten", "--context", context],
            what=f"reading the context {context}",
            hint="kubectl config get-contexts -o name",
        )
        Record(self.name, options.size, settings=settings).save(self.layout)
        write(self.layout.kubeconfig, view.stdout)
        if not self._answers():
            remove_files(self.layout)
            raise DevClusterError(
                f"the cluster of the context {context} does not answer.",
                hint=f"kubectl --context {context} get --raw /readyz",
            )
        Record(self.name, options.size, ready=True, settings=settings).save(self.layout)

    def down(self) -> None:
        remove_files(self.layout)
        say("the cluster is yours: nothing in it was removed")

    def status(self) -> Status:
        record = Record.load(self.layout)
        up = record is not None and self._answers()
        context = record.settings.get("context", "") if record else ""
        return Status(self.name, up=up, components=(ComponentStatus("kube-apiserver", up, f"context {context}"),))

    def load(self, archives: Sequence[Path]) -> None:
        raise DevClusterError(
            "devcluster cannot put images into a cluster of yours.",
            hint="push them where its nodes can pull: docker load -i TAR; docker tag IMAGE REGISTRY/IMAGE; "
            "docker push REGISTRY/IMAGE; then install with that image name",
        )

    def kubeconfig(self) -> Path:
        if not self.layout.kubeconfig.exists():
            raise DevClusterError(
                "no context was taken yet.", hint="CLUSTER=current KUBE_CONTEXT=NAME python -m devcluster up"
            )
        return self.layout.kubeconfig

    def audit_log(self) -> Path:
        raise DevClusterError(
            "the audit log of a cluster of yours is where its administrator keeps it.",
            hint="CLUSTER=native or CLUSTER=kind makes a cluster with one",
        )

    def _answers(self) -> bool:
        """By kubectl: a context of the person's may log in in ways that only kubectl knows."""
        return (
            run_quick(
                [
                    str(ensure_tool("kubectl")),
                    "--kubeconfig",
                    str(self.layout.kubeconfig),
                    "get",
                    "--raw",
                    "/readyz",
                    "--request-timeout=10s",
                ],
                what="asking the cluster",
                check=False,
            ).returncode
            == 0
        )

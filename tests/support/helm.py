"""Helm as people use it, on the cluster of the tests."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.tools import ensure_tool
from tests.support.kube import Document, Kube

#: Objects without a namespace that a chart could make.
CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class Release:
    """One release, there or not."""

    def __init__(self, kube: Kube, name: str, namespace: str) -> None:
        self._kube, self.name, self.namespace = kube, name, namespace

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of helm about this release, whatever comes of it."""
        where = ["--kubeconfig", str(self._kube.kubeconfig), "--namespace", self.namespace]
        line = [str(ensure_tool("helm")), *command.split(), self.name, *arguments, *where]
        return subprocess.run(line, capture_output=True, text=True, timeout=400)

    def helm(self, command: str, *arguments: str) -> str:
        """What helm printed; an error is the test's error."""
        done = self.run(command, *arguments)
        assert done.returncode == 0, f"helm {command} {self.name} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, chart: Path, values: Mapping[str, Any], *flags: str) -> None:
        self.helm("install", str(chart), *_waiting(values), *flags)

    def upgrade(self, chart: Path, values: Mapping[str, Any], *flags: str) -> None:
        """With these values alone, whatever the release had before."""
        self.helm("upgrade", str(chart), "--reset-values", *_waiting(values), *flags)

    @property
    def values(self) -> Document:
        """What it was installed with."""
        found: Document = json.loads(self.helm("get values", "-o", "json")) or {}
        return found

    @property
    def objects(self) -> list[Document]:
        """What it made, hooks apart."""
        return [each for each in yaml.safe_load_all(self.helm("get manifest")) if each]


def _waiting(values: Mapping[str, Any]) -> list[str]:
    given = [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
    return [*given, "--wait", "--timeout", "3m"]

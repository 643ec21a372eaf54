"""The commands of the documents, run as they stand there from the root of a checkout."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.install import as_arguments, values
from devcluster.tools import ensure_tool
from tests.support.doc_commands import scripts
from tests.support.helm import Release
from tests.support.kube import Kube

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
SCRIPTS = [
    pytest.param(script, id=f"{document.relative_to(ROOT)}:{name}")
    for document in DOCUMENTS
    for name, script in scripts(document).items()
]
#: The images of a checkout have other names than those of a release, and a document speaks of the latter.
HELM = """#!/bin/sh
case "$1" in
  install | upgrade | template) exec {helm} "$@" {images} ;;
  *) exec {helm} "$@" ;;
esac
"""


@pytest.fixture
def environment(kube: Kube, release: Release, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell's: its own kubeconfig, which commands may change, and the tools of the cluster. What the commands leave
    is taken away again."""
    before = namespaces(kube)
    (tmp_path / "kubeconfig").write_text(kube.kubeconfig.read_text())
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(ensure_tool("kubectl"))
    images = " ".join(as_arguments(values()))
    (tools / "helm").write_text(HELM.format(helm=ensure_tool("helm"), images=images))
    (tools / "helm").chmod(0o755)
    yield {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PATH": f"{tools}:{os.environ['PATH']}"}
    for namespace in namespaces(kube) - before:
        kube.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_of_a_document_do_what_it_says(environment: dict[str, str], script: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def namespaces(kube: Kube) -> set[str]:
    return set(kube.kubectl("get", "namespaces", "-o", "name").replace("namespace/", "").split())

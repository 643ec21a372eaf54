"""The CRDs of other projects, from their Go modules at a pinned version.

Go downloads a module once a machine, and checks it against the public checksum database.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from devcluster.binaries import find_go, go_environment
from tests.support.kube import Document, Kube


@dataclass(frozen=True, slots=True)
class Source:
    """Where a project keeps its CRDs."""

    module: str
    version: str
    files: str = ""  # a glob below the module's root
    package: str = ""  # or the Go package that its CRDs are generated from, where the module carries none


SOURCES = {
    "argo-cd": Source("github.com/argoproj/argo-cd/v3", "v3.5.7", "manifests/crds/*-crd.yaml"),
    "cert-manager": Source("github.com/cert-manager/cert-manager", "v1.21.2", "deploy/crds/*.yaml"),
    "external-secrets": Source(
        "github.com/external-secrets/external-secrets", "v1.3.2", "config/crds/bases/external-secrets.io_*.yaml"
    ),
    "flux-helm": Source("github.com/fluxcd/helm-controller/api", "v1.4.5", package="./v2"),
    "flux-kustomize": Source("github.com/fluxcd/kustomize-controller", "v1.9.6", "config/crd/bases/*.yaml"),
    "flux-source": Source("github.com/fluxcd/source-controller", "v1.9.6", "config/crd/bases/*.yaml"),
    "karpenter": Source("sigs.k8s.io/karpenter", "v1.8.2", "pkg/apis/crds/*.yaml"),
    "keda": Source("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_*.yaml"),
    "kueue": Source("sigs.k8s.io/kueue", "v0.15.0", "config/components/crd/bases/kueue.x-k8s.io_*.yaml"),
    "prometheus-operator": Source(
        "github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd/*.yaml"
    ),
    "sealed-secrets": Source("github.com/bitnami-labs/sealed-secrets", "v0.40.0", "helm/sealed-secrets/crds/*.yaml"),
}

#: What the projects themselves make their CRDs with.
CONTROLLER_GEN = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.19.0"


class _Loader(yaml.CSafeLoader):
    """PyYAML takes a lone `=` for YAML 1.1's value type, and has no constructor for it; Kubernetes reads text."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


def crds(project: str) -> list[Document]:
    """The CRD documents of a project, by its name in `SOURCES`."""
    source = SOURCES[project]
    module = Path(json.loads(_go("mod", "download", "-json", f"{source.module}@{source.version}"))["Dir"])
    if source.package:
        texts = [_go("run", CONTROLLER_GEN, "crd", f"paths={source.package}", "output:stdout", folder=module)]
    else:
        texts = [path.read_text() for path in sorted(module.glob(source.files))]
    found = [document for text in texts for document in yaml.load_all(text, _Loader) if document]
    assert found, f"{source.module}@{source.version} has no CRDs at {source.files or source.package}"
    return found


def _go(*arguments: str, folder: Path | None = None) -> str:
    go, _ = find_go()
    done = subprocess.run(
        [str(go), *arguments], env=go_environment(), cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"go {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def install_crds(kube: Kube, projects: Iterable[str]) -> None:
    """Have the API server know the kinds of these projects. Server-side: some are too large for the annotation that
    `kubectl apply` leaves otherwise."""
    items = {"apiVersion": "v1", "kind": "List", "items": [crd for project in projects for crd in crds(project)]}
    kube.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(items))
    kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")

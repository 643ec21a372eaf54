"""Packages the chart as it stands in the tree and installs the package, with the images that were just loaded.

`python -m devcluster.install --operator-archive TAR`. What helm is given is what a release would hold, so a file that
the package leaves out is missed here first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.paths import PACKAGE, Layout, default_state_dir
from devcluster.progress import run_long, run_quick
from devcluster.tools import ensure_tool

NAMESPACE = "crewrun-system"
RELEASE = "crewrun"
CHART = PACKAGE.parent / "charts/crewrun"
PACKAGES = PACKAGE.parent / "build/charts"
_TAG = "dev"


def package(helm: Path, chart: Path = CHART, target: Path = PACKAGES) -> Path:
    """The chart as the archive that people install."""
    target.mkdir(parents=True, exist_ok=True)
    done = run_quick([str(helm), "package", str(chart), "--destination", str(target)], what=f"packaging {chart}")
    return Path(done.stdout.rpartition(": ")[2].strip())


def values(operator_archive: Path | None = None) -> dict[str, str]:
    """The images of the development cluster. Pure but for the archive's digest."""
    images = {"operator": "operator", "runner": "runner", "test": "testing"}
    found = {f"{part}.image.repository": f"localhost/crewrun-{image}" for part, image in images.items()}
    found |= {f"{part}.image.tag": _TAG for part in images}
    if operator_archive is not None:
        # The tag stays the same, so the archive's digest is what tells Kubernetes to start the new image.
        digest = hashlib.sha256(operator_archive.read_bytes()).hexdigest()[:16]
        found["operator.podAnnotations.image-archive"] = digest
    return found


def as_arguments(settings: Mapping[str, str]) -> Iterator[str]:
    for key, value in settings.items():
        yield from ("--set-string", f"{key}={value}")


def restricted(namespace: str) -> dict[str, object]:
    """A namespace that takes no Pod with rights on its node: a careful cluster has no others."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}


def install(layout: Layout, operator_archive: Path) -> None:
    helm, kubectl = ensure_tool("helm"), ensure_tool("kubectl")
    kubeconfig = ["--kubeconfig", str(layout.kubeconfig)]
    archive = package(helm)
    say(f"packaged {archive.name}")
    # A manager of its own: a person's `kubectl apply` of the bare namespace would take the labels away again.
    flags = ["--server-side", "--force-conflicts", "--field-manager=devcluster"]
    apply = [str(kubectl), *kubeconfig, "apply", *flags, "-f", "-"]
    run_quick(apply, stdin=json.dumps(restricted(NAMESPACE)), what=f"making the namespace {NAMESPACE}")
    say(f"installing it as release {RELEASE} in namespace {NAMESPACE}; waiting for the operator to be ready")
    command = [str(helm), *kubeconfig, "upgrade", "--install", RELEASE, str(archive), "--namespace", NAMESPACE]
    # A cluster from before 0.2 has CRDs that belong to no release.
    flags = ["--take-ownership", "--wait", "--timeout", "3m"]
    run_long(
        [*command, *flags, *as_arguments(values(operator_archive))],
        what="helm upgrade --install",
        log=layout.logs / "install.log",
        hint=f"kubectl {' '.join(kubeconfig)} -n {NAMESPACE} describe pods; and logs deployment/crewrun",
    )
    notes = (layout.logs / "install.log").read_text()
    print(notes[notes.find("NOTES:") :].removeprefix("NOTES:").strip(), file=sys.stderr)


def say(text: str) -> None:
    print(f"[install] {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="crewrun", help="which cluster")
    parser.add_argument("--operator-archive", type=Path, required=True, help="the operator image's archive")
    options = parser.parse_args()
    layout = Layout(options.name, default_state_dir(options.name))
    try:
        if not layout.kubeconfig.exists():
            raise DevClusterError(f"cluster {options.name!r} is not up.", hint="make cluster")
        install(layout, options.operator_archive)
    except DevClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Installs the chart as it stands in the tree, with the images that were just loaded."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

NAMESPACE = "crewrun-system"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="crewrun", help="which cluster")
    parser.add_argument("--operator-archive", type=Path, required=True, help="the operator image's archive")
    options = parser.parse_args()
    kubeconfig = _output("kubeconfig", "--name", options.name)
    helm, kubectl = _output("tool", "helm"), _output("tool", "kubectl")
    # Helm installs the CRDs of a chart once and never touches them again; a development cluster wants today's.
    subprocess.run(
        [
            kubectl,
            "--kubeconfig",
            kubeconfig,
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            "charts/crewrun/crds",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    # The tag stays the same, so the archive's digest is what tells Kubernetes to start the new image.
    digest = hashlib.sha256(options.operator_archive.read_bytes()).hexdigest()[:16]
    values = {
        "operator.image.repository": "localhost/crewrun-operator",
        "operator.image.tag": "dev",
        "operator.podAnnotations.image-archive": digest,
        "runner.image.repository": "localhost/crewrun-runner",
        "runner.image.tag": "dev",
    }
    settings = [part for key, value in values.items() for part in ("--set-string", f"{key}={value}")]
    upgrade = [helm, "--kubeconfig", kubeconfig, "upgrade", "--install", "crewrun", "charts/crewrun"]
    flags = ["--namespace", NAMESPACE, "--create-namespace", "--skip-crds", "--wait", "--timeout", "3m"]
    subprocess.run([*upgrade, *flags, *settings], check=True, stdout=subprocess.DEVNULL)
    print(f"[install] CrewRun runs in namespace {NAMESPACE}", file=sys.stderr)
    return 0


def _output(*arguments: str) -> str:
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

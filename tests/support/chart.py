"""The chart, rendered by the real Helm."""

import json
import subprocess
from functools import cache
from pathlib import Path

import yaml

from devcluster.tools import ensure_tool
from tests.support.kube import Document

CHART = Path(__file__).parents[2] / "charts/crewrun"
NAMESPACE = "crewrun-system"


def run_helm(values: Document, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_helm(), "template", "crewrun", str(CHART), "--namespace", NAMESPACE, "--values", "-", *arguments]
    return subprocess.run(
        command, input=json.dumps(values, ensure_ascii=False), capture_output=True, text=True, timeout=120
    )


def render(values: Document, *arguments: str) -> list[Document]:
    """The objects that the chart makes of these values."""
    done = run_helm(values, *arguments)
    assert done.returncode == 0, f"{done.stderr}\nvalues: {json.dumps(values)}"
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def refusal(values: Document) -> str:
    """What Helm says of values that the chart does not take."""
    done = run_helm(values)
    assert done.returncode != 0, f"were taken: {values}"
    return done.stderr


@cache
def _helm() -> str:
    return str(ensure_tool("helm"))

"""The demo itself, as `make demo` runs it on a cluster that is up."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.kube import Kube

ROOT = Path(__file__).parents[2]


def test_the_demo_ends_well_and_the_ledger_agrees_with_the_status(kube: Kube) -> None:
    name = Path(os.environ["KUBECONFIG"]).parent.name
    environment = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    command = [sys.executable, "examples/research/demo.py", "--name", os.environ.get("CLUSTER_NAME", name)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Succeeded: 3/3 tasks, 3 LLM calls, 1620 tokens" in done.stdout
    assert "the model's ledger agrees: 3 calls, 1620 tokens" in done.stdout
    for task in ("facts", "risks", "report"):
        assert f"✓ {task}" in done.stdout

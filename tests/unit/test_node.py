"""How the tests disturb a kind node: the commands run here, by a docker that runs them on this machine."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.paths import Layout
from devcluster.record import Record
from tests.support.node import KindNode, NativeNode, node_of

DOCKER = """#!/bin/sh
[ "$1 $2" = "exec x-control-plane" ] || exit 64
shift 2
echo "$1 $2 $3" >> "$(dirname "$0")/calls"
[ "$1" = systemctl ] || exec "$@"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "calls"


@pytest.fixture
def runner() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A process that says it is the runner of a Pod; and the Pod's UID."""
    uid = str(uuid.uuid4())
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={"CREWRUN_POD_UID": uid},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline()
        yield uid, process
        process.kill()


def test_a_signal_reaches_the_runner_of_the_pod(calls: Path, runner: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    uid, process = runner

    KindNode("x").signal(uid, signal.SIGKILL)

    assert process.wait(timeout=30) == -signal.SIGKILL


def test_a_pod_that_does_not_run_is_told(calls: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        KindNode("x").signal("no-such-pod", signal.SIGKILL)
    assert "no process has CREWRUN_POD_UID=no-such-pod" in capfd.readouterr().err


def test_a_component_runs_again_after_a_failure_within(calls: Path) -> None:
    with pytest.raises(ZeroDivisionError), KindNode("x").stopped("kubelet"):
        _ = 1 / 0
    assert calls.read_text().splitlines() == ["systemctl stop kubelet", "systemctl start kubelet"]


@pytest.mark.parametrize(("provider", "want"), [("native", NativeNode), ("kind", KindNode)])
def test_the_node_is_that_of_who_made_the_cluster(tmp_path: Path, provider: str, want: type) -> None:
    layout = Layout(tmp_path.name, tmp_path)
    Record(provider, "node").save(layout)
    assert isinstance(node_of(layout.kubeconfig), want)


def test_the_node_of_a_cluster_of_yours_is_left_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path.name, tmp_path)
    Record("current", "node").save(layout)
    with pytest.raises(AssertionError, match="made by current"):
        node_of(layout.kubeconfig)

"""A control plane of its own for each measurement, and the processes that are measured on it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.kube import Kube, crew
from tests.support.operator import Operator

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Plane:
    """A control plane, its audit log, and a folder for what runs on it."""

    kube: Kube
    audit_log: Path
    folder: Path


@contextmanager
def plane(name: str) -> Iterator[Plane]:
    """A fresh one, with the CRDs, and kwok to end each Pod at once."""
    with tempfile.TemporaryDirectory() as folder:
        state, audit_log = Path(folder) / "state", Path(folder) / "audit.log"
        cluster = ["--name", f"bench-{name}-{os.getpid()}", "--state-dir", str(state)]
        policy = f"--apiserver-arg=audit-policy-file={HERE / 'audit-policy.yaml'}"
        audit = [policy, f"--apiserver-arg=audit-log-path={audit_log}"]
        kwok = ["--kwok-config", str(ROOT / "tests/integration/kwok-stages.yaml"), "--kwok-nodes", "4"]
        devcluster("up", "--size", "control-plane", *cluster, *audit, *kwok)
        try:
            kube = Kube(Path(devcluster("kubeconfig", *cluster)), devcluster("tool", "kubectl"))
            kube.kubectl("apply", "-f", str(ROOT / "crds"))
            kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            kube.items("crewruns")  # kubectl waits until the API server serves the new kind
            for namespace in ("bench", "apart", "together"):
                kube.within(namespace).apply(crew("fine"))
            yield Plane(kube, audit_log, Path(folder))
        finally:
            devcluster("down", *cluster)


def devcluster(*arguments: str) -> str:
    command = [sys.executable, "-m", "devcluster", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    return done.stdout.strip()


def busy_seconds() -> float:
    """CPU time of everything on this machine, of all cores together."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS


@dataclass(frozen=True)
class Process:
    """A process that is measured, and the user agent that it writes with."""

    pid: int
    agent: str

    def cpu_seconds(self) -> float:
        """User and system time."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def alive(self) -> bool:
        stat = Path(f"/proc/{self.pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    def rss_mib(self) -> float:
        """The resident set."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextmanager
def operator(on: Plane) -> Iterator[Process]:
    with Operator(on.kube.kubeconfig, on.folder / "operator.log") as running:
        yield Process(running.process.pid, "crewrun-operator")


@contextmanager
def oracle(on: Plane) -> Iterator[Process]:
    with _started([sys.executable, "-m", "tests.bench.operator.oracle"], on, "crewrun-oracle") as process:
        yield process


@contextmanager
def peer(on: Plane) -> Iterator[Process]:
    """Another operator of CrewRuns, given by PEER=path: it is started with KUBECONFIG."""
    with _started([os.environ["PEER"]], on, Path(os.environ["PEER"]).name) as process:
        yield process


@contextmanager
def _started(command: list[str], on: Plane, agent: str) -> Iterator[Process]:
    code = os.pathsep.join([str(ROOT / "operator"), str(ROOT)])
    environment = {**os.environ, "KUBECONFIG": str(on.kube.kubeconfig), "PYTHONPATH": code}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdout is not None and running.stdout.readline(), "it says nothing"
        try:
            yield Process(running.pid, agent)
        finally:
            running.terminate()

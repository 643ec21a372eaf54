"""One control plane without a node for all integration tests; kwok ends the Pods."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.kube import Kube
from tests.support.operator import Operator
from tests.support.stand_in import make_certificates

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


#: They have an operator of their own, which must not meet the one of the session.
FIRST = ("test_crashes.py", "test_policy.py", "test_queues.py", "test_rates.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)


def devcluster(*arguments: str) -> str:
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip()


@pytest.fixture(scope="session")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory, audit_log: Path) -> Iterator[Kube]:
    audit = {"audit-policy-file": str(HERE / "audit-policy.yaml"), "audit-log-path": str(audit_log)}
    with control_plane(f"it-{tmp_path_factory.getbasetemp().name}", tmp_path_factory.mktemp("cluster"), audit) as kube:
        yield kube


@contextmanager
def control_plane(name: str, folder: Path, apiserver: Mapping[str, str], nodes: int = 4) -> Iterator[Kube]:
    """One whose API server has these arguments, with the CRDs; its state lies in `folder`/state."""
    cluster = ["--name", name, "--state-dir", str(folder / "state")]
    arguments = [f"--apiserver-arg={key}={value}" for key, value in apiserver.items()]
    kwok = ["--kwok-config", str(HERE / "kwok-stages.yaml"), "--kwok-nodes", str(nodes)]
    devcluster("up", "--size", "control-plane", *cluster, *arguments, *kwok)
    try:
        kube = Kube(Path(devcluster("kubeconfig", *cluster)), devcluster("tool", "kubectl"))
        kube.kubectl("apply", "-f", str(ROOT / "crds"))
        kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield kube
    finally:
        devcluster("down", *cluster)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def operator(kube: Kube, certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with Operator(kube.kubeconfig, log, **takes_reports(certificates)) as running:
        yield running


def takes_reports(certificates: Path, port: int = 0) -> dict[str, str]:
    """The settings of an operator that takes reports on loopback."""
    return {
        "CREWRUN_REPORTS_URL": f"https://localhost:{port}",
        "CREWRUN_REPORTS_HOST": "127.0.0.1",
        "CREWRUN_REPORTS_PORT": str(port),
        "CREWRUN_TLS_DIR": str(certificates),
    }


@pytest.fixture
def space(kube: Kube, request: pytest.FixtureRequest) -> Kube:
    """A namespace for one test."""
    name = request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")[:50].strip("-")
    return kube.within(f"{name}-{abs(hash(request.node.name)) % 10000}")


def writes(audit_log: Path, namespaces: set[str]) -> list[tuple[str, str]]:
    """Verb and resource of each of the operator's writes in these namespaces, as the API server logged them."""
    found = []
    for line in audit_log.read_text().strip().split("\n"):  # manifests carry other separators of lines
        event = json.loads(line)
        target = event.get("objectRef", {})
        if event.get("userAgent") == "crewrun-operator" and target.get("namespace") in namespaces:
            resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
            found.append((event["verb"], resource))
    return found

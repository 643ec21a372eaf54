"""The cluster of `make install`: CrewRun is installed with its chart, Pods run on a real kubelet.

Needs KUBECONFIG. Each test has a namespace of its own, with a Secret, a default profile, and a key that no
other test uses, so that the ledger of the shared scripted LLM tells its calls from all others.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devcluster.install import RELEASE, package
from devcluster.tools import ensure_tool
from tests.support.helm import Release
from tests.support.kube import Document, Kube, document
from tests.support.llm import RemoteLLM

ROOT = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "crewrun-system"
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


#: What the rights are compared with is what all others asked for; what replaces the release comes after that.
LAST = ("test_rights.py", "test_doc_commands.py", "test_chart_life.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LAST.index(item.path.name) if item.path.name in LAST else -1)


@pytest.fixture(scope="session", autouse=True)
def suite_began() -> str:
    """The moment from which the audit log tells of this suite."""
    return datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")


@dataclass(frozen=True)
class Space:
    """A test's own namespace, its key, and the model that counts what is asked with it."""

    kube: Kube
    llm: RemoteLLM
    key: str

    @property
    def calls(self) -> list[Document]:
        return self.llm.calls(self.key)

    def await_calls(self, count: int, seconds: int = 90) -> None:
        """Until the model has been asked so often; a ledger offers nothing to watch."""
        deadline = time.monotonic() + seconds
        while (asked := len(self.calls)) < count:
            assert time.monotonic() < deadline, f"{asked} calls after {seconds} s, and not {count}"
            time.sleep(0.2)

    def evict(self, pod: str) -> None:
        """As `kubectl drain` does to each Pod of a node."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{self.kube.namespace}/pods/{pod}/eviction"
        self.kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    def await_log(self, event: str) -> None:
        """Until the one runner has written this line; it may go on running."""
        log = ["logs", "-f", "-l", "app.kubernetes.io/component=runner", "--tail=-1"]
        with self.kube.following(*log) as lines:
            for line in lines:
                if f'"event": "{event}"' in line:
                    return
        raise AssertionError(f"the runner did not say {event}")


@pytest.fixture(scope="session")
def kube() -> Kube:
    kubeconfig = os.environ.get("KUBECONFIG")
    assert kubeconfig, "KUBECONFIG must name a cluster on which `make install` ran; `make e2e` does both"
    kube = Kube(Path(kubeconfig), str(ensure_tool("kubectl")))
    kube.within(SYSTEM_NAMESPACE).kubectl("rollout", "status", "deployment/crewrun", "--timeout=120s")
    return kube


@pytest.fixture(scope="session")
def llm(kube: Kube) -> RemoteLLM:
    home = kube.within("crewrun-e2e-llm")
    script = json.dumps({"rules": []})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripted-llm"}}
    home.apply({**config, "data": {"script.yaml": script}})
    home.kubectl("apply", "-f", str(ROOT / "examples/scripted-llm/scripted-llm.yaml"))
    home.kubectl("rollout", "status", "deployment/scripted-llm", "--timeout=120s")
    return RemoteLLM(home)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as people get it."""
    return package(ensure_tool("helm"), target=tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def release(kube: Kube, archive: Path) -> Iterator[Release]:
    """The release of `make install`. It is there afterwards as it was, whatever became of it."""
    found = Release(kube, RELEASE, SYSTEM_NAMESPACE)
    before = archive.parent / "values.json"
    before.write_text(json.dumps(found.values))
    yield found
    found.helm("upgrade", str(archive), "--install", "--values", str(before), "--reset-values", "--wait")


@pytest.fixture
def empty_namespace(kube: Kube) -> Iterator[Kube]:
    """Pod Security `restricted` is enforced on it, as on a careful cluster."""
    space = kube.within(f"e2e-{uuid.uuid4().hex[:8]}")
    space.kubectl("label", "namespace", space.namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield space
    space.kubectl("delete", "namespace", space.namespace, "--wait=false")


@pytest.fixture
def own(empty_namespace: Kube, llm: RemoteLLM) -> Space:
    key = f"sk-e2e-{uuid.uuid4().hex}"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys"}, "stringData": {"openai": key}}
    empty_namespace.apply(secret, profile(llm))
    llm.play()
    return Space(empty_namespace, llm, key)


@pytest.fixture
def space(own: Space) -> Kube:
    """What the tests that also run without a node ask for."""
    return own.kube


@pytest.fixture
def operator() -> None:
    """The operator is the one that the chart installed."""


def profile(llm: RemoteLLM) -> Document:
    spec = {
        "default": True,
        "llm": {"model": "openai/gpt-4o", "baseURL": llm.base_url, "timeoutSeconds": 30, "maxRetries": 0},
        "secrets": [{"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "llm-keys", "key": "openai"}}],
        "pod": {"resources": RESOURCES},
        "retry": {"backoff": {"initialSeconds": 1}},
    }
    return document("CrewProfile", "default", spec)

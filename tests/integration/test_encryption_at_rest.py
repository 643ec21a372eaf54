"""With the example's EncryptionConfiguration nothing of a run lies in etcd as plain text."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, control_plane
from tests.integration.test_sources import config_map
from tests.support.kube import Kube, crew, document, run
from tests.support.operator import Operator

CONFIG = (ROOT / "examples/secrets/encryption-at-rest.yaml").read_text()
#: Each in an object of a kind that CrewRun has to do with.
HIDDEN = {
    "Secret": "canary-of-a-key",
    "ConfigMap": "canary-of-a-config-map",
    "Crew": "canary-of-a-goal",
    "CrewProfile": "canary-of-a-profile",
    "CrewRun": "canary-of-an-input",
}
PLAIN = "canary-of-a-service-account"


@dataclass(frozen=True)
class Cluster:
    kube: Kube
    etcd: Path

    def lies_open(self, text: str) -> bool:
        """Whether the files of etcd hold this text: its log is written before the API server answers."""
        return any(text.encode() in path.read_bytes() for path in self.etcd.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own, whose API server encrypts as the example says."""
    folder = tmp_path_factory.mktemp("encrypted")
    config = folder / "encryption.yaml"
    config.write_text(CONFIG.replace("REPLACE-ME", base64.b64encode(secrets.token_bytes(32)).decode()))
    name = f"it-at-rest-{tmp_path_factory.getbasetemp().name}"
    with control_plane(name, folder, {"encryption-provider-config": str(config)}, nodes=1) as kube:
        yield Cluster(kube, folder / "state" / "etcd")


def test_nothing_of_a_run_lies_in_etcd_as_plain_text(encrypted: Cluster, tmp_path: Path) -> None:
    kube = encrypted.kube
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": HIDDEN["Secret"]}}
    known = crew("fine")
    known["spec"]["definition"]["agents"]["a"]["goal"] = f"{HIDDEN['Crew']} {{topic}}"
    more = config_map("more", more=HIDDEN["ConfigMap"])
    profile = document("CrewProfile", "p", {"default": True, "env": [{"name": "A", "value": HIDDEN["CrewProfile"]}]})
    seen = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "annotations": {"a": PLAIN}}}
    source = {"inputsFrom": [{"configMapRef": {"name": "more"}}], "inputs": {"topic": HIDDEN["CrewRun"]}}
    with Operator(kube.kubeconfig, tmp_path / "operator.log"):
        kube.apply(key, more, known, profile, seen, run("r", "fine", **source))
        ended = kube.await_end("r")
    assert ended["status"]["phase"] == "Succeeded"
    (job,) = kube.jobs_of(ended)
    carried = str(job["spec"]["template"])
    assert all(HIDDEN[kind] in carried for kind in ("ConfigMap", "Crew", "CrewProfile", "CrewRun"))
    assert encrypted.lies_open(PLAIN), "the files are looked at where objects lie"
    assert [kind for kind, text in HIDDEN.items() if encrypted.lies_open(text)] == []


def test_the_example_holds_no_key() -> None:
    assert CONFIG.count("secret: REPLACE-ME #") == 1

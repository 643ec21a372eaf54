"""Releases of the packaged chart on a control plane of their own: what an uninstall takes away, and Roles alone.

No Pod of the operator runs here; where one is needed it is a process with the token of its service account.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.install import package
from devcluster.tools import ensure_tool
from tests.integration.conftest import HERE, devcluster, takes_reports
from tests.support.audit import granted, log_lines, requests
from tests.support.helm import Release
from tests.support.kube import Kube, crew, phase, run
from tests.support.operator import Operator

CRDS = ("crewprofiles.crewrun.dev", "crewruns.crewrun.dev", "crews.crewrun.dev")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(ensure_tool("helm"), target=tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    state = tmp_path_factory.mktemp("releases") / "state"
    arguments = ["--name", f"rel-{tmp_path_factory.getbasetemp().name}", "--state-dir", str(state)]
    kwok = ["--kwok-config", str(HERE / "kwok-stages.yaml"), "--kwok-nodes", "1"]
    devcluster("up", "--size", "control-plane", *arguments, *kwok)
    yield arguments
    devcluster("down", *arguments)


@pytest.fixture(scope="module")
def empty(cluster: list[str]) -> Kube:
    """A cluster on which nothing was installed."""
    return Kube(Path(devcluster("kubeconfig", *cluster)), devcluster("tool", "kubectl"))


def test_an_uninstall_leaves_what_people_made_unless_the_release_was_told_otherwise(empty: Kube, archive: Path) -> None:
    system, team = empty.within("crewrun-system"), empty.within("team-a")
    release = Release(empty, "crewrun", system.namespace)
    profile = {"name": "development", "namespace": team.namespace, "spec": {"default": True}}
    release.install(archive, {"profiles": [profile]}, "--wait=false")
    assert team.get("crewprofiles", "development")["spec"] == {"default": True}, "its CRD came with the same release"
    team.apply(crew("research"))
    release.helm("uninstall", "--wait")
    assert [each["metadata"]["name"] for each in team.items("crews")] == ["research"]

    release.install(archive, {}, "--wait=false")
    assert [each["metadata"]["name"] for each in team.items("crews")] == ["research"]
    release.upgrade(archive, {"crds.keep": False}, "--wait=false")
    release.helm("uninstall", "--wait")
    empty.kubectl("wait", "crd", *CRDS, "--for=delete", "--timeout=60s")


def test_an_operator_with_roles_alone_asks_for_nothing_else(
    empty: Kube, archive: Path, cluster: list[str], certificates: Path, tmp_path: Path
) -> None:
    system, team, other = (empty.within(name) for name in ("team-system", "team-b", "team-c"))
    crds = Release(empty, "crds", "default")
    crds.install(archive, {"rbac.create": False, "policy.admission.enabled": False}, "--wait=false")
    values = {"watch.namespaces": ["team-b"], "crds.enabled": False, "rbac.aggregate": False}
    release = Release(empty, "team", system.namespace)
    release.install(archive, {**values, "policy.admission.enabled": False}, "--wait=false")

    settings = {"CREWRUN_NAMESPACES": '["team-b"]', "CREWRUN_RESYNC_SECONDS": "1", **takes_reports(certificates)}
    with Operator(credentials(system, tmp_path), tmp_path / "log", **settings) as operator:
        for space in (other, team):
            space.apply(crew("fine"), run("r", "fine"))
        assert phase(team.await_end("r")) == "Succeeded"
    assert "phase" not in other.get("crewrun", "r")["status"]
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []

    asked = [*requests(log_lines(Path(devcluster("audit-log", *cluster))), "team-system:team-crewrun")]
    assert {request.namespace for request in asked} == {"team-b"}
    assert {request.right for request in asked} <= granted(team.get("role", "team-crewrun"))


def credentials(system: Kube, folder: Path) -> Path:
    """A kubeconfig with which the operator is its own service account."""
    config = yaml.safe_load(system.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": system.kubectl("create", "token", "team-crewrun", "--duration=1h").strip()}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path

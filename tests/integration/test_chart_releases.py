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
from tests.support.kube import Document, Kube, crew, phase, run
from tests.support.operator import Operator

SCHEMA = "/spec/versions/0/schema/openAPIV3Schema"
CRDS = ("crewprofiles.crewrun.dev", "crewqueues.crewrun.dev", "crewruns.crewrun.dev", "crews.crewrun.dev")


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

    older = [{"op": "remove", "path": f"{SCHEMA}/properties/spec"}]
    empty.kubectl("patch", "crd", CRDS[-1], "--type=json", "--patch", json.dumps(older))
    release.install(archive, {}, "--wait=false")
    assert [each["metadata"]["name"] for each in team.items("crews")] == ["research"]
    (version,) = empty.get("crd", CRDS[-1])["spec"]["versions"]
    assert "spec" in version["schema"]["openAPIV3Schema"]["properties"], "CRDs that were left are brought up to date"
    release.upgrade(archive, {"crds.keep": False}, "--wait=false")
    settle(empty)
    release.helm("uninstall", "--wait")
    empty.kubectl("wait", "crd", *CRDS, "--for=delete", "--timeout=60s")


def test_a_profile_of_the_values_is_changed_in_place(empty: Kube, archive: Path) -> None:
    """Its age decides which default is the newest, and runs that begin during an upgrade must find it."""
    release, team = Release(empty, "crewrun", "profiles-system"), empty.within("team-d")
    empty.within(release.namespace)

    def values(timeout: object) -> Document:
        spec = {"default": True, "llm": {"timeoutSeconds": timeout}}
        return {"profiles": [{"name": "ours", "namespace": team.namespace, "spec": spec}]}

    def found(want: int) -> str:
        profile = team.get("crewprofiles", "ours")
        assert profile["spec"] == {"default": True, "llm": {"timeoutSeconds": want}}
        return str(profile["metadata"]["uid"])

    release.install(archive, values(10), "--wait=false")
    by_a_hook = found(10)
    release.upgrade(archive, values(20), "--wait=false")
    first = found(20)
    assert first != by_a_hook, "what a hook made is replaced once"
    release.upgrade(archive, values(30), "--wait=false")
    wrong = f"profiles={json.dumps(values('long')['profiles'])}"
    refused = release.run("upgrade", str(archive), "--reuse-values", "--set-json", wrong)
    assert refused.returncode != 0 and "timeoutSeconds" in refused.stderr
    assert found(30) == first, "a wrong one takes nothing away"
    release.helm("rollback", "2")
    assert found(20) == first
    release.helm("rollback", "1")
    assert found(10) != first
    release.upgrade(archive, values(40), "--wait=false")
    assert found(40) != first
    release.upgrade(archive, {}, "--wait=false")
    assert team.items("crewprofiles") == [], "what the values no longer name goes"
    release.helm("uninstall", "--wait")


def test_a_profile_outlives_the_release_that_a_hook_made_it_for_and_is_taken_over(empty: Kube, archive: Path) -> None:
    release, team = Release(empty, "crewrun", "profiles-system"), empty.within("team-e")
    settle(empty)
    empty.kubectl("delete", "crd", *CRDS)
    profile = {"name": "ours", "namespace": team.namespace}
    release.install(archive, {"profiles": [{**profile, "spec": {"default": True}}]}, "--wait=false")
    release.helm("uninstall", "--wait")
    release.install(
        archive, {"profiles": [{**profile, "spec": {"default": False}}], "crds.keep": False}, "--wait=false"
    )
    assert team.get("crewprofiles", "ours")["spec"] == {"default": False}
    settle(empty)
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
    settle(empty)

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


def settle(kube: Kube) -> None:
    """Wait until the API server can list every kind: kubectl tries again where it is told that a new one has to settle.

    Of kopf it would be an error in the log. And a CRD whose instances cannot be listed yet is not deleted at once: the
    API server's second try may read the CRD as it was before its first (a conflict, which it believes that a change
    will follow); then it stays until the next resync, five minutes later.
    """
    for crd in CRDS:
        kube.items(crd)


def credentials(system: Kube, folder: Path) -> Path:
    """A kubeconfig with which the operator is its own service account."""
    config = yaml.safe_load(system.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": system.kubectl("create", "token", "team-crewrun", "--duration=1h").strip()}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path

"""The chart's life: tested by `helm test`, installed twice, upgraded with runs on their way, rolled back, uninstalled.

These tests replace the release and run after all others; the last thing they do is to put it back.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.install import values
from tests.e2e.conftest import ROOT, SYSTEM_NAMESPACE, Space, profile
from tests.support.five_tasks import AGENT
from tests.support.helm import CLUSTER_WIDE, Release
from tests.support.kube import Document, Kube, condition, crew, document, phase, run
from tests.support.llm import RemoteLLM
from tests.support.previous import Previous

ANSWER = {"text": "It is done."}
UNAVAILABLE = {"fault": {"status": 503}}
CRDS = ("crewprofiles.crewrun.dev", "crewqueues.crewrun.dev", "crewruns.crewrun.dev", "crews.crewrun.dev")
#: What needs a right on the whole cluster is left out.
ROLES_ALONE = {"crds.enabled": False, "rbac.aggregate": False, "policy.admission.enabled": False}


@pytest.fixture
def no_operator(kube: Kube) -> Iterator[None]:
    """The operator of the whole cluster stands still."""
    system = kube.within(SYSTEM_NAMESPACE)
    system.kubectl("scale", "deployment/crewrun", "--replicas=0")
    system.kubectl("wait", "pods", "-l", "app.kubernetes.io/component=operator", "--for=delete", "--timeout=60s")
    yield
    system.kubectl("scale", "deployment/crewrun", "--replicas=1")
    system.kubectl("rollout", "status", "deployment/crewrun", "--timeout=120s")


@pytest.fixture
def spaces(kube: Kube) -> Iterator[tuple[Kube, Kube]]:
    """A namespace with an operator of its own, and one that it works."""
    made = kube.within("e2e-team-system"), kube.within("e2e-team")
    for each in made:
        each.kubectl("label", "namespace", each.namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield made
    for each in made:
        each.kubectl("delete", "namespace", each.namespace)


def three_tasks(name: str) -> Document:
    tasks = [
        {"name": task, "description": f"Do {task} about {{topic}}.", "expected_output": "A line.", "agent": "writer"}
        for task in ("t1", "t2", "t3")
    ]
    return document("Crew", name, {"definition": {"agents": {"writer": AGENT}, "tasks": tasks}})


def test_helm_test_runs_a_crew_and_tells_what_happens(kube: Kube, release: Release) -> None:
    release.helm("test", "--timeout", "4m")
    said = kube.within(SYSTEM_NAMESPACE).kubectl("logs", "crewrun-test")
    print("\n" + said)
    for part in ("made CrewRun", "Running", "Succeeded", "2 calls and", "removed CrewRun", "passed"):
        assert part in said


def test_the_namespaces_of_operator_and_runners_enforce_the_restricted_standard(own: Space) -> None:
    for name in (SYSTEM_NAMESPACE, own.kube.namespace):
        labels = own.kube.get("namespace", name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_an_operator_with_roles_alone_works_its_namespaces_and_leaves_all_others(
    own: Space, archive: Path, no_operator: None, spaces: tuple[Kube, Kube], llm: RemoteLLM
) -> None:
    system, team = spaces
    release = Release(own.kube, "team", system.namespace)
    release.install(archive, {**values(), "watch.namespaces": [team.namespace], **ROLES_ALONE})
    kinds = {each["kind"] for each in release.objects}
    assert not kinds & CLUSTER_WIDE and {"Role", "RoleBinding", "Deployment"} <= kinds
    assert own.kube.items("clusterroles,clusterrolebindings", **{"app.kubernetes.io/instance": "team"}) == []

    own.kube.apply(three_tasks("three"), run("r", "three"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys"}, "stringData": {"openai": own.key}}
    own.llm.play({"replies": [ANSWER]})
    team.apply(secret, profile(llm), three_tasks("three"), run("r", "three"))
    ended = team.await_end("r")
    assert phase(ended) == "Succeeded", ended["status"]
    assert [task["state"] for task in ended["status"]["tasks"]] == ["Succeeded"] * 3, "runners report"
    assert team.items("configmaps", **{"crewrun.dev/run": "r"}), "a checkpoint was kept"
    assert "phase" not in own.kube.get("crewrun", "r")["status"]
    log = system.kubectl("logs", "deployment/team-crewrun", "--tail=-1").splitlines()
    assert [line for line in log if json.loads(line)["level"] not in ("debug", "info")] == []
    release.helm("uninstall", "--wait")
    own.kube.kubectl("get", "crd", *CRDS)


def test_the_operator_of_the_whole_cluster_goes_on_afterwards(own: Space) -> None:
    own.llm.play({"replies": [ANSWER]})
    own.kube.apply(crew("plain"), run("r", "plain"))
    assert phase(own.kube.await_end("r")) == "Succeeded"


# --- From the release before to this one, and back ----------------------------------------------------------------

RUNS = {
    **{f"plain-{number:02}": 1 for number in range(8)},
    **{f"long-{number:02}": 3 for number in range(7)},
    **{f"flaky-{number:02}": 1 for number in range(5)},
}


@pytest.fixture(scope="module")
def previous(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Previous:
    found = Previous(tmp_path_factory.mktemp("previous"))
    state = kube.kubeconfig.parent
    load = [sys.executable, "-m", "devcluster", "load", "--name", state.name, "--state-dir", str(state)]
    archives = [str(found.image(name)) for name in ("operator", "runner")]
    subprocess.run([*load, *archives], check=True, cwd=ROOT)
    return found


def script() -> list[Document]:
    """A rule for each run; an answer takes a while, so that an upgrade finds runs of all kinds on their way."""
    slow = {**ANSWER, "delaySeconds": 2}
    first = {name: [UNAVAILABLE] if name.startswith("flaky") else [] for name in RUNS}
    return [{"name": name, "match": {"user": name}, "replies": [*first[name], slow]} for name in RUNS]


def test_twenty_runs_live_through_an_upgrade_and_none_is_paid_twice(
    own: Space, release: Release, previous: Previous, archive: Path
) -> None:
    own.kube.apply(crew("plain"), run("before", "plain"))
    own.kube.await_end("before")
    release.helm("uninstall", "--wait")
    assert phase(own.kube.get("crewrun", "before")) == "Succeeded", "a release that goes leaves people's runs"
    # Replaced whole: what this release wrote on them, its ownership included, is not there in the release before.
    own.kube.kubectl("replace", "-f", str(previous.crds))
    release.install(previous.chart, previous.values)

    own.llm.play(*script())
    retry = {"maxAttempts": 3, "backoff": {"initialSeconds": 1}}
    own.kube.apply(crew("plain"), three_tasks("three"))
    own.kube.apply(
        *(
            run(name, "three" if tasks == 3 else "plain", inputs={"topic": name}, retry=retry)
            for name, tasks in RUNS.items()
        )
    )
    own.await_calls(4)
    refused = release.run("upgrade", str(archive))
    assert "cannot be imported into the current release" in refused.stderr, "CRDs of 0.1 belong to no release"
    release.upgrade(archive, values(), "--take-ownership")
    on_their_way = [name for name in RUNS if phase(own.kube.get("crewrun", name)) not in ("Succeeded", "Failed")]

    told = []
    for name, tasks in RUNS.items():
        ended = own.kube.await_end(name, seconds=300)
        usage, attempts = ended["status"]["usage"], len(ended["status"]["attempts"])
        answered = [call for call in own.calls if call["rule"] == name and call["status"] == 200]
        told.append(f"{name}: {phase(ended)} after {attempts} attempts, {usage['requests']} answers")
        assert phase(ended) == "Succeeded", condition(ended, "Succeeded")
        assert len(answered) == tasks, "each task was paid once"
        assert (usage["requests"], usage["totalTokens"]) == (tasks, sum(call["totalTokens"] for call in answered))
        assert attempts == (2 if name.startswith("flaky") else 1)
    print(f"\nfrom {previous.release.version}; on their way when the new operator was ready: {len(on_their_way)} of 20")
    print(*told, sep="\n")
    assert on_their_way


def test_a_rollback_works_and_so_does_the_upgrade_after_it(own: Space, release: Release, archive: Path) -> None:
    own.llm.play({"replies": [ANSWER]})
    own.kube.apply(crew("plain"))
    release.helm("rollback", "1", "--wait", "--timeout", "3m")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    system = own.kube.within(SYSTEM_NAMESPACE)
    assert system.kubectl("get", "deployment", "crewrun", "-o", image) == "localhost/crewrun-operator:previous"
    own.kube.apply(run("back", "plain"))
    assert phase(own.kube.await_end("back")) == "Succeeded"
    release.upgrade(archive, values())
    assert system.kubectl("get", "deployment", "crewrun", "-o", image) == "localhost/crewrun-operator:dev"
    own.kube.apply(run("forth", "plain"))
    assert phase(own.kube.await_end("forth")) == "Succeeded"


def test_what_people_made_is_there_when_the_chart_is_installed_again(
    own: Space, release: Release, archive: Path
) -> None:
    """As a new user does it, without a flag."""
    own.llm.play({"replies": [ANSWER]})
    own.kube.apply(crew("plain"), run("ended", "plain"))
    own.kube.await_end("ended")
    release.helm("uninstall", "--wait")
    own.kube.apply(run("waiting", "plain"))
    own.kube.kubectl("get", "crd", *CRDS)
    release.install(archive, values())
    assert phase(own.kube.await_end("waiting")) == "Succeeded"
    assert own.kube.get("crewrun", "ended")["status"]["attemptCount"] == 1

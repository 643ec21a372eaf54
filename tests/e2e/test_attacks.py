"""Attacks on an installation whose policy is strict: each is tried on the cluster, and answered.

`pytest tests/e2e/test_attacks.py -rP -k table` prints the table: attack | answer.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SYSTEM_NAMESPACE, Space, profile
from tests.support.helm import Release
from tests.support.kube import Document, Kube, condition, document, phase
from tests.support.llm import RemoteLLM
from tests.support.policy import POLICY, REFUSED, crew_spec, definition, run_spec

#: Lines that stand for 9 to the power of 7 texts.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 7)
)
Attack = Callable[[Space], str]


@pytest.fixture(scope="module", autouse=True)
def strict(release: Release, archive: Path) -> None:
    """The release has the strict policy of the tables, in the operator and at the API server."""
    release.upgrade(archive, {**release.values, "policy": POLICY})


def created(kube: Kube, *documents: Document, validate: bool = True) -> str | None:
    """What the API server says to the one who creates these; None if it takes them."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    strictly = f"--validate={'strict' if validate else 'false'}"
    done = kube.run_kubectl("create", strictly, "-f", "-", stdin=json.dumps(items))
    return None if done.returncode == 0 else done.stderr.strip()


def answered(kube: Kube, *documents: Document) -> str:
    """What the one hears who creates these, of which the last is a run: at once, or in its status."""
    if told := created(kube, *documents):
        return told
    name = documents[-1]["metadata"]["name"]
    run = kube.await_run(name, lambda run: bool(condition(run, "Accepted")))
    accepted = condition(run, "Accepted")
    assert not kube.jobs_of(run) or accepted["status"] == "True"
    return f"{accepted['reason']}: {accepted['message']}"


def a_run(**spec: Any) -> Attack:
    return lambda own: answered(own.kube, document("CrewRun", "attack", run_spec(**spec)))


def a_profile(**spec: Any) -> Attack:
    return lambda own: answered(
        own.kube, document("CrewProfile", "mine", spec), document("CrewRun", "attack", run_spec(profile="mine"))
    )


def classic(agents: str) -> Attack:
    def attack(own: Space) -> str:
        data = {"agents.yaml": agents, "tasks.yaml": "t: {description: D, expected_output: E, agent: a}"}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "classic"}, "data": data}
        return answered(
            own.kube, config_map, document("CrewRun", "attack", run_spec(crew={"configMap": {"name": "classic"}}))
        )

    return attack


def pruned(own: Space) -> str:
    """Fields of a Pod that no spec has, without kubectl's own check: nothing of them is stored."""
    pod = {"hostNetwork": True, "hostPID": True, "securityContext": {"privileged": True}, "containers": [{"name": "c"}]}
    told = created(own.kube, document("CrewRun", "attack", run_spec(pod=pod, suspend=True)), validate=False)
    assert told is None
    return f"stored as pod: {json.dumps(own.kube.get('crewruns', 'attack')['spec']['pod'])}"


def injected(own: Space) -> str:
    """Words that shells, Kubernetes and templates would replace by the key."""
    words = "$(OPENAI_API_KEY) ${OPENAI_API_KEY} {OPENAI_API_KEY} {{OPENAI_API_KEY}} %OPENAI_API_KEY%"
    as_written = {"match": {"anyMessage": re.escape(words)}, "replies": [{"text": "I read what you wrote."}]}
    own.llm.play(as_written, {"replies": [{"text": "I read something else."}]})
    assert created(own.kube, document("CrewRun", "attack", run_spec(inputs={"topic": words}))) is None
    run = own.kube.await_end("attack")
    (pod,) = own.kube.items("pods")
    variables = [str(variable.get("value")) for variable in pod["spec"]["containers"][0]["env"]]
    assert phase(run) == "Succeeded" and not any("$(" in value for value in variables)
    everything = json.dumps([run, own.kube.items("configmaps"), own.kube.items("events")])
    assert own.key not in everything
    return f"the model says: {run['status']['output']['value']}"


def as_nobody(*arguments: str) -> Attack:
    def attack(own: Space) -> str:
        done = own.kube.run_kubectl(*arguments, "--as=mallory", "--as-group=system:authenticated")
        assert done.returncode != 0
        return done.stderr.strip()

    return attack


def forged(own: Space) -> str:
    """A report without a token, through the API server's own proxy."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/https:crewrun:reports/proxy"
    raw = f"{path}/v1/runs/{own.kube.namespace}/attack/attempts/1"
    return own.kube.run_kubectl("create", "--raw", raw, "-f", "-", stdin="{}").stderr.strip()


def misnamed(own: Space) -> str:
    run = document("CrewRun", "$(OPENAI_API_KEY)", run_spec())
    return created(own.kube, run) or "taken"


def unknown(**pod: Any) -> Attack:
    return lambda own: created(own.kube, document("CrewRun", "attack", run_spec(pod=pod))) or "taken"


HOST_PATH = {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
PYTHON = definition(before_kickoff_callbacks=[{"python": "os.system"}])
LARGE = definition(task={"description": "x" * 1024 * 1024})
IN_RUNS = [case for case in REFUSED if case.kind == "CrewRun" and case.want]
ATTACKS: dict[str, tuple[Attack, str]] = {
    **{
        f"{case.title}: {case.want}": (a_run(**case.spec), f"{case.want}: ")
        for case in IN_RUNS
        if "spec.crew.definition" in str(case.want) or "spec.crew" not in str(case.want)
    },
    "a Secret in an inline crew": (
        a_run(crew=crew_spec(envFrom=[{"secretRef": {"name": "x"}}])),
        "spec.crew.envFrom: ",
    ),
    "profile: hostPath": (a_profile(pod=HOST_PATH), "spec.pod.volumes[0]: this kind of volume is not allowed"),
    "profile: a foreign service account": (
        a_profile(pod={"serviceAccountName": "cluster-admin"}),
        "spec.pod.serviceAccountName: this service account is not allowed",
    ),
    "profile: an image off the list": (a_profile(pod={"image": "ghcr.io/evil/x"}), "spec.pod.image: this image is not"),
    "profile: another runtime class": (a_profile(pod={"runtimeClassName": "runc"}), "spec.pod.runtimeClassName: this"),
    "run: hostNetwork": (unknown(hostNetwork=True), 'hostNetwork"'),
    "run: privileged": (
        unknown(securityContext={"privileged": True}),
        'securityContext"',
    ),
    "run: containers of its own": (unknown(containers=[]), 'containers"'),
    "run: the same without kubectl's check": (pruned, "stored as pod: {}"),
    "definition with Python": (a_run(crew=crew_spec(definition=PYTHON)), "before_kickoff_callbacks"),
    "Python in a ConfigMap": (
        classic("a: {role: R, goal: G, backstory: B, step_callback: os.system}"),
        "step_callback",
    ),
    "a tool in a ConfigMap": (classic("a: {role: R, goal: G, backstory: B, tools: [FileReadTool]}"), "a.tools: crews"),
    "a variable of the runner in a template": (
        a_run(crew=crew_spec(definition=definition(task={"description": "Say {OPENAI_API_KEY}."}))),
        "InvalidInputs: spec.inputs.OPENAI_API_KEY: is missing",
    ),
    "templates in inputs": (injected, "the model says: I read what you wrote."),
    "a template as the run's name": (misnamed, "Invalid value"),
    "a bomb of YAML aliases": (classic(BOMB), "holds too much, with every alias followed"),
    "a definition of 1 MiB": (a_run(crew=crew_spec(definition=LARGE)), "TooLarge: "),
    "a report without a token": (forged, "asked for the client to provide credentials"),
    "reading a result without rights": (as_nobody("get", "crewruns"), 'cannot list resource "crewruns"'),
    "reading an output without rights": (as_nobody("get", "configmaps"), 'cannot list resource "configmaps"'),
    "reading a runner's log without rights": (as_nobody("logs", "job/attack"), "is forbidden"),
    "writing a status without rights": (
        as_nobody("patch", "crewrun", "attack", "--subresource=status", "--type=merge", "-p", '{"status": {}}'),
        'resource "crewruns/status"',
    ),
}


@pytest.fixture
def attacked(empty_namespace: Kube, llm: RemoteLLM) -> Space:
    """A namespace whose default profile has a key, and whose Secrets include another's."""
    key = "sk-attacked-5f0b1c77"
    for name, data in (("llm-keys", {"openai": key}), ("of-another-team", {"openai": key})):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        empty_namespace.apply(secret)
    empty_namespace.apply(profile(llm))
    llm.play()
    return Space(empty_namespace, llm, key)


def test_each_attack_of_the_table_is_answered(attacked: Space) -> None:
    """One namespace for all of them; what an attack left there is taken away before the next."""
    table, wrong = [], []
    for title, (attack, want) in ATTACKS.items():
        told = attack(attacked)
        table.append(f"{title} | {' '.join(told.split())[:160]}")
        if want not in told or attacked.key in told:
            wrong.append((title, want, told))
        attacked.kube.kubectl("delete", "crewruns", "--all")
        attacked.kube.kubectl("delete", "crewprofile/mine", "configmap/classic", "--ignore-not-found")
    print("\n".join(table))
    assert wrong == []

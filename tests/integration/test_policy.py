"""The policy of a cluster, asked twice: of the API server when an object is written, and of an operator that nobody
helps. One table for both, so that they cannot differ."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from crewrun_api.names import PAYLOAD_LIMIT_BYTES
from tests.integration.conftest import ROOT, devcluster
from tests.support.kube import GROUP, VERSION, Kube, condition, document
from tests.support.operator import Operator
from tests.support.policy import AGENT, ALLOWED, POLICY, REFUSED, TASK, Case, crew_spec, run_spec

CASES = [*REFUSED, *ALLOWED]
RUNNER = {"repository": "localhost/crewrun-runner", "tag": "dev"}


@pytest.fixture(scope="module")
def guarded(kube: Kube) -> Iterator[Kube]:
    """A namespace in which the chart's ValidatingAdmissionPolicies hold, with a run from before they did."""
    space = kube.within("policy-guarded")
    space.apply(document("CrewRun", "earlier", FORBIDDEN))
    with policies(space, POLICY):
        yield space


@contextmanager
def policies(space: Kube, policy: dict[str, Any]) -> Iterator[Kube]:
    """The namespace, while the chart's ValidatingAdmissionPolicies hold in it alone."""
    watch = {"namespaces": [space.namespace]}
    values = json.dumps({"policy": policy, "runner": {"image": RUNNER}, "watch": watch})
    command = [devcluster("tool", "helm"), "template", space.namespace, str(ROOT / "charts/crewrun"), "-f", "-"]
    command += ["--show-only", "templates/admission.yaml"]
    rendered = subprocess.run(command, check=True, input=values, stdout=subprocess.PIPE, text=True).stdout
    space.kubectl("apply", "-f", "-", stdin=rendered)
    try:
        await_policies(space)
        yield space
    finally:
        space.kubectl("delete", "-f", "-", stdin=rendered)


def await_policies(space: Kube) -> None:
    """Until each is in force: nothing says so but what it does."""
    deadline = time.monotonic() + 60
    image = {"pod": {"image": "evil"}}
    for kind, spec in (("CrewProfile", image), ("Crew", crew_spec(**image)), ("CrewRun", run_spec(**image))):
        while answer(space, Case("an image", kind, spec)) is None:
            assert time.monotonic() < deadline, f"the policy of {kind} is not in force"


def answer(space: Kube, case: Case) -> str | None:
    """Why the API server does not take it; None if it does. Nothing is stored."""
    try:
        space.custom.create_namespaced_custom_object(
            GROUP, VERSION, space.namespace, f"{case.kind.lower()}s", document(case.kind, "x", case.spec), dry_run="All"
        )
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return None


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_the_api_server_refuses_at_once_and_names_the_field(case: Case, guarded: Kube) -> None:
    told = answer(guarded, case) or "nothing"
    assert f"denied request: {case.want}: " in told


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_the_api_server_takes_what_is_allowed(case: Case, guarded: Kube) -> None:
    assert answer(guarded, case) is None


@pytest.fixture(scope="module")
def judged(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The condition Accepted of a run of each case, by an operator in a namespace without admission policies."""
    space = kube.within("policy-open")
    settings = {"CREWRUN_POLICY": json.dumps(POLICY), "CREWRUN_NAMESPACES": json.dumps([space.namespace])}
    space.apply(classic("classic", "a: {role: W, goal: G, backstory: B}"))
    space.apply(classic("with-tools", "a: {role: W, goal: G, backstory: B, tools: [FileReadTool]}"))
    space.apply(document("Crew", "x", crew_spec()), document("CrewProfile", "y", {}))
    runs = {str(case): f"case-{number}" for number, case in enumerate(CASES)}
    documents = [each for case in CASES for each in objects(case, runs[str(case)])]
    for start in range(0, len(documents), 40):
        space.apply(*documents[start : start + 40])
    with Operator(kube.kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log", **settings):
        yield {
            case: condition(space.await_run(name, lambda run: bool(condition(run, "Accepted"))), "Accepted")
            for case, name in runs.items()
        }
    space.kubectl("delete", "crewruns", "--all")  # another operator has another policy, and would run them


def classic(name: str, agents: str) -> dict[str, Any]:
    data = {"agents.yaml": agents, "tasks.yaml": "t: {description: D, expected_output: E, agent: a}"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def objects(case: Case, name: str) -> list[dict[str, Any]]:
    """The case, and a run in which it takes part."""
    its = document(case.kind, name, case.spec)
    if case.kind == "CrewRun":
        return [its]
    run = run_spec(profile=name) if case.kind == "CrewProfile" else {**run_spec(), "crewRef": {"name": name}}
    unused = "llm" if case.kind == "CrewProfile" else "crew"
    return [its, document("CrewRun", name, {field: run[field] for field in run if field != unused})]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_the_operator_refuses_the_same_by_itself(case: Case, judged: dict[str, Any]) -> None:
    told = judged[str(case)]
    prefix = "" if case.kind == "CrewRun" else f"{case.kind}/case-{CASES.index(case)}: "
    assert (told["status"], told["reason"]) == ("False", "Forbidden"), told
    assert told["message"].startswith(f"{prefix}{case.want}: ")


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_the_operator_accepts_what_is_allowed(case: Case, judged: dict[str, Any]) -> None:
    assert judged[str(case)]["status"] == "True", judged[str(case)]


FORBIDDEN = run_spec(env=[{"name": "A", "value": "b"}], inputs={"topic": "AI"}, suspend=True)
EDITS: list[tuple[dict[str, Any], bool]] = [
    ({"metadata": {"labels": {"team": "a"}}}, True),
    ({"spec": {"suspend": False}}, True),
    ({"spec": {"cancel": True}}, True),
    ({"spec": {"cancel": True, "env": None}}, True),
    ({"spec": {"rerun": "1"}}, False),
    ({"spec": {"inputs": {"topic": None, "subject": "AI"}}}, False),
    ({"spec": {"cancel": True, "env": [{"name": "A", "value": "c"}]}}, False),
]


@pytest.mark.parametrize(("edit", "want_taken"), EDITS, ids=str)
def test_a_run_from_before_the_policy_is_stopped_and_labelled_but_says_nothing_new(
    edit: dict[str, Any], want_taken: bool, guarded: Kube
) -> None:
    done = guarded.run_kubectl(
        "patch", "crewrun", "earlier", "--type=merge", "--dry-run=server", "-p", json.dumps(edit)
    )
    assert (done.returncode == 0, "denied request: spec.env: " in done.stderr) == (want_taken, not want_taken)


def test_a_policy_without_profile_only_has_the_bounds_alone(kube: Kube) -> None:
    """A namespace of its own, a moment later: the policies are the guarded one's, with another `secretSources`."""
    with policies(kube.within("policy-bounds"), {**POLICY, "secretSources": "Any"}) as space:
        taken = Case("a Secret", "CrewRun", run_spec(secrets=[{"mountPath": "/k", "secretName": "x"}]))
        refused = Case("an image", "CrewRun", run_spec(crew=crew_spec(pod={"image": "evil"})), "spec.crew.pod.image")
        assert answer(space, taken) is None
        assert f"denied request: {refused.want}: this image is not" in (answer(space, refused) or "")


def test_the_largest_crew_that_can_run_is_judged_within_the_limits_of_the_api_server(guarded: Kube) -> None:
    agents = {f"agent-{number}": {**AGENT, "llm": {"model": "openai/gpt-4o"}} for number in range(100)}
    tasks = [{**TASK, "name": f"t{number}", "agent": "agent-0", "description": "x" * 330} for number in range(450)]
    spec = {"definition": {"agents": agents, "tasks": tasks}}
    assert 190_000 < len(json.dumps(spec)) < PAYLOAD_LIMIT_BYTES
    assert answer(guarded, Case("a large crew", "Crew", spec)) is None
    tasks[-1]["tools"] = ["FileReadTool"]
    assert "denied request: spec.definition.tasks[449].tools: " in (
        answer(guarded, Case("a large crew", "Crew", spec)) or ""
    )


def test_a_list_that_is_empty_allows_nothing_but_the_operators_own_image(kube: Kube) -> None:
    policy: dict[str, list[str]] = {name: [] for name in ("images", "serviceAccounts", "runtimeClasses", "volumeTypes")}
    with policies(kube.within("policy-empty"), {**POLICY, **policy}) as space:
        own = Case("the operator's own image", "CrewProfile", {"pod": {"image": "localhost/crewrun-runner:dev"}})
        foreign = Case("an account", "CrewProfile", {"pod": {"serviceAccountName": "default"}})
        assert answer(space, own) is None
        assert "denied request: spec.pod.serviceAccountName: " in (answer(space, foreign) or "")


def test_the_policies_are_free_of_warnings(guarded: Kube) -> None:
    guarded.kubectl("wait", "--for=jsonpath={.status.observedGeneration}=1", "validatingadmissionpolicies", "--all")
    found = yaml.safe_load(guarded.kubectl("get", "validatingadmissionpolicies", "-o", "yaml"))["items"]
    assert [policy["status"].get("typeChecking") for policy in found] == [{}] * 3


def test_the_operator_alone_knows_what_configmaps_hold(judged: dict[str, Any], kube: Kube) -> None:
    space = kube.within("policy-open")
    space.apply(document("CrewRun", "classic-tools", run_spec(crew={"configMap": {"name": "with-tools"}})))
    told = condition(space.await_run("classic-tools", lambda run: bool(condition(run, "Accepted"))), "Accepted")
    assert (told["status"], told["reason"]) == ("False", "Forbidden")
    assert told["message"].startswith(
        "ConfigMap/with-tools: agents.yaml: line 1: a.tools: crews and runs may not have tools"
    )

"""Wrong manifests: refused by the API server, or told as Accepted=False; never a Job."""

import copy
import json
from typing import Any

import pytest

from tests.support.kube import Document, Kube, condition, crew, document, run
from tests.support.operator import Operator


def without(manifest: Document, *path: str | int) -> Document:
    """The manifest without the field at this path."""
    result = copy.deepcopy(manifest)
    node: Any = result
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return result


def changed(manifest: Document, value: Any, *path: str | int) -> Document:
    """The manifest with this value at this path."""
    result = copy.deepcopy(manifest)
    node: Any = result
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return result


RUN, CREW = run("r", "fine"), crew("fine")
PROFILE = document("CrewProfile", "p", {})
TASK = ("spec", "definition", "tasks", 0)
KEY = {"name": "KEY", "secretKeyRef": {"name": "keys", "key": "openai"}}
SECRET_INPUT = {"secretKeyRef": {"name": "private", "key": "customer"}, "input": "customer"}

REFUSED = {
    "a crew whose name is a path": (
        changed(RUN, {"name": "../../secrets/keys"}, "spec", "crewRef"),
        "spec.crewRef.name",
    ),
    "a run without a crew": (without(RUN, "spec", "crewRef"), "give exactly one of crewRef and crew"),
    "a run with two crews": (changed(RUN, CREW["spec"], "spec", "crew"), "give exactly one of crewRef and crew"),
    "a run with an unknown field": (changed(RUN, 1, "spec", "maxAttempts"), 'unknown field "spec.maxAttempts"'),
    "a crew without a source": (without(CREW, "spec", "definition"), "give exactly one of definition"),
    "a crew with two sources": (
        changed(CREW, {"name": "c"}, "spec", "configMap"),
        "give exactly one of definition",
    ),
    "a timeout of the wrong type": (changed(RUN, "soon", "spec", "timeoutSeconds"), "spec.timeoutSeconds"),
    "a timeout below its range": (changed(RUN, 0, "spec", "timeoutSeconds"), "spec.timeoutSeconds"),
    "an unknown retry reason": (
        changed(RUN, {"rules": [{"reason": "Bored", "action": "Retry"}]}, "spec", "retry"),
        "spec.retry.rules[0].reason",
    ),
    "a Secret that is both variable and files": (
        changed(PROFILE, [{**KEY, "mountPath": "/keys", "secretName": "keys"}], "spec", "secrets"),
        "give either name and secretKeyRef",
    ),
    "a Secret given by value": (
        changed(PROFILE, [{"name": "KEY", "value": "sk-123"}], "spec", "secrets"),
        'unknown field "spec.secrets[0].value"',
    ),
    "a priority beyond all": (changed(RUN, 1_000_001, "spec", "priority"), "spec.priority: Invalid value"),
    "a budget that is no amount": (changed(RUN, {"maxCostUSD": "a lot"}, "spec", "budget"), "spec.budget.maxCostUSD"),
    "a crew that allows Python": (changed(CREW, True, "spec", "allowPython"), 'unknown field "spec.allowPython"'),
    "a run that allows Python": (changed(RUN, True, "spec", "allowPython"), 'unknown field "spec.allowPython"'),
    "a crew in a ConfigMap of a wrong name": (
        document("Crew", "c", {"configMap": {"name": "../c"}}),
        "spec.configMap.name",
    ),
    "a crew in an image without an image": (
        document("Crew", "c", {"entrypoint": {"target": "a.b:C"}}),
        "spec.entrypoint.image",
    ),
    "a crew in an image without a name": (
        document("Crew", "c", {"entrypoint": {"target": "a.b", "image": "i"}}),
        "spec.entrypoint.target",
    ),
    "a webhook without a URL": (
        changed(RUN, {"webhook": {}}, "spec", "onFailure"),
        "give exactly one of url and urlFrom",
    ),
    "a webhook with two URLs": (
        changed(RUN, {"webhook": {"url": "https://a", "urlFrom": {"name": "a", "key": "b"}}}, "spec", "onSuccess"),
        "give exactly one of url and urlFrom",
    ),
    "a webhook of another kind": (
        changed(RUN, {"webhook": {"url": "ftp://example.test"}}, "spec", "onSuccess"),
        "spec.onSuccess.webhook.url",
    ),
    "inputs from nowhere": (changed(RUN, [{}], "spec", "inputsFrom"), "give either configMapRef alone"),
    "inputs from two sources at once": (
        changed(RUN, [{"configMapRef": {"name": "more"}, **SECRET_INPUT}], "spec", "inputsFrom"),
        "give either configMapRef alone",
    ),
    "a name for the inputs of a ConfigMap": (
        changed(RUN, [{"configMapRef": {"name": "more"}, "input": "a"}], "spec", "inputsFrom"),
        "give either configMapRef alone",
    ),
    "a Secret that gives no input": (
        changed(RUN, [without({"spec": SECRET_INPUT}, "spec", "input")["spec"]], "spec", "inputsFrom"),
        "give either configMapRef alone",
    ),
    "an input that two Secrets give": (
        changed(RUN, [SECRET_INPUT, SECRET_INPUT], "spec", "inputsFrom"),
        "an input is given by two entries with secretKeyRef",
    ),
}


@pytest.mark.parametrize(("manifest", "want_message"), REFUSED.values(), ids=REFUSED.keys())
def test_the_api_server_refuses(kube: Kube, manifest: Document, want_message: str) -> None:
    assert want_message in kube.refusal(manifest)


def test_values_that_mean_what_happens_anyway_are_taken(space: Kube, operator: Operator) -> None:
    spec = {
        "suspend": False,
        "cancel": False,
        "rerun": "",
        "priority": 0,
        "onSuccess": {},
        "inputsFrom": [],
        "memory": {"enabled": False},
    }
    space.apply(crew("fine"), run("r", "fine", **spec))
    assert space.await_end("r")["status"]["phase"] == "Succeeded"


NOT_ACCEPTED = {
    "an input is missing": (
        CREW,
        without(RUN, "spec", "inputs", "topic"),
        "InvalidInputs",
        "spec.inputs.topic: is missing: Crew/fine: spec.definition.agents.a.goal uses {topic}",
    ),
    "an input does not match the schema": (
        changed(CREW, {"properties": {"topic": {"maxLength": 1}}}, "spec", "inputSchema"),
        RUN,
        "InvalidInputs",
        'spec.inputs.topic: "AI" is longer than 1 character',
    ),
    "the definition names an unknown agent": (
        changed(CREW, "b", *TASK, "agent"),
        RUN,
        "InvalidCrew",
        "Crew/fine: spec.definition.tasks[0].agent: there is no agent 'b'; the definition names a",
    ),
    "a task has no expected output": (
        without(CREW, *TASK, "expected_output"),
        RUN,
        "InvalidCrew",
        "Crew/fine: spec.definition.tasks[0].expected_output: is required",
    ),
    "the profile does not exist": (
        CREW,
        changed(RUN, "production", "spec", "profile"),
        "ProfileNotFound",
        "spec.profile: there is no CrewProfile 'production'",
    ),
    "the crew is too large for annotations": (
        changed(CREW, "x" * 210_000, *TASK, "description"),
        RUN,
        "TooLarge",
        "more than the 204800 that fit",
    ),
}


@pytest.mark.parametrize(
    ("crew_manifest", "run_manifest", "want_reason", "want_message"), NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys()
)
def test_the_operator_does_not_accept(
    space: Kube,
    operator: Operator,
    crew_manifest: Document,
    run_manifest: Document,
    want_reason: str,
    want_message: str,
) -> None:
    space.apply(crew_manifest, run_manifest)
    refused = space.await_run("r", lambda r: condition(r, "Accepted").get("status") == "False")
    assert condition(refused, "Accepted")["reason"] == want_reason
    assert want_message in condition(refused, "Accepted")["message"]
    assert refused["status"]["observedGeneration"] == 1
    assert space.jobs_of(refused) == []


def test_a_run_goes_on_when_what_was_wrong_is_mended(space: Kube, operator: Operator) -> None:
    space.apply(changed(CREW, "b", *TASK, "agent"), RUN)
    space.await_phase("r", "Pending")
    space.apply(CREW)
    assert space.await_end("r")["status"]["phase"] == "Succeeded"


def test_a_pod_that_the_api_server_refuses_fails_the_run_with_its_words(space: Kube, operator: Operator) -> None:
    space.apply(CREW, changed(RUN, {"tolerations": [{"operator": "Sometimes"}]}, "spec", "pod"))
    ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["attempts"][0]["reason"]) == ("Failed", "JobRejected")
    assert "tolerations[0].operator" in condition(ended, "Succeeded")["message"]


def test_a_quantity_that_is_none_is_told_with_its_field(space: Kube, operator: Operator) -> None:
    space.apply(CREW, changed(RUN, {"resources": {"limits": {"memory": "much"}}}, "spec", "pod"))
    refused = condition(space.await_phase("r", "Pending"), "Accepted")
    assert "spec.pod.resources.limits.memory" in refused["message"]


def test_typed_fields_are_frozen_once_the_run_is_accepted(space: Kube, operator: Operator) -> None:
    space.apply(CREW, RUN)
    space.await_end("r")
    refusal = space.refusal(changed(RUN, {"name": "other"}, "spec", "crewRef"))
    assert "spec.crewRef" in refusal
    assert "cannot change once the run is accepted" in refusal
    space.apply(changed(RUN, 1000, "spec", "ttlSecondsAfterFinished"))


def test_a_run_with_a_name_of_200_characters_works(space: Kube, operator: Operator) -> None:
    name = "a" * 100 + "." + "b" * 99
    space.apply(CREW, run(name, "fine"))
    ended = space.await_end(name)
    assert ended["status"]["phase"] == "Succeeded"
    assert len(space.jobs_of(ended)) == 1


def test_an_object_as_deep_as_the_api_server_takes_is_refused_and_stops_nobody(space: Kube, operator: Operator) -> None:
    levels = 9_000
    inputs = '{"a":' * levels + "1" + "}" * levels
    deep = json.dumps(run("deep", "fine", inputs="HERE")).replace('"HERE"', inputs)
    path = f"/apis/crewrun.dev/v1alpha1/namespaces/{space.namespace}/crewruns"
    space.kubectl("create", "--raw", path, "-f", "-", stdin=deep)
    space.apply(CREW, RUN)
    assert space.await_end("r")["status"]["phase"] == "Succeeded"
    space.kubectl("wait", "crewrun/deep", "--for=jsonpath={.status.phase}=Pending", "--timeout=30s")
    message = space.kubectl(
        "get", "crewrun", "deep", "-o", "jsonpath={.status.conditions[?(@.type=='Accepted')].message}"
    )
    assert message == "spec.inputs.a.a: is nested more than 64 levels deep"

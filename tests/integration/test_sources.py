"""Crews from ConfigMaps and images, inputs from ConfigMaps and Secrets, on a real API server."""

import json
from typing import Any

import pytest
import yaml

from tests.support.kube import Document, Kube, condition, crew, document, run
from tests.support.operator import Operator

DEFINITION = crew("fine")["spec"]["definition"]
AGENTS = yaml.safe_dump(DEFINITION["agents"])
TASK = {key: value for key, value in DEFINITION["tasks"][0].items() if key != "name"}
MORE = {"configMapRef": {"name": "more"}}


def config_map(name: str, **data: str) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def files(words: str = TASK["description"], **more: str) -> Document:
    """The crew `fine` as classic files; `words` are its task's."""
    tasks = yaml.safe_dump({"t1": {**TASK, "description": words}})
    return config_map("files", **{"agents.yaml": AGENTS, "tasks.yaml": tasks, **more})


def classic(name: str, **spec: Any) -> Document:
    return document("Crew", name, {"configMap": {"name": "files"}, **spec})


def carried(space: Kube, ended: Document, what: str = "spec") -> list[Document]:
    """What the Jobs of a run carry, by attempt."""
    jobs = sorted(space.jobs_of(ended), key=lambda job: int(job["metadata"]["labels"]["crewrun.dev/attempt"]))
    annotations = [job["spec"]["template"]["metadata"]["annotations"] for job in jobs]
    return [json.loads(each[f"crewrun.dev/{what}"]) for each in annotations]


def words(spec: Document) -> str:
    text: str = spec["definition"]["tasks"][0]["description"]
    return text


def accepted(manifest: Document) -> tuple[str, str]:
    found = condition(manifest, "Accepted")
    return found.get("status", ""), found.get("reason", "")


def test_a_crew_of_classic_files_runs_as_its_definition(space: Kube, operator: Operator) -> None:
    space.apply(files(**{"crew.yaml": "verbose: true\n"}), classic("fine"), run("r", "fine"))
    ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["progress"]) == ("Succeeded", "1/1")
    (spec,) = carried(space, ended)
    assert spec["definition"] == {**DEFINITION, "verbose": True}


def test_a_run_waits_for_its_config_map_and_starts_when_it_appears(space: Kube, operator: Operator) -> None:
    space.apply(classic("fine"), run("r", "fine"))
    waiting = space.await_phase("r", "Pending")
    assert accepted(waiting) == ("False", "ConfigMapNotFound")
    assert "there is no ConfigMap 'files'" in condition(waiting, "Accepted")["message"]
    assert "looks again every 15 s" in condition(waiting, "Accepted")["message"]
    space.apply(files())
    assert space.await_end("r")["status"]["phase"] == "Succeeded"


def test_a_run_keeps_the_files_that_it_began_with_and_a_new_one_reads_them_anew(
    space: Kube, operator: Operator
) -> None:
    retry = {"backoff": {"initialSeconds": 5, "maxSeconds": 5}}
    space.apply(files("Old words."), classic("fails-once"), run("old", "fails-once", retry=retry))
    space.await_phase("old", "BackingOff")
    space.apply(files("New words."), run("new", "fails-once", retry=retry))
    old, new = space.await_end("old"), space.await_end("new")
    assert [words(spec) for spec in carried(space, old)] == ["Old words."] * 2
    assert [words(spec) for spec in carried(space, new)] == ["New words."] * 2
    space.kubectl("patch", "crewrun", "old", "--type=merge", "-p", '{"spec":{"rerun":"again"}}')
    space.await_run("old", lambda found: found["status"].get("attemptCount") == 3)
    assert words(carried(space, space.await_end("old"))[2]) == "New words."


def test_a_run_goes_on_when_its_config_map_is_gone(space: Kube, operator: Operator) -> None:
    retry = {"backoff": {"initialSeconds": 2}}
    space.apply(files("Old words."), classic("fails-once"), run("r", "fails-once", retry=retry))
    space.await_phase("r", "BackingOff")
    space.kubectl("delete", "configmap", "files")
    ended = space.await_end("r")
    assert ended["status"]["phase"] == "Succeeded"
    assert [words(spec) for spec in carried(space, ended)] == ["Old words."] * 2


def test_a_crew_in_an_image_runs_in_that_image(space: Kube, operator: Operator) -> None:
    entrypoint = {"target": "shop.crew:Crew", "image": "registry.example/shop:1"}
    other = {"pod": {"image": "registry.example/shop:2"}}
    space.apply(document("Crew", "fine", {"entrypoint": entrypoint}), run("r", "fine"), run("o", "fine", **other))
    ended = space.await_end("r")
    (job,) = space.jobs_of(ended)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/shop:1"
    (spec,) = carried(space, ended)
    assert spec["entrypoint"] == "shop.crew:Crew" and "definition" not in spec
    assert (ended["status"]["phase"], ended["status"]["progress"]) == ("Succeeded", "1/1")
    (job,) = space.jobs_of(space.await_end("o"))
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/shop:2"


def test_inputs_come_from_config_maps_and_secrets(space: Kube, operator: Operator) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}, "stringData": {"who": "canary"}}
    customer = {"secretKeyRef": {"name": "private", "key": "who"}, "input": "customer"}
    schema = {"required": ["topic", "depth", "customer"], "properties": {"customer": {"maxLength": 9}}}
    more = config_map("more", topic="ants", depth="3")
    manifest = run("r", "fine", inputsFrom=[MORE, customer], inputs={"depth": 4})
    space.apply(secret, more, crew("fine", inputSchema=schema), manifest)
    ended = space.await_end("r")
    assert ended["status"]["phase"] == "Succeeded"
    assert carried(space, ended, "inputs") == [{"topic": "ants", "depth": 4}]
    (spec,) = carried(space, ended)
    assert (spec["secretInputs"], spec["inputSchema"]) == ({"customer": "CREWRUN_INPUT_0"}, schema)
    (job,) = space.jobs_of(ended)
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    reference = {"secretKeyRef": {"name": "private", "key": "who"}}
    assert {"name": "CREWRUN_INPUT_0", "valueFrom": reference} in env
    assert "canary" not in json.dumps([job, ended])


def test_a_run_waits_for_the_config_map_of_its_inputs(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), run("r", "fine", inputsFrom=[MORE], inputs={}))
    waiting = space.await_phase("r", "Pending")
    assert accepted(waiting) == ("False", "ConfigMapNotFound")
    assert "spec.inputsFrom[0].configMapRef.name: there is no" in condition(waiting, "Accepted")["message"]
    space.apply(config_map("more", topic="ants"))
    assert carried(space, space.await_end("r"), "inputs") == [{"topic": "ants"}]


def test_a_profile_may_let_definitions_carry_python(space: Kube, operator: Operator) -> None:
    with_python = crew("fine", profile="open")
    with_python["spec"]["definition"]["agents"]["a"]["tools"] = ["custom:lookup"]
    space.apply(document("CrewProfile", "open", {"allowPython": False}), with_python, run("r", "fine"))
    refused = space.await_phase("r", "Pending")
    assert accepted(refused) == ("False", "InvalidCrew")
    want_path = "Crew/fine: spec.definition.agents.a.tools[0]: custom:lookup runs Python"
    assert want_path in condition(refused, "Accepted")["message"]
    space.apply(document("CrewProfile", "open", {"allowPython": True}))
    ended = space.await_end("r")
    assert [spec["allowPython"] for spec in carried(space, ended)] == [True]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NOT_ACCEPTED = {
    "no tasks.yaml": (
        config_map("files", **{"agents.yaml": AGENTS}),
        "ConfigMapNotFound",
        "Crew/fine: spec.configMap.name: ConfigMap 'files' has no key tasks.yaml",
    ),
    "a file that is no YAML": (
        files(**{"agents.yaml": "a: [\n"}),
        "InvalidCrew",
        "ConfigMap/files: agents.yaml: line 2: while parsing a flow node",
    ),
    "a key that stands twice": (
        files(**{"agents.yaml": AGENTS + AGENTS}),
        "InvalidCrew",
        "ConfigMap/files: agents.yaml: line 5: the key 'a' stands twice",
    ),
    "a bomb of aliases": (
        files(**{"crew.yaml": BOMB}),
        "InvalidCrew",
        "holds too much, with every alias followed",
    ),
    "a task without an agent": (
        files(**{"tasks.yaml": "t1:\n  description: x\n  expected_output: y\n  agent: b\n"}),
        "InvalidCrew",
        "ConfigMap/files: tasks.yaml: line 4: t1.agent: there is no agent 'b'",
    ),
    "an input that nobody gives": (
        files("On {other}."),
        "InvalidInputs",
        "spec.inputs.other: is missing: ConfigMap/files: tasks.yaml: line 3: t1.description uses {other}",
    ),
    "a file that is too large": (files("x" * 210_000), "TooLarge", "ConfigMap 'files' holds "),
    "Python": (
        files(**{"crew.yaml": "step_callback: os.system\n"}),
        "InvalidCrew",
        "ConfigMap/files: crew.yaml: line 1: step_callback: runs Python",
    ),
}


@pytest.mark.parametrize(("found", "want_reason", "want_message"), NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
def test_the_operator_does_not_accept(
    space: Kube, operator: Operator, found: Document, want_reason: str, want_message: str
) -> None:
    space.apply(found, classic("fine"), run("r", "fine"))
    refused = space.await_run("r", lambda r: condition(r, "Accepted").get("status") == "False")
    assert condition(refused, "Accepted")["reason"] == want_reason
    assert want_message in condition(refused, "Accepted")["message"]
    assert space.jobs_of(refused) == []

"""What a run is made of: crews from ConfigMaps and images, inputs from elsewhere, and what is refused of them."""

import json
from datetime import timedelta
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.outcome import TaskRecord
from crewrun_api.reasons import AcceptedReason, ConditionType, Phase, TaskState
from crewrun_api.run import RunStatus
from crewrun_operator.decide import decide
from crewrun_operator.job import build_job
from crewrun_operator.refused import Refused
from crewrun_operator.sources import config_maps_of
from crewrun_operator.status import condition
from crewrun_operator.validate import Accepted, accept
from crewrun_operator.views import config_map_view
from tests.unit.builders import (
    DEFINITION,
    CrewBuilder,
    PodBuilder,
    ProfileBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    classic_files,
)

FILES = {"configMap": {"name": "files"}}
IMAGE = {"entrypoint": {"target": "shop.crew:Crew", "image": "shop:1"}}
MORE = {"configMapRef": {"name": "more"}}
CUSTOMER = {"secretKeyRef": {"name": "private", "key": "customer"}, "input": "customer"}
CREW = "Crew/research: spec"


def a_crew(**source: Any) -> CrewBuilder:
    return CrewBuilder().without("definition").spec(**source)


def a_scene(
    crew: CrewBuilder | None = None,
    profile: dict[str, Any] | None = None,
    maps: dict[str, dict[str, str] | None] | None = None,
    **run: Any,
) -> Scene:
    """A run of this crew, among these ConfigMaps."""
    scene = Scene(RunBuilder().spec(**run).build(), (crew or CrewBuilder()).build())
    if profile is not None:
        scene.store.put_profile(ProfileBuilder().spec(default=True, **profile).build())
    for name, data in (maps or {}).items():
        scene.config_maps[name] = None if data is None else config_map_view({"data": data})
    return scene


def accepted(*args: Any, **kwargs: Any) -> Accepted:
    return accept(a_scene(*args, **kwargs).observe())


def files(**changed: str | None) -> dict[str, dict[str, str] | None]:
    """The classic files, some of them otherwise or away: `agents` is agents.yaml."""
    data = {**classic_files(), **{f"{name}.yaml": text for name, text in changed.items()}}
    return {"files": {name: text for name, text in data.items() if text is not None}}


def spec_of(payload_of: Accepted) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(payload_of.payload.spec)
    return spec


@pytest.mark.parametrize(
    ("run", "crew", "want_names"),
    [
        ({}, None, set()),
        ({}, {"definition": {}}, set()),
        ({}, FILES, {"files"}),
        ({"inputsFrom": [MORE, CUSTOMER, MORE]}, FILES, {"files", "more"}),
        ({"inputsFrom": None}, {"configMap": None}, set()),
        ({"inputsFrom": [7, {"configMapRef": "x"}, {"configMapRef": {"name": ["x"]}}]}, {"configMap": "x"}, set()),
    ],
)
def test_the_config_maps_of_a_run_are_found_in_specs_of_any_shape(
    run: dict[str, Any], crew: dict[str, Any] | None, want_names: set[str]
) -> None:
    assert config_maps_of(run, crew) == want_names


# crews


def test_classic_files_run_as_the_definition_that_they_stand_for() -> None:
    classic = accepted(a_crew(**FILES), maps=files())
    assert classic.payload == accepted().payload
    assert [(task.name, task.agent) for task in classic.tasks] == [("facts", "Writer"), ("report", "Writer")]


def test_an_inline_crew_has_classic_files_too() -> None:
    run = RunBuilder().without("crewRef").spec(crew=FILES).build()
    scene = Scene(run)
    scene.config_maps["files"] = config_map_view({"data": classic_files()})
    assert spec_of(accept(scene.observe()))["definition"] == DEFINITION


def test_what_is_added_for_new_sources_leaves_the_digest_of_a_plain_crew_alone() -> None:
    """A run that began before an upgrade of the operator goes on."""
    want_missing = {"allowPython", "secretInputs", "entrypoint", "inputSchema"}
    schema = CrewBuilder().spec(inputSchema={"type": "object"})
    assert not spec_of(accepted(schema)).keys() & want_missing


TOOL = {"agents": {"writer": {**DEFINITION["agents"]["writer"], "tools": ["custom:shell"]}}}
NEED = {"required": ["customer"], "properties": {"topic": {"maxLength": 4}}}


@pytest.mark.parametrize(
    ("scene", "want_reason", "want_message"),
    [
        pytest.param(a_scene(a_crew(**FILES)), "ConfigMapNotFound",
                     f"{CREW}.configMap.name: there is no ConfigMap 'files' in this namespace that the operator may "
                     "read; the run starts when it appears, and looks again every 15 s", id="not read"),
        pytest.param(a_scene(a_crew(**FILES), maps={"files": None}), "ConfigMapNotFound", f"{CREW}.configMap.name: ",
                     id="not there"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(tasks=None)), "ConfigMapNotFound",
                     f"{CREW}.configMap.name: ConfigMap 'files' has no key tasks.yaml; the run starts when it has",
                     id="no tasks"),
        pytest.param(a_scene(a_crew(**FILES), maps={"files": {}}), "ConfigMapNotFound",
                     f"{CREW}.configMap.name: ConfigMap 'files' has no key agents.yaml", id="no keys"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(agents="a: 1\na: 2")), "InvalidCrew",
                     "ConfigMap/files: agents.yaml: line 2: the key 'a' stands twice", id="malformed"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(tasks="t:\n  description: x\n  agent: writer\n")),
                     "InvalidCrew", "ConfigMap/files: tasks.yaml: line 1: t.expected_output: is required",
                     id="task without a field"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(crew="process: hierarchical")), "InvalidCrew",
                     "ConfigMap/files: crew.yaml: a hierarchical process needs manager_llm", id="no manager"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(), inputs={}), "InvalidInputs",
                     "spec.inputs.topic: is missing: ConfigMap/files: agents.yaml: line 3: writer.goal uses {topic}",
                     id="input missing"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(more="x" * names.PAYLOAD_LIMIT_BYTES)), "TooLarge",
                     f"{CREW}.configMap.name: ConfigMap 'files' holds ", id="more than a run takes"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(crew=f"inputs: {{x: '{'€' * 34_000}', y: &y '{'€' * 34_000}'"
                                                              ", z: *y}")), "TooLarge",
                     f"{CREW}.configMap: definition and inputs are ", id="more than a Pod carries"),
        pytest.param(a_scene(a_crew(**FILES), maps=files(crew="step_callback: os.system")), "InvalidCrew",
                     "ConfigMap/files: crew.yaml: line 1: step_callback: runs Python", id="Python in a file"),
        pytest.param(a_scene(CrewBuilder().definition(**TOOL)), "InvalidCrew",
                     f"{CREW}.definition.agents.writer.tools[0]: custom:shell runs Python", id="Python"),
        pytest.param(a_scene(CrewBuilder().definition(**TOOL), profile={"allowPython": False}), "InvalidCrew",
                     f"{CREW}.definition.agents.writer.tools[0]: ", id="Python that the profile forbids"),
        pytest.param(a_scene(inputsFrom=[CUSTOMER, MORE]), "ConfigMapNotFound",
                     "spec.inputsFrom[1].configMapRef.name: there is no ConfigMap 'more'", id="no inputs"),
        pytest.param(a_scene(inputsFrom=[{**CUSTOMER, **MORE}]), "InvalidSpec",
                     "spec.inputsFrom[0]: Value error, give either configMapRef alone", id="inputs of two sources"),
        pytest.param(a_scene(inputsFrom=[{"secretKeyRef": {"name": "s", "key": "k"}}]), "InvalidSpec",
                     "spec.inputsFrom[0]: Value error, give either", id="a Secret for no input"),
        pytest.param(a_scene(inputsFrom=[CUSTOMER, CUSTOMER]), "InvalidSpec",
                     "spec: Value error, an input is given by two entries", id="two Secrets for one input"),
        pytest.param(a_scene(CrewBuilder().spec(inputSchema=NEED), maps={"more": {"topic": "wasps"}}, inputs={},
                             inputsFrom=[MORE, CUSTOMER]), "InvalidInputs",
                     'ConfigMap/more: topic: "wasps" is longer than 4 characters', id="an input of a ConfigMap's"),
        pytest.param(a_scene(CrewBuilder().spec(inputSchema={**NEED, "required": ["topic"]}), inputs={},
                             inputsFrom=[CUSTOMER]), "InvalidInputs",
                     "spec.inputs.topic: is missing: the crew's inputSchema requires it", id="not in the Secret"),
        pytest.param(a_scene(a_crew(**IMAGE, inputSchema=NEED)), "InvalidInputs",
                     "spec.inputs.customer: is missing: the crew's inputSchema", id="input of an image's crew missing"),
    ],
)  # fmt: skip
def test_what_a_run_cannot_be_made_of_is_refused_with_its_place(
    scene: Scene, want_reason: str, want_message: str
) -> None:
    with pytest.raises(Refused) as caught:
        accept(scene.observe())
    assert caught.value.reason == AcceptedReason(want_reason)
    assert str(caught.value).startswith(want_message)


def test_a_profile_may_allow_python() -> None:
    found = accepted(CrewBuilder().definition(**TOOL), profile={"allowPython": True})
    assert (found.resolved.allow_python, spec_of(found)["allowPython"]) == (True, True)


def test_neither_a_crew_nor_a_run_may_allow_python() -> None:
    for scene in (a_scene(allowPython=True), a_scene(CrewBuilder().spec(allowPython=True))):
        with pytest.raises(Refused, match="allowPython: Extra inputs are not permitted"):
            accept(scene.observe())


@pytest.mark.parametrize(
    ("crew", "profile", "run", "want_image"),
    [
        pytest.param({}, None, {}, "shop:1", id="the entrypoint's"),
        pytest.param({}, {"pod": {"image": "profile:1"}}, {}, "shop:1", id="is stronger than the profile's"),
        pytest.param({"pod": {"image": "crew:1"}}, None, {}, "crew:1", id="weaker than the crew's own"),
        pytest.param({"pod": {"image": "crew:1"}}, None, {"pod": {"image": "run:1"}}, "run:1", id="and than the run's"),
    ],
)
def test_the_image_of_an_entrypoint_is_the_pods(
    crew: dict[str, Any], profile: dict[str, Any] | None, run: dict[str, Any], want_image: str
) -> None:
    found = accepted(a_crew(**IMAGE, **crew), profile, **run)
    spec = spec_of(found)
    assert (spec["pod"]["image"], spec["entrypoint"]) == (want_image, "shop.crew:Crew")
    assert (found.resolved.definition, found.tasks) == (None, [])
    assert spec["pod"]["imagePullPolicy"] == "IfNotPresent", "all else of the Pod stays"


def test_inputs_of_an_entrypoint_are_checked_against_the_schema_alone() -> None:
    schema = {"properties": {"depth": {"default": 3}}}
    assert json.loads(accepted(a_crew(**IMAGE, inputSchema=schema)).payload.inputs) == {"topic": "bees", "depth": 3}


# inputs

OTHER = {"configMapRef": {"name": "other"}}


@pytest.mark.parametrize(
    ("inputs_from", "inputs", "want_inputs", "want_secret"),
    [
        pytest.param([MORE], {}, {"topic": "ants", "depth": "3"}, [], id="each key is an input"),
        pytest.param([MORE, OTHER], {}, {"topic": "wasps", "depth": "3"}, [], id="a later ConfigMap is stronger"),
        pytest.param([OTHER, MORE], {}, {"topic": "ants", "depth": "3"}, [], id="whichever it is"),
        pytest.param([MORE], {"topic": 1}, {"topic": 1, "depth": "3"}, [], id="inputs are the strongest"),
        pytest.param([MORE, CUSTOMER], {}, {"topic": "ants", "depth": "3"}, ["customer"], id="a Secret beside"),
        pytest.param([MORE, {**CUSTOMER, "input": "topic"}], {}, {"depth": "3"}, ["topic"], id="a later Secret"),
        pytest.param([{**CUSTOMER, "input": "topic"}, MORE], {}, {"topic": "ants", "depth": "3"}, [],
                     id="an earlier Secret"),
        pytest.param([{**CUSTOMER, "input": "topic"}], {"topic": "x"}, {"topic": "x"}, [], id="inputs over a Secret"),
        pytest.param([{**CUSTOMER, "input": "topic"}], {}, {}, ["topic"], id="a variable from a Secret"),
    ],
)  # fmt: skip
def test_of_inputs_that_are_given_twice_the_stronger_counts(
    inputs_from: list[Any], inputs: dict[str, Any], want_inputs: dict[str, Any], want_secret: list[str]
) -> None:
    maps = {"more": {"topic": "ants", "depth": "3"}, "other": {"topic": "wasps"}}
    found = accepted(maps=maps, inputs=inputs, inputsFrom=inputs_from)
    assert json.loads(found.payload.inputs) == want_inputs
    assert list(found.resolved.secret_inputs) == want_secret


def test_config_maps_are_stronger_than_defaults() -> None:
    crew = CrewBuilder().definition(inputs={"topic": "a"}).spec(inputSchema={"properties": {"topic": {"default": "b"}}})
    found = accepted(crew, maps={"more": {"topic": "ants"}}, inputs={}, inputsFrom=[MORE])
    assert json.loads(found.payload.inputs) == {"topic": "ants"}


def test_an_input_from_a_secret_is_a_variable_of_the_runner_and_nothing_else() -> None:
    order = [{**CUSTOMER, "input": "topic"}, {"secretKeyRef": {"name": "s", "key": "k"}, "input": "a"}]
    mine = [{"name": "CREWRUN_INPUT_0", "secretKeyRef": {"name": "mine", "key": "k"}}]
    schema = {"required": ["topic", "a"], "properties": {"a": {"default": "x"}}}
    found = accepted(CrewBuilder().spec(inputSchema=schema, secrets=mine), inputs={}, inputsFrom=order)
    spec = spec_of(found)
    assert spec["secretInputs"] == {"a": "CREWRUN_INPUT_0", "topic": "CREWRUN_INPUT_1"}
    assert spec["inputSchema"] == schema
    assert json.loads(found.payload.inputs) == {}
    job = build_job(RunBuilder().build(), 1, found.payload)
    env = {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["CREWRUN_INPUT_0"]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k"}
    assert env["CREWRUN_INPUT_1"]["valueFrom"]["secretKeyRef"] == {"name": "private", "key": "customer"}


@pytest.mark.parametrize(
    ("schema", "want_refused"),
    [
        ({"required": ["customer"]}, False),
        ({"properties": {"customer": {"minLength": 99}}}, False),
        ({"minProperties": 2}, False),
        ({"anyOf": [{"required": ["customer"]}, {"required": ["name"]}]}, False),
        ({"if": {"not": {"required": ["customer"]}}, "then": {"properties": {"topic": False}}}, False),
        ({"required": ["customer", "name"]}, True),
        ({"properties": {"topic": {"type": "integer"}}}, True),
        ({"properties": {"customer": True}, "additionalProperties": False}, True),
        ({"properties": {"of": {"required": ["customer"]}}}, True),
    ],
)
def test_what_a_secret_may_mend_is_left_to_the_runner(schema: dict[str, Any], want_refused: bool) -> None:
    scene = a_scene(CrewBuilder().spec(inputSchema=schema), inputs={"topic": "x", "of": {}}, inputsFrom=[CUSTOMER])
    if want_refused:
        with pytest.raises(Refused, match=r"spec\.inputs"):
            accept(scene.observe())
    else:
        assert accept(scene.observe())


# decisions


def test_a_run_that_waits_for_a_config_map_says_so_and_looks_again() -> None:
    scene = a_scene(a_crew(**FILES), maps={"files": None})
    plan = scene.decide()
    assert plan.status is not None and plan.start is None
    told = condition(plan.status, ConditionType.ACCEPTED)
    assert told is not None and (told.status, told.reason) == ("False", "ConfigMapNotFound")
    assert plan.again_at == scene.now + timedelta(seconds=15)
    assert len(plan.notices) == 1
    observed = scene.carry_out(plan).observe()
    scene.later(14)
    assert scene.decide().notices == ()
    assert not decide(observed, scene.now).confirm_sources
    assert decide(observed, scene.later(1).now).confirm_sources


def test_a_run_of_an_image_says_nothing_of_tasks_before_its_runner_does() -> None:
    scene = a_scene(a_crew(**IMAGE))
    scene.carry_out(scene.decide())
    assert (scene.status.progress, scene.status.task_count, scene.status.tasks) == (None, 0, [])
    scene.later(5).pod(PodBuilder().running()).settle()
    assert (scene.status.phase, scene.status.progress) == (Phase.RUNNING, None)
    scene.later(5).report(ReportBuilder()).settle()
    assert (scene.status.progress, scene.status.task_count) == ("0/2", 2)
    assert [task.state for task in scene.status.tasks] == [TaskState.RUNNING]
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.progress) == (Phase.SUCCEEDED, "2/2")


def test_a_flow_of_no_task_ends_without_a_word_on_tasks() -> None:
    scene = a_scene(a_crew(**IMAGE))
    scene.carry_out(scene.decide())
    record = RecordBuilder().with_(tasks=[], tasks_total=0, tasks_succeeded=0)
    scene.pod(PodBuilder().ended(0, record.text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.progress, scene.status.task_count) == (Phase.SUCCEEDED, None, 0)


def test_a_flow_that_shows_its_tasks_one_by_one_is_followed() -> None:
    scene = a_scene(a_crew(**IMAGE))
    scene.carry_out(scene.decide())
    first = TaskRecord(name="a", agent="A", state=TaskState.SUCCEEDED)
    scene.later(5).pod(PodBuilder().running())
    scene.report(ReportBuilder().with_(tasks=[first], tasks_total=1, tasks_succeeded=1)).settle()
    assert scene.status.progress == "1/1"
    more = [first, TaskRecord(name="b", agent="B", state=TaskState.RUNNING)]
    report = ReportBuilder(sequence=2).with_(tasks=more, tasks_total=2, tasks_succeeded=1)
    scene.later(5).report(report).settle()
    assert scene.status.progress == "1/2"


def changed(status: RunStatus) -> str | None:
    found = condition(status, ConditionType.SPEC_CHANGED)
    return found.status if found else None


@pytest.mark.parametrize(
    ("maps", "want_changed"),
    [
        pytest.param(files(), None, id="the same"),
        pytest.param(files(crew="verbose: true"), "True", id="another"),
        pytest.param({"files": None}, "True", id="gone"),
    ],
)
def test_an_edit_is_told_from_a_change_of_what_runs(
    maps: dict[str, dict[str, str] | None], want_changed: str | None
) -> None:
    scene = a_scene(a_crew(**FILES), maps=files())
    scene.carry_out(scene.decide()).later(5).pod(PodBuilder().running()).settle()
    (scene.config_maps["files"],) = (data and config_map_view({"data": data}) for data in maps.values())
    scene.later(5).edit(ttlSecondsAfterFinished=60).settle()
    assert (scene.status.observed_generation, changed(scene.status)) == (2, want_changed)

"""The acceptance check: what may start, and for what may not, the reason and the path of the field."""

import json
import socket
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api import names
from crewrun_api.reasons import AcceptedReason
from crewrun_operator.definition import Problem
from crewrun_operator.refused import Refused
from crewrun_operator.store import Store
from crewrun_operator.validate import Accepted, accept
from tests.unit.builders import DEFAULTS, DEFINITION, NOON, CrewBuilder, ProfileBuilder, RunBuilder

CREW = "Crew/research: spec"


def checked(run: RunBuilder, *others: CrewBuilder | ProfileBuilder) -> Accepted:
    store = Store(DEFAULTS)
    store.put_run(run.build())
    for other in others:
        put = store.put_crew if isinstance(other, CrewBuilder) else store.put_profile
        put(other.build())
    observed = store.observe(("team-a", "report"))
    assert observed is not None
    return accept(observed)


def schema(**more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"topic": {"type": "string", "maxLength": 9}}, **more}


def nested(depth: int) -> dict[str, Any]:
    """A schema of so many schemas, one in another."""
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"not": document}
    return document


def a_run() -> RunBuilder:
    return RunBuilder()


def inline(**crew: Any) -> RunBuilder:
    return RunBuilder().without("crewRef").spec(crew={"definition": DEFINITION, **crew})


@pytest.mark.parametrize(
    ("run", "others", "want_reason", "want_message"),
    [
        pytest.param(a_run(), [], "CrewNotFound",
                     "spec.crewRef.name: there is no Crew 'research' in namespace 'team-a'; the run starts when",
                     id="crew missing"),
        pytest.param(a_run(), [CrewBuilder().metadata(namespace="team-b")], "CrewNotFound", "spec.crewRef.name: ",
                     id="crew of another namespace"),
        pytest.param(a_run().spec(profile="p"), [CrewBuilder()], "ProfileNotFound",
                     "spec.profile: there is no CrewProfile 'p'", id="profile of the run missing"),
        pytest.param(a_run(), [CrewBuilder().spec(profile="p")], "ProfileNotFound",
                     f"{CREW}.profile: there is no CrewProfile 'p'", id="profile of the crew missing"),
        pytest.param(inline(profile="p"), [], "ProfileNotFound", "spec.crew.profile: ",
                     id="profile of an inline crew missing"),
        pytest.param(a_run().spec(topic="bees"), [CrewBuilder()], "InvalidSpec", "spec.topic: Extra inputs",
                     id="unknown field of the run"),
        pytest.param(a_run().spec(secrets=[{"name": "A"}]), [CrewBuilder()], "InvalidSpec", "spec.secrets[0]: ",
                     id="half a secret"),
        pytest.param(a_run(), [CrewBuilder().spec(llm={"modle": "x"})], "InvalidSpec", f"{CREW}.llm.modle: Extra",
                     id="unknown field of the crew"),
        pytest.param(a_run(), [CrewBuilder(), ProfileBuilder().spec(default=True, maxRPM=0)], "InvalidSpec",
                     "CrewProfile/production: spec.maxRPM: ", id="profile out of range"),
        pytest.param(a_run(), [CrewBuilder().spec(configMap={"name": "c"})], "InvalidSpec",
                     f"{CREW}: Value error, give exactly one of definition", id="two sources"),
        pytest.param(a_run(), [CrewBuilder().definition(agents={})], "InvalidCrew", f"{CREW}.definition.agents: ",
                     id="definition that would not load"),
        pytest.param(inline(definition={}), [], "InvalidCrew", "spec.crew.definition.agents: ",
                     id="inline definition that would not load"),
        pytest.param(a_run().spec(inputs={}), [CrewBuilder()], "InvalidInputs",
                     f"spec.inputs.topic: is missing: {CREW}.definition.agents.writer.goal uses {{topic}}",
                     id="input missing"),
        pytest.param(a_run().spec(inputs={}), [CrewBuilder().spec(inputSchema=schema(required=["topic", "depth"]))],
                     "InvalidInputs",
                     "spec.inputs.depth: is missing: the crew's inputSchema requires it; spec.inputs.topic: is missing",
                     id="inputs missing by schema"),
        pytest.param(a_run().spec(inputs={"topic": "bumblebees"}), [CrewBuilder().spec(inputSchema=schema())],
                     "InvalidInputs", 'spec.inputs.topic: "bumblebees" is longer than 9 characters',
                     id="input against the schema"),
        pytest.param(a_run().spec(inputs={"topic": "b", "of": {"years": ["x"]}}),
                     [CrewBuilder().spec(inputSchema=schema(additionalProperties={
                         "properties": {"years": {"items": {"type": "integer"}}}}))],
                     "InvalidInputs", 'spec.inputs.of.years.0: "x" is not of type "integer"', id="input deep inside"),
        pytest.param(a_run().spec(inputs={"topic": "b", "of": {}}),
                     [CrewBuilder().spec(inputSchema=schema(additionalProperties={"required": ["year"]}))],
                     "InvalidInputs", "spec.inputs.of.year: is missing", id="input missing deep inside"),
        pytest.param(a_run(), [CrewBuilder().spec(inputSchema={"type": "objekt"})], "InvalidCrew",
                     f'{CREW}.inputSchema.type: "objekt" is not valid', id="schema that is none"),
        pytest.param(a_run(), [CrewBuilder().spec(inputSchema={"properties": 7})], "InvalidCrew",
                     f"{CREW}.inputSchema.properties: must be an object", id="schema of no kind"),
        pytest.param(a_run(), [CrewBuilder().spec(inputSchema={"$ref": "#/$defs/gone"})], "InvalidCrew",
                     f"{CREW}.inputSchema: Pointer '/$defs/gone' does not exist", id="schema that leads nowhere"),
        pytest.param(a_run(), [CrewBuilder().spec(inputSchema=nested(200))], "InvalidSpec",
                     f"{CREW}.inputSchema.not", id="schema too deep"),
        pytest.param(a_run().spec(inputs={"topic": nested(200)}), [CrewBuilder()], "InvalidSpec",
                     "spec.inputs.topic.not: is nested more than 64 levels deep", id="inputs too deep"),
        pytest.param(a_run(), [CrewBuilder().definition(inputs={"x": nested(200)})], "InvalidSpec",
                     f"{CREW}.definition.inputs.x: is nested more than 64 levels", id="definition too deep"),
        pytest.param(a_run().spec(inputs={"topic": "€" * (names.PAYLOAD_LIMIT_BYTES // 3)}), [CrewBuilder()],
                     "TooLarge", "spec.inputs: definition and inputs are ", id="inputs too large"),
        pytest.param(a_run(), [CrewBuilder().definition(inputs={"x": "x" * names.PAYLOAD_LIMIT_BYTES})],
                     "TooLarge", f"{CREW}.definition: definition and inputs are ", id="definition too large"),
        pytest.param(a_run().spec(pod={"resources": {"limits": {"memory": "much"}}}), [CrewBuilder()], "InvalidSpec",
                     "spec.pod.resources.limits.memory: 'much' is not a quantity", id="a quantity of the run's"),
        pytest.param(a_run().spec(memory={"size": "-1Gi"}), [CrewBuilder()], "InvalidSpec",
                     "spec.memory.size: '-1Gi' is not a size such as 1Gi", id="a size of nothing"),
        pytest.param(a_run().spec(memory={"size": "500m"}), [CrewBuilder()], "InvalidSpec",
                     "spec.memory.size: '500m' is not a size such as 1Gi", id="a size of half a byte"),
        pytest.param(a_run().spec(profile="production"),
                     [CrewBuilder(), ProfileBuilder().spec(pod={"resources": {"requests": {"cpu": [1]}}})],
                     "InvalidSpec", "CrewProfile/production: spec.pod.resources.requests.cpu: [1] is not",
                     id="a quantity of the profile's"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_start_is_refused_with_the_path(
    run: RunBuilder, others: list[CrewBuilder | ProfileBuilder], want_reason: str, want_message: str
) -> None:
    with pytest.raises(Refused) as caught:
        checked(run, *others)
    assert caught.value.reason == AcceptedReason(want_reason)
    assert str(caught.value).startswith(want_message)


def test_a_refusal_shows_a_few_problems_and_counts_the_rest() -> None:
    refused = Refused(AcceptedReason.INVALID_CREW, *(Problem(f"p{n}", "is wrong") for n in range(7)))
    assert str(refused) == "p0: is wrong; p1: is wrong; p2: is wrong; p3: is wrong; p4: is wrong; and 2 more"


def test_no_schema_makes_the_operator_fetch_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        with pytest.raises(Refused, match="Retrieval is disabled"):
            checked(a_run(), CrewBuilder().spec(inputSchema={"$ref": address}))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_schema_that_leads_in_circles_and_a_pattern_that_backtracks_do_not_stop_the_operator() -> None:
    circle = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    assert checked(a_run(), CrewBuilder().spec(inputSchema=circle))
    slow = CrewBuilder().spec(inputSchema={"properties": {"topic": {"pattern": "^(a+)+$"}}})
    with pytest.raises(Refused, match="does not match"):
        checked(a_run().spec(inputs={"topic": "a" * 5000 + "!"}), slow)


@pytest.mark.parametrize(
    ("crew", "given", "want_inputs"),
    [
        pytest.param(CrewBuilder(), {"topic": "bees", "extra": [1, None]}, {"topic": "bees", "extra": [1, None]},
                     id="as given"),
        pytest.param(CrewBuilder().definition(inputs={"topic": "ants", "depth": 1}), {"depth": 2},
                     {"topic": "ants", "depth": 2}, id="the definition's own are the weakest"),
        pytest.param(CrewBuilder().definition(inputs={"topic": "ants"}).spec(
                         inputSchema={"properties": {"topic": {"default": "wasps"}, "depth": {"default": 3}}}), {},
                     {"topic": "wasps", "depth": 3}, id="then the schema's defaults"),
        pytest.param(CrewBuilder().spec(inputSchema={"properties": {"topic": {"default": "wasps"}}}), {"topic": "bees"},
                     {"topic": "bees"}, id="what is given is the strongest"),
        pytest.param(CrewBuilder().spec(inputSchema={"required": ["topic"], "properties": {"topic": {"default": "b"}}}),
                     {}, {"topic": "b"}, id="a default satisfies what is required"),
        pytest.param(CrewBuilder().spec(inputSchema={"properties": {"topic": True}}), {"topic": None}, {"topic": None},
                     id="null is given"),
        pytest.param(CrewBuilder().spec(inputSchema={}), {"topic": 1}, {"topic": 1}, id="a schema that takes all"),
    ],
)  # fmt: skip
def test_inputs_are_given_with_every_default(
    crew: CrewBuilder, given: dict[str, Any], want_inputs: dict[str, Any]
) -> None:
    accepted = checked(a_run().spec(inputs=given), crew)
    assert json.loads(accepted.payload.inputs) == want_inputs


def test_a_default_that_breaks_the_schema_is_found() -> None:
    broken = CrewBuilder().spec(inputSchema={"properties": {"topic": {"type": "string", "default": 7}}})
    with pytest.raises(Refused, match=r'spec\.inputs\.topic: 7 is not of type "string"'):
        checked(a_run().spec(inputs={}), broken)


def test_an_accepted_run_records_what_runs() -> None:
    accepted = checked(a_run(), CrewBuilder().metadata(generation=4), ProfileBuilder().spec(default=True))
    assert accepted.crew.model_dump() == {
        "name": "research",
        "uid": "c0c0c0c0",
        "generation": 4,
        "digest": names.payload_digest(accepted.payload.spec.encode(), accepted.payload.inputs.encode()),
    }
    assert accepted.profile == "production"
    assert [(task.name, task.agent) for task in accepted.tasks] == [("facts", "Writer"), ("report", "Writer")]
    spec = json.loads(accepted.payload.spec)
    assert (spec["crew"], spec["profile"], spec["llm"]["model"]) == ("research", "production", "openai/gpt-4o")
    assert spec["pod"]["image"] == "runner:1", "the operator's own layer is the weakest"
    assert spec["definition"] == DEFINITION, "the crew's own document goes on unchanged"


def test_an_inline_crew_is_called_after_its_run() -> None:
    accepted = checked(inline())
    assert (accepted.crew.name, accepted.crew.uid, accepted.profile) == ("report", None, None)


def test_every_layer_counts_from_the_operator_to_the_run() -> None:
    accepted = checked(
        a_run().spec(maxRPM=4),
        CrewBuilder().spec(maxRPM=3, pod={"image": "crew:1"}),
        ProfileBuilder().spec(default=True, maxRPM=2, pod={"image": "profile:1"}, timeoutSeconds=9),
    )
    resolved = accepted.resolved
    assert (resolved.max_rpm, resolved.pod.image, resolved.timeout_seconds) == (4, "crew:1", 9)


@pytest.mark.parametrize(
    ("run", "crew", "want_profile"),
    [
        pytest.param(a_run().spec(profile="old"), CrewBuilder().spec(profile="new"), "old", id="the run's"),
        pytest.param(a_run(), CrewBuilder().spec(profile="old"), "old", id="the crew's"),
        pytest.param(a_run(), CrewBuilder(), "new", id="the newest default"),
    ],
)
def test_the_profile_is_the_runs_or_the_crews_or_the_newest_default(
    run: RunBuilder, crew: CrewBuilder, want_profile: str
) -> None:
    old = ProfileBuilder("old").spec(default=True)
    new = ProfileBuilder("new").spec(default=True).created(NOON + timedelta(hours=1))
    assert checked(run, crew, new, old).profile == want_profile


def test_the_digest_depends_on_what_runs_and_not_on_the_order_of_fields() -> None:
    one = checked(a_run().spec(inputs={"topic": "b", "a": 1}), CrewBuilder())
    same = checked(a_run().spec(inputs={"a": 1, "topic": "b"}), CrewBuilder().metadata(generation=9))
    other = checked(a_run().spec(inputs={"topic": "b", "a": 2}), CrewBuilder())
    assert one.payload == same.payload
    assert one.payload.digest != other.payload.digest


def test_with_a_larger_budget_or_more_time_to_live_it_is_the_same_crew() -> None:
    one = checked(a_run().spec(budget={"maxTokens": 1}, ttlSecondsAfterFinished=5), CrewBuilder())
    other = checked(a_run().spec(budget={"maxTokens": 9, "maxCostUSD": "1"}), CrewBuilder())
    assert one.payload.digest == other.payload.digest
    assert json.loads(one.payload.settings)["budget"] == {"maxTokens": 1}
    assert json.loads(other.payload.settings)["budget"] == {"maxTokens": 9, "maxCostUSD": "1"}


_anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "object", "#", "(", "x", "http://x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "topic", "$ref", "pattern", "items", "default", "required", "$id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "$ref", "pattern", "$id", "allOf"]), _anything))
def test_no_schema_raises_anything_but_a_refusal(schema: dict[str, Any]) -> None:
    try:
        checked(a_run(), CrewBuilder().spec(inputSchema=schema))
    except Refused as refused:
        assert str(refused)

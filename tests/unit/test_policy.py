"""What a strict policy lets crews and runs say: the shapes, and that they know every field there is."""

import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from crewrun_api.admission import all_admissions
from crewrun_api.allowed import MODEL, OUTPUT_FILE, PLAIN, PROFILE_ONLY, RUN
from crewrun_api.bounds import BOUNDS, IMAGE, POD
from crewrun_api.kinds import CrewSpec, ProfileSpec
from crewrun_api.model import kubernetes_name
from crewrun_api.policy import UNBOUNDED, Policy
from crewrun_api.run import RunSpec
from crewrun_api.shapes import Anything, ByType, Each, Fields, Having, Leaf, Named, Shape, Wrapped, refused
from tests.support.policy import ALLOWED, POLICY, REFUSED, Case

STRICT = Policy.model_validate({**POLICY, "images": [*POLICY["images"], "localhost/crewrun-runner:dev"]})


def found(case: Case, policy: Policy = STRICT) -> list[str]:
    shapes = [table[case.kind] for table in (PROFILE_ONLY, BOUNDS) if case.kind in table]
    return [where for shape in shapes for where, _ in refused(shape, case.spec, "spec", policy)]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_could_lead_to_a_key_is_refused_at_its_path(case: Case) -> None:
    assert found(case) == [case.want]


@pytest.mark.parametrize("case", ALLOWED, ids=str)
def test_what_crews_and_profiles_need_is_allowed(case: Case) -> None:
    assert found(case) == []


def test_without_bounds_no_pod_is_refused_but_one_with_another_identity() -> None:
    profiles = [case for case in REFUSED if case.kind == "CrewProfile"]
    still = [path for case in profiles for path, _ in refused(BOUNDS[case.kind], case.spec, "spec", UNBOUNDED)]
    assert set(still) == {
        f"spec.pod.volumes[0]{rest}" for rest in ("", ".projected.sources[0]", ".projected.sources[1]")
    }


# --- Every field is known ---------------------------------------------------------------------------------------

#: What crews and runs may not say, and may never by accident: a new field of the API stands in no list.
REFUSED_FIELDS = {
    "spec": {"checkpointEncryption", "env", "envFrom", "inputsFrom", "secrets"},
    "spec.crew": {"checkpointEncryption", "entrypoint", "env", "envFrom", "secrets"},
    "spec.llm": {"baseURL"},
    "spec.memory": {"persistentVolumeClaim"},
    "spec.pod": {
        *("annotations", "image", "imagePullPolicy", "imagePullSecrets", "labels", "runtimeClassName"),
        *("serviceAccountName", "volumeMounts", "volumes"),
    },
    "spec.onSuccess.webhook": {"headersFrom", "urlFrom"},
}
#: Whole parts that say nothing of keys. What is new in one of them needs no thought.
OPEN_MODELS = {"Backoff", "Budget", "CrewConfigMap", "CrewReference", "MemoryGrowth", "Price", "Retry", "RetryRule"}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def walked(model: type[BaseModel], shape: Shape, path: str) -> dict[str, tuple[set[str], set[str], Fields]]:
    """Each model's fields and the shape's, by path."""
    if not isinstance(shape, Fields):
        assert isinstance(shape, Anything) and model.__name__ in OPEN_MODELS, f"{path} is open, and is {model.__name__}"
        return {}
    names = {kubernetes_name(name): field.annotation for name, field in model.model_fields.items()}
    places = {path: (set(names), set(shape.fields), shape)}
    for name, annotation in names.items():
        for inner in models_in(annotation) if name in shape.fields else ():
            places |= walked(inner, shape.fields[name], f"{path}.{name}")
    return places


def test_each_field_of_the_api_is_allowed_or_refused_and_no_new_one_slips_through() -> None:
    for path, (names, allowed, _) in walked(RunSpec, RUN, "spec").items():
        its = path.replace("spec.crew.", "spec.").replace("onFailure", "onSuccess")
        assert names == allowed | REFUSED_FIELDS.get(its, set()), path


@pytest.mark.parametrize("model", [ProfileSpec, CrewSpec, RunSpec], ids=lambda model: str(model.kind))
def test_each_field_that_has_bounds_exists(model: Any) -> None:
    """One with another name would bound nothing."""
    pod = models_in(model.model_fields["pod"].annotation)[0]
    assert set(POD) <= set(map(kubernetes_name, pod.model_fields))
    assert set(BOUNDS[model.kind].fields) <= set(map(kubernetes_name, model.model_fields))


# --- Random specs -----------------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
plain = st.text(max_size=5) | st.integers() | st.booleans()
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
SAYS = {
    id(MODEL): st.sampled_from(["openai/gpt-4o", "ollama/llama3:8b"]),
    id(OUTPUT_FILE): st.sampled_from(["a.md", "b/c d.txt"]),
    id(PLAIN): plain,
}


def allowed(shape: Shape) -> st.SearchStrategy[Any]:
    """Values that a shape allows, made by its words alone."""
    match shape:
        case Leaf():
            candidates: st.SearchStrategy[Any] = st.sampled_from(["text", True, []])
            return SAYS.get(id(shape), candidates.filter(lambda value: shape.allows(value, STRICT)))
        case Fields():
            return st.fixed_dictionaries({}, optional={name: allowed(each) for name, each in shape.fields.items()})
        case Each():
            return st.lists(allowed(shape.items), max_size=2)
        case Named():
            return st.dictionaries(names, allowed(shape.values), max_size=2)
        case Wrapped():
            return st.builds(lambda name, inner: {f"my-{name}": inner}, names, allowed(shape.inner))
        case Having():
            named = allowed(shape.then).map(lambda value: {**value, shape.key: "a"})
            return named | allowed(shape.otherwise)
        case ByType():
            return st.one_of([allowed(each) for each in (shape.text, shape.items, shape.fields) if each])
    return anything


def objects_in(shape: Shape, value: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Every object of a value that its shape knows the fields of."""
    match shape:
        case Fields() if isinstance(value, dict):
            inner = [each for name in value for each in objects_in(shape.fields[name], value[name], f"{path}.{name}")]
            return [(path, value), *inner]
        case Each() if isinstance(value, list):
            return [each for i, item in enumerate(value) for each in objects_in(shape.items, item, f"{path}[{i}]")]
        case Named() | Wrapped() if isinstance(value, dict):
            inner_shape = shape.values if isinstance(shape, Named) else shape.inner
            return [each for name in value for each in objects_in(inner_shape, value[name], f"{path}.{name}")]
        case Having() if isinstance(value, dict):
            return objects_in(shape.then if shape.key in value else shape.otherwise, value, path)
        case ByType():
            inner_type = shape.of(value)
            return objects_in(inner_type, value, path) if inner_type else []
    return []


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_spec_of_allowed_words_passes_and_one_more_word_anywhere_is_refused_there(data: st.DataObject) -> None:
    spec = data.draw(allowed(RUN))
    assert list(refused(RUN, spec, "spec", STRICT)) == []
    path, place = data.draw(st.sampled_from(objects_in(RUN, spec, "spec")))
    place["anotherWord"] = data.draw(anything.filter(lambda value: value is not None))
    assert [where for where, _ in refused(RUN, spec, "spec", STRICT)] == [f"{path}.anotherWord"]


# --- Images, and the CEL ----------------------------------------------------------------------------------------

IMAGES = [
    ("ghcr.io/acme", "ghcr.io/acme", True),
    ("ghcr.io/acme", "ghcr.io/acme/runner:1", True),
    ("ghcr.io/acme", "ghcr.io/acme:1@sha256:0", True),
    ("ghcr.io/acme", "ghcr.io/acme@sha256:0", True),
    ("ghcr.io/acme/", "ghcr.io/acme/runner", True),
    ("ghcr.io/acme/", "ghcr.io/acme", False),
    ("ghcr.io/acme", "ghcr.io/acme-evil/x", False),
    ("ghcr.io", "ghcr.io:443/evil", False),
    ("ghcr.io", "ghcr.io.evil.test/x", False),
    ("acme/runner:1", "acme/runner:12", False),
    ("acme/runner:1", "acme/runner:1@sha256:0", True),
    ("acme", "docker.io/acme/x", False),
    ("*", "anything", True),
]


@pytest.mark.parametrize(("listed", "image", "want"), IMAGES)
def test_an_image_is_listed_by_whole_parts_of_its_name(listed: str, image: str, want: bool) -> None:
    assert IMAGE.allows(image, Policy(images=[listed])) is want


def test_the_cel_of_each_kind_fits_what_the_api_server_parses() -> None:
    for document in all_admissions().values():
        parts = [part for part in (document["bounds"], document.get("profileOnly")) if part]
        expressions = [each["expression"] for part in parts for each in (*part["variables"], *part["validations"])]
        assert max(map(len, expressions)) < 50_000 and len(json.dumps(document)) < 200_000


def test_no_message_of_a_policy_is_longer_than_a_condition_says() -> None:
    listed: Mapping[str, Any] = {"pod": {"image": "x"}, "llm": {"model": "x"}}
    for shape in (BOUNDS["CrewRun"], RUN):
        assert all(len(f"{where}: {why}") < 500 for where, why in refused(shape, listed, "spec", STRICT))

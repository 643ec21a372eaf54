"""Random manifests: shaped as the generated CRDs say, and then bent beyond what they say."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]
GONE = object()
Place = tuple[str | int, ...]
Values = st.SearchStrategy[Any]


def drawn(count: int) -> list[Document]:
    """So many manifests of all kinds, each with a name of its own; the same ones every time.

    They are drawn in a process of their own, since Hypothesis takes values from whatever code is loaded.
    """
    command = [sys.executable, "-m", "tests.support.manifests", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    found: list[Document] = json.loads(done.stdout)
    return found


def draw_one(number: int) -> Document:
    """The second of what Hypothesis draws with this seed: its first is always the simplest."""
    found: list[Document] = []

    @seed(number)
    @settings(
        max_examples=2,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(manifests())
    def collect(manifest: Document) -> None:
        found.append(manifest)

    collect()
    found[-1]["metadata"]["name"] += f"{number:03}"
    return found[-1]


# --- Values of any kind -----------------------------------------------------------------------------------------

ODD_TEXTS = [
    *("", " ", "\n", "\x00", "\x1b[2J", "\u202egnp.exe", "\ufeff", "e\u0301" * 30, "\U0001f4a5" * 40, "\ud7ff\ue000"),
    *("{topic}", "{nobody}", "{{topic}}", "{topic", "{a-b}", "{0}", "%s%n", "../../secrets/keys", "null", "$(HOME)"),
    *("a" * 300, "long " * 1_000, "x" * 70_000, "\u20ac" * 90_000),
]
ODD_NUMBERS = [0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1e308, -1e308, 5e-324, -0.0, 0.1]
texts = st.text(max_size=20) | st.sampled_from(ODD_TEXTS)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(ODD_NUMBERS)
scalars = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(["topic", "name", "a", "default", "env", "secrets", "spec"]) | st.text(max_size=10)


def nested(levels: int, value: Any, in_lists: bool) -> Any:
    for _ in range(levels):
        value = [value] if in_lists else {"a": value}
    return value


documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
odd = scalars | documents | st.builds(nested, st.integers(1, 100), scalars, st.booleans())
objects = st.dictionaries(keys, odd, max_size=3)


# --- Bending: a document with something else at some place ------------------------------------------------------


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a document, its own first."""
    yield at
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield from places(value, (*at, key))


def put(node: Any, place: Place, value: Any) -> Any:
    """The document with this value at this place, and with all that leads there; GONE takes away."""
    if not place:
        return value
    key, rest = place[0], place[1:]
    if isinstance(key, int):
        items = [*node] if isinstance(node, list) and key < len(node) else [None]
        items[key] = put(items[key], rest, value)
        return [item for item in items if item is not GONE]
    fields = {**node} if isinstance(node, dict) else {}
    fields[key] = put(fields.get(key), rest, value)
    return {name: field for name, field in fields.items() if field is not GONE}


def bent(shape: Values) -> Values:
    """Documents of a shape; some of them with something else, or nothing, at one place or two."""

    @st.composite
    def bend(draw: st.DrawFn) -> Any:
        node = draw(shape)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            inner = [*places(node)][1:]
            if inner:
                node = put(node, draw(st.sampled_from(inner)), draw(odd | st.just(GONE)))
        return node

    return bend()


# --- What people write where the schema lets everything pass ----------------------------------------------------

templates = st.sampled_from([*["Explain {topic}."] * 4, "{topic}", "All of it.", "{{topic}} {0} {", "To {reader}."])
agents = st.fixed_dictionaries(
    {"role": st.just("Writer"), "goal": templates, "backstory": st.just("Concise.")},
    optional={"llm": texts, "max_iter": numbers, "tools": st.lists(texts, max_size=2)},
)
tasks = st.fixed_dictionaries(
    {"description": templates, "expected_output": st.just("A line."), "agent": st.just("a")},
    optional={"name": texts, "output_file": templates, "async_execution": st.booleans()},
)
definitions = st.fixed_dictionaries(
    {
        "agents": st.fixed_dictionaries({"a": agents}, optional={"b": agents})
        | st.lists(agents.map(lambda agent: {"name": "a", **agent}), min_size=1, max_size=2),
        "tasks": st.lists(tasks, min_size=1, max_size=2),
    },
    optional={
        "process": st.sampled_from(["sequential", "sequential", "sequential", "hierarchical", "chaotic"]),
        "manager_llm": st.just("openai/gpt-4o"),
        "inputs": st.dictionaries(keys, documents, max_size=2),
    },
)
ODD_SCHEMAS: list[Document] = [
    *({"$ref": "#"}, {"$ref": "#/nowhere"}, {"$ref": "https://example.test/schema"}, {"$ref": "file:///etc/passwd"}),
    *({"allOf": [{"$ref": "#"}]}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, {"$dynamicRef": "#"}),
    *({"pattern": "("}, {"pattern": "^(a+)+$"}, {"pattern": "a{9999}{9999}"}, {"pattern": "(?=a)\\1"}),
    *({"multipleOf": 0}, {"minLength": -1}, {"type": "text"}, {"type": []}, {"properties": []}, {"required": "topic"}),
    *({"$schema": "https://example.test/draft"}, {"$id": "::"}, {"format": "no"}, {"enum": []}, {"not": {}}),
    *({"properties": {"topic": False}}, {"unevaluatedProperties": False}, {"minimum": 10**30}, {"const": 1e308}),
]
schemas = st.recursive(
    st.sampled_from([{"type": "string", "default": "AI"}, {"type": "string", "maxLength": 200}, {}, *ODD_SCHEMAS]),
    lambda inner: st.fixed_dictionaries(
        {"properties": st.dictionaries(keys, inner, max_size=2)},
        optional={"type": st.just("object"), "required": st.lists(keys, max_size=2), "additionalProperties": inner},
    ),
    max_leaves=4,
)
key_of_secret = {"name": "keys", "key": "openai"}
WRITTEN: dict[str, Values] = {
    "definition": bent(definitions),
    "inputSchema": bent(schemas),
    "inputs": objects.map(lambda inputs: {"topic": "AI", **inputs}),
    "crewRef": st.sampled_from([{"name": "fine"}] * 4 + [{"name": "missing"}]),
    "profile": st.sampled_from(["plain", "plain", "plain", "missing"]),
    "resources": bent(st.just({"requests": {"cpu": "250m"}, "limits": {"memory": "512Mi"}})),
    "tolerations": bent(st.just([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}])),
    "affinity": bent(
        st.just({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}})
    ),
    "topologySpreadConstraints": bent(
        st.just([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}])
    ),
    "volumes": bent(st.just([{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}])),
    "volumeMounts": bent(st.just([{"name": "crewrun-tmp", "mountPath": "/data", "readOnly": True}])),
    "imagePullSecrets": bent(st.just([{"name": "registry"}])),
    "envFrom": bent(st.just([{"configMapRef": {"name": "settings", "optional": True}}])),
    "valueFrom": bent(st.just({"secretKeyRef": key_of_secret})),
}


# --- What a schema says -----------------------------------------------------------------------------------------

#: Fields of which exactly one group is wanted, mostly by a CEL rule.
GROUPS = (
    (("crewRef", "inputs"), ("crew", "inputs")),
    (("definition",), ("definition", "inputSchema"), ("configMap",), ("entrypoint",)),
    (("name", "secretKeyRef"), ("mountPath", "secretName")),
    (("url",), ("urlFrom",)),
)


def shaped(schema: Document) -> Values:
    """Values as the schema wants them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    shape: Callable[[Document], Values] = globals()[f"_{schema['type']}"]
    return shape(schema)


def _string(schema: Document) -> Values:
    longest = schema.get("maxLength", 1_000_000)
    if "pattern" in schema:
        return _matching(schema["pattern"]).filter(lambda text: len(text) <= longest)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(longest, 20))


@functools.cache
def _matching(pattern: str) -> Values:
    return st.from_regex(pattern.removesuffix("$") + r"\Z")


def _integer(schema: Document) -> Values:
    return st.integers(schema.get("minimum"), schema.get("maximum"))


def _number(schema: Document) -> Values:
    return st.floats(schema.get("minimum"), schema.get("maximum")) | _integer(schema)


def _boolean(_: Document) -> Values:
    return st.booleans()


def _array(schema: Document) -> Values:
    return st.lists(shaped(schema["items"]), max_size=min(schema.get("maxItems", 3), 3))


def _object(schema: Document) -> Values:
    if "additionalProperties" in schema:
        return st.dictionaries(keys, shaped(schema["additionalProperties"]), max_size=3)
    return _fields(schema) if "properties" in schema else objects


def _fields(schema: Document) -> Values:
    """What is required, one of the groups that exclude each other, and a few of the fields that are supported."""
    properties, always = schema["properties"], set(schema.get("required", ()))
    later = {rule["fieldPath"].strip(".") for rule in schema.get("x-kubernetes-validations", ()) if "fieldPath" in rule}
    groups = next((g for g in GROUPS if all(set(group) <= properties.keys() for group in g)), ((),))
    free = sorted(properties.keys() - later - always - {field for group in groups for field in group})
    fields_of = {name: _field(name, inner) for name, inner in properties.items()}
    free += [name for name in free if name in ("env", "pod", "resources", "retry", "secrets")] * 3

    @st.composite
    def fields(draw: st.DrawFn) -> Document:
        group = draw(st.sampled_from([group for group in groups if not later & {*group}]))
        some = draw(st.lists(st.sampled_from(free), unique=True, max_size=3)) if free else []
        return {name: draw(fields_of[name]) for name in sorted({*always, *group, *some})}

    return fields()


def _field(name: str, schema: Document) -> Values:
    """Mostly what people write, if the schema lets everything pass; else what it says."""
    said = shaped(schema)
    if name not in WRITTEN:
        return said
    return st.integers(0, 9).flatmap(lambda choice: WRITTEN[name] if choice else said)


def schema_places(schema: Document, at: Place = ()) -> Iterator[Place]:
    """The place of every field that the schema names."""
    yield at
    if "items" in schema:
        yield from schema_places(schema["items"], (*at, 0))
    for name, inner in schema.get("properties", {}).items():
        yield from schema_places(inner, (*at, name))


@functools.cache
def spec_of(kind: str) -> tuple[Values, list[Place]]:
    """What a kind's spec may be, as the API server has its schema; and the places of its fields."""
    crd = yaml.safe_load((ROOT / "crds" / f"crewrun.dev_{kind.lower()}s.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return shaped(schema), [*schema_places(schema)]


# --- Manifests --------------------------------------------------------------------------------------------------


@st.composite
def manifests(draw: st.DrawFn) -> Document:
    """Most are shaped as their schema wants them; the others break it somewhere: in the spec, or around it."""
    kind = draw(st.sampled_from(["CrewRun", "CrewRun", "CrewRun", "Crew", "Crew", "CrewProfile"]))
    spec, fields = spec_of(kind)
    manifest = {
        "apiVersion": "crewrun.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": draw(st.sampled_from(["m-", "m.", "m" * 200]))},
        "spec": draw(spec),
    }
    match draw(st.sampled_from([*["right"] * 6, *["wrong"] * 3, "missing", "unknown", "around"])):
        case "wrong":
            place = draw(st.sampled_from(fields[1:]))
            manifest["spec"] = put(manifest["spec"], place, draw(odd))
        case "missing":
            place = draw(st.sampled_from([*places(manifest["spec"])][1:] or [("definition",)]))
            manifest["spec"] = put(manifest["spec"], place, GONE)
        case "unknown":
            place = draw(st.sampled_from(fields))
            manifest["spec"] = put(manifest["spec"], (*place, draw(keys)), draw(odd))
        case "around":
            place = draw(st.sampled_from([("spec",), ("status",), ("metadata", "labels", "a"), ("more",)]))
            manifest = put(manifest, place, draw(odd | st.just(GONE)))
    return manifest


if __name__ == "__main__":
    json.dump([draw_one(number) for number in range(int(sys.argv[1]))], sys.stdout)

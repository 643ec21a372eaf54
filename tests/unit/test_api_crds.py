"""CRDs from the models: structural, without defaults, with every rule in its place; and the check for drift."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crewrun_api import generate
from crewrun_api.crds import FROZEN_ON_ACCEPTANCE, all_crds, structural
from crewrun_api.kinds import CrewSpec
from crewrun_api.model import Model
from crewrun_api.run import RunSpec, Webhook
from crewrun_api.settings import SecretSource

ROOT = Path(__file__).parents[2]
CRDS = all_crds()
KINDS = ("crewprofiles", "crewqueues", "crews", "crewruns")
FILES = [f"crewrun.dev_{plural}.yaml" for plural in KINDS]
#: What a structural schema of apiextensions/v1 may hold here; anything else would be pruned or refused.
ALLOWED = {
    "description",
    "enum",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "type",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


def schema_of(file: str) -> dict[str, Any]:
    version = CRDS[file]["spec"]["versions"][0]
    root: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return root


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, node in schema.get("properties", {}).items():
        yield from nodes(node, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


NODES = [(f"{file.split('_')[1]}{path}", node) for file in CRDS for path, node in nodes(schema_of(file), "")]


def test_there_is_one_crd_for_each_kind() -> None:
    assert sorted(CRDS) == sorted(FILES)


def test_every_node_is_structural() -> None:
    assert len(NODES) > 300
    for path, node in NODES:
        assert node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert node.keys() - ALLOWED - {"default"} == set(), path
        assert not {"properties", "additionalProperties"} <= node.keys(), path
        if node["type"] == "array":
            assert "items" in node, path
        open_ = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & node.keys()
        if node["type"] == "object" and not path.endswith(".metadata"):
            assert len(open_) == 1, f"{path}: an object says what it may hold, in one way"


def test_only_the_status_has_a_default() -> None:
    """A default on a setting would make every layer look as if it had set it."""
    assert [(path, node["default"]) for path, node in NODES if "default" in node] == [
        ("crewruns.yaml.status", {"observedGeneration": -1})
    ]


def test_every_field_is_described_and_no_marker_of_ours_is_left() -> None:
    for path, node in NODES:
        assert "x-map-key" not in node, path
        outer = path.endswith((".yaml", ".apiVersion", ".kind", ".metadata", "[]"))
        assert outer or node.get("description"), f"{path} says nothing"


def test_definitions_and_inputs_take_every_document() -> None:
    free = {path for path, node in NODES if node.get("x-kubernetes-preserve-unknown-fields")}
    assert {
        "crews.yaml.spec.definition",
        "crews.yaml.spec.inputSchema",
        "crewruns.yaml.spec.inputs",
        "crewruns.yaml.spec.crew.definition",
        "crewprofiles.yaml.spec.pod.affinity",
    } <= free


@pytest.mark.parametrize(
    ("path", "want_rule"),
    [
        ("crews.yaml.spec", ".filter(source, source).size() == 1"),
        ("crewruns.yaml.spec", "has(self.crewRef) != has(self.crew)"),
        ("crewruns.yaml.spec.crew", ".filter(source, source).size() == 1"),
        ("crewprofiles.yaml.spec.secrets[]", "has(self.mountPath) && has(self.secretName)"),
        ("crewruns.yaml.spec.onFailure.webhook", "has(self.url) != has(self.urlFrom)"),
        ("crewqueues.yaml.spec.budget", "has(self.maxCostUSD) || has(self.maxTokens)"),
    ],
)
def test_a_rule_stands_where_it_is_due(path: str, want_rule: str) -> None:
    rules = [rule["rule"] for rule in dict(NODES)[path]["x-kubernetes-validations"]]
    assert any(want_rule in rule for rule in rules), rules


def test_typed_fields_are_frozen_on_acceptance_and_switches_are_not() -> None:
    root = schema_of("crewrun.dev_crewruns.yaml")
    frozen = {rule["fieldPath"].removeprefix(".spec.") for rule in root["x-kubernetes-validations"]}
    assert frozen == set(FROZEN_ON_ACCEPTANCE)
    assert frozen <= root["properties"]["spec"]["properties"].keys()
    assert not frozen & {"suspend", "cancel", "rerun", "priority", "ttlSecondsAfterFinished", "inputs"}


def test_a_run_is_listed_as_the_manifests_show_it() -> None:
    version = CRDS["crewrun.dev_crewruns.yaml"]["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    want_columns = ["Crew", "Phase", "Progress", "Attempts", "Tokens", "Cost", "Age", "Reason"]
    assert [column["name"] for column in columns] == want_columns
    assert [column.get("priority", 0) for column in columns] == [0] * 7 + [1]
    assert version["subresources"] == {"status": {}}


def test_conditions_are_a_map_by_type() -> None:
    conditions = dict(NODES)["crewruns.yaml.status.conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])


def test_a_default_of_the_operator_is_told_in_words() -> None:
    assert dict(NODES)["crewprofiles.yaml.spec.retry.maxAttempts"]["description"].endswith("Default: 3.")
    assert dict(NODES)["crewprofiles.yaml.spec.cache"]["description"].endswith("Default: true.")


def test_an_optional_reference_keeps_its_own_words() -> None:
    assert structural(RunSpec)["properties"]["crewRef"]["description"] == "The Crew to run."


@pytest.mark.parametrize(
    ("model", "document"),
    [
        pytest.param(CrewSpec, {}, id="no source"),
        pytest.param(CrewSpec, {"definition": {}, "configMap": {"name": "c"}}, id="two sources"),
        pytest.param(RunSpec, {}, id="no crew"),
        pytest.param(RunSpec, {"crewRef": {"name": "c"}, "crew": {"definition": {}}}, id="two crews"),
        pytest.param(RunSpec, {"crewRef": {"name": "c"}, "input": {}}, id="unknown field"),
        pytest.param(SecretSource, {"name": "A"}, id="variable without a Secret"),
        pytest.param(SecretSource, {"mountPath": "/a"}, id="folder without a Secret"),
        pytest.param(
            SecretSource,
            {"name": "A", "secretKeyRef": {"name": "s", "key": "k"}, "mountPath": "/a", "secretName": "s"},
            id="variable and folder",
        ),
        pytest.param(Webhook, {}, id="webhook without a URL"),
        pytest.param(Webhook, {"url": "https://a", "urlFrom": {"name": "s", "key": "k"}}, id="webhook with two URLs"),
        pytest.param(
            Webhook,
            {"url": "https://a", "headersFrom": [{"name": "a b", "secretKeyRef": {"name": "s", "key": "k"}}]},
            id="name of a header with a space",
        ),
        pytest.param(SecretSource, {"mountPath": "a/b", "secretName": "s"}, id="relative folder"),
    ],
)
def test_the_models_refuse_what_the_crd_refuses(model: type[Model], document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(document)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything freshly generated, and the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0
    return tmp_path


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crewrun_api.generate", "--check"]
    environ = {"PYTHONPATH": str(ROOT / "operator"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)


def test_the_check_passes_on_what_was_generated(tree: Path) -> None:
    done = check(tree)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_fails_on_a_changed_file_and_writes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tree / "crds" / FILES[1]
    changed.write_text(changed.read_text().replace("minLength: 1", "minLength: 2", 1))
    before = changed.read_text()
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1
    assert f"crds/{FILES[1]}: differs" in capsys.readouterr().err
    assert changed.read_text() == before


@pytest.mark.parametrize("folder", ["crds", "charts/crewrun/files/crds"])
def test_the_check_fails_on_a_file_that_nothing_generates(tree: Path, folder: str) -> None:
    (tree / folder / "old.yaml").write_text("kind: CustomResourceDefinition\n")
    assert generate.differences(tree) == [f"{folder}/old.yaml: is not generated from any model"]


@pytest.mark.parametrize("gone", [f"charts/crewrun/files/crds/{FILES[0]}", "docs/api.md"])
def test_the_check_fails_on_a_missing_file(tree: Path, gone: str) -> None:
    (tree / gone).unlink()
    assert generate.differences(tree) == [f"{gone}: differs"]


def test_the_committed_files_are_what_the_models_say() -> None:
    assert generate.differences(ROOT) == []


def test_the_field_reference_names_every_field() -> None:
    text = generate.generated_files()[Path("docs/api.md")]
    for field in ("spec.retry.backoff.initialSeconds", "spec.secrets[].secretKeyRef.key", "status.attempts[].reason"):
        assert f"| `{field}` |" in text, field

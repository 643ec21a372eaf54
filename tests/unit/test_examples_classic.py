"""The example of classic files: kustomize knows each field that names a ConfigMap or a Secret, and the crew loads."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewrun_api.crds import all_crds
from crewrun_operator.classic import convert
from crewrun_operator.definition import outline, problems, variables

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/classic"
#: Fields that hold a Kubernetes document of its own, which the CRD does not describe.
FREE = {
    "env/valueFrom/configMapKeyRef/name",
    "env/valueFrom/secretKeyRef/name",
    "envFrom/configMapRef/name",
    "envFrom/secretRef/name",
    "pod/imagePullSecrets/name",
    "pod/volumes/configMap/name",
    "pod/volumes/secret/secretName",
}
TYPED = ("secretKeyRef/name", "secretName", "configMapRef/name", "configMap/name", "urlFrom/name")


@pytest.fixture(scope="module")
def kubectl() -> str:
    command = [sys.executable, "-m", "devcluster", "tool", "kubectl"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=300).stdout.strip()


def kustomized(kubectl: str, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    yield path
    for name, node in schema.get("properties", {}).items():
        yield from paths(node, f"{path}/{name}".lstrip("/"))
    if "items" in schema:
        yield from paths(schema["items"], path)


def wanted() -> dict[str, set[str]]:
    """The path of each field that names a ConfigMap or a Secret, by kind."""
    found: dict[str, set[str]] = {}
    for crd in all_crds().values():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        its = {f"spec/{path}" for path in paths(root) if path.endswith(TYPED)} | {f"spec/{path}" for path in FREE}
        found[crd["spec"]["names"]["kind"]] = its
    found["CrewRun"] |= {f"spec/crew/{path}" for path in FREE}
    return found


def put(node: dict[str, Any], path: str, name: str) -> None:
    """Set the name at this path; what lies on the way, and holds more than one, is a list of one or two."""
    step, _, rest = path.partition("/")
    many = step in ("env", "envFrom", "secrets", "imagePullSecrets", "volumes", "inputsFrom", "headersFrom")
    if not rest:
        node[step] = name
    elif many:
        node.setdefault(step, []).append(inner := {})
        put(inner, rest, name)
    else:
        put(node.setdefault(step, {}), rest, name)


def test_every_field_that_names_one_is_renamed_with_it(kubectl: str, tmp_path: Path) -> None:
    manifests = []
    for kind, its in wanted().items():
        manifest: dict[str, Any] = {"apiVersion": "crewrun.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}}
        for path in its:
            put(manifest, path, "made-map" if "onfigMap" in path else "made-key")
        manifests.append(manifest)
    (tmp_path / "all.yaml").write_text("---\n".join(map(json.dumps, manifests)).replace("}---", "}\n---"))
    (tmp_path / "name-reference.yaml").write_text((EXAMPLE / "name-reference.yaml").read_text())
    kustomization = {
        "resources": ["all.yaml"],
        "configMapGenerator": [{"name": "made-map", "literals": ["a=b"]}],
        "secretGenerator": [{"name": "made-key", "literals": ["a=b"]}],
        "configurations": ["name-reference.yaml"],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    text = json.dumps([each for each in kustomized(kubectl, tmp_path) if each["kind"].startswith("Crew")])
    assert text.count('"made-') == sum(map(len, wanted().values())) > 40
    assert '"made-map"' not in text and '"made-key"' not in text


def test_a_generated_config_map_is_the_crews_and_loads(kubectl: str) -> None:
    config_map, crew = sorted(kustomized(kubectl, EXAMPLE), key=lambda document: document["kind"])
    assert config_map["metadata"]["name"].startswith("research-crew-")
    assert crew["spec"]["configMap"]["name"] == config_map["metadata"]["name"]
    files = config_map["data"]
    definition = convert(files["agents.yaml"], files["tasks.yaml"], files["crew.yaml"]).definition
    assert problems(definition, "") == []
    assert variables(definition, "").keys() == {"topic"}
    assert [(task.name, task.agent) for task in outline(definition)] == [
        ("research_task", "Senior researcher"),
        ("writing_task", "Writer"),
    ]

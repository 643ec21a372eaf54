"""The command line of the runner on its own: what it makes of files and options."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crewrun_api.reasons import Reason
from crewrun_runner.local import begin
from crewrun_runner.payload import Payload
from crewrun_runner.refusal import Refusal

DEFINITION = {"agents": {"a": {"role": "A"}}, "tasks": []}


def manifest(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "crewrun.dev/v1alpha1", "kind": kind, "metadata": {"name": "research"}, "spec": spec}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begun(*arguments: str, environ: dict[str, str] | None = None, **files: Any) -> Payload:
    for name, document in files.items():
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        Path(f"{name}.yaml").write_text(text)
    _, payload = begin(arguments, {} if environ is None else environ)
    return payload


def test_a_definition_is_taken_as_it_is_with_texts_as_inputs() -> None:
    payload = begun("--definition", "crew.yaml", "--input", "n=1.10", "--input", "q=a=b", crew=DEFINITION)
    assert (payload.spec.definition, payload.spec.crew) == (DEFINITION, "crew")
    assert payload.inputs == {"n": "1.10", "q": "a=b"}
    assert payload.spec.allow_python is False


def test_inputs_of_a_file_keep_their_types_and_single_ones_are_stronger() -> None:
    arguments = ("--definition", "crew.yaml", "--inputs", "inputs.yaml", "--input", "topic=AI")
    payload = begun(*arguments, crew=DEFINITION, inputs={"topic": "x", "n": 3, "list": [1]})
    assert payload.inputs == {"topic": "AI", "n": 3, "list": [1]}


def test_settings_of_a_crew_are_stronger_than_the_profiles() -> None:
    profile = manifest("CrewProfile", llm={"model": "a/b", "temperature": 0.1}, maxRPM=3, allowPython=True)
    schema = {"properties": {"depth": {"default": 2}, "topic": {"default": "x"}}}
    crew = manifest("Crew", definition=DEFINITION, llm={"model": "c/d"}, inputSchema=schema)
    arguments = ("--definition", "crew.yaml", "--profile", "profile.yaml", "--input", "topic=AI")
    payload = begun(*arguments, crew=crew, profile=profile)
    spec = payload.spec
    assert (spec.llm.model, spec.llm.temperature, spec.max_rpm) == ("c/d", 0.1, 3)
    assert (spec.crew, spec.allow_python, spec.input_schema) == ("research", True, schema)
    assert payload.inputs == {"depth": 2, "topic": "AI"}


def test_an_entrypoint_comes_from_the_option_or_from_a_manifest() -> None:
    crew = manifest("Crew", entrypoint={"target": "a.b:C", "image": "x"})
    for payload in (begun("--entrypoint", "a.b:C"), begun("--definition", "crew.yaml", crew=crew)):
        assert (payload.spec.entrypoint, payload.spec.definition) == ("a.b:C", None)


def test_the_shell_is_stronger_than_the_manifest_and_what_a_cluster_would_give_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = {"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "keys", "key": "k"}}
    profile = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "secrets": [secret]}
    environ = {"B": "mine", "CREWRUN_REPORT_URL": "https://x"}
    begun("--definition", "crew.yaml", "--profile", "profile.yaml", environ=environ, crew=DEFINITION, profile=profile)
    assert (environ["A"], environ["B"], "CREWRUN_REPORT_URL" in environ) == ("1", "mine", False)
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("--definition", "crew.yaml"), {"crew": "a: [1"}, "--definition crew.yaml: is neither YAML nor JSON in line 1"),
    (("--definition", "crew.yaml"), {"crew": "- 1"}, "--definition crew.yaml: must hold one object"),
    (("--definition", "crew.yaml"), {"crew": "a: 1\n---\nb: 2"}, "it holds 2 documents"),
    (("--definition", "crew.yaml"), {"crew": manifest("CrewRun")}, "--definition: has kind CrewRun; it must be Crew"),
    (("--definition", "crew.yaml"), {"crew": manifest("Crew", definition=DEFINITION, llm={"temperature": 9})},
     "--definition crew.yaml: spec.llm.temperature: "),
    (("--definition", "crew.yaml"), {"crew": manifest("Crew", configMap={"name": "x"})}, "a ConfigMap needs a cluster"),
    (("--definition", "crew.yaml", "--profile", "profile.yaml"), {"crew": DEFINITION, "profile": {"maxRPM": "many"}},
     "--profile profile.yaml: spec.maxRPM: "),
    (("--definition", "crew.yaml", "--input", "canary"), {"crew": DEFINITION}, "--input: must be NAME=VALUE"),
    (("--definition", "crew.yaml", "--inputs", "i.yaml"), {"crew": DEFINITION}, "--inputs i.yaml: cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "files", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_refusal_names_the_option(arguments: tuple[str, ...], files: dict[str, Any], text: str) -> None:
    with pytest.raises(Refusal) as found:
        begun(*arguments, **files)
    assert text in found.value.message
    assert found.value.reason in (Reason.INVALID_CREW, Reason.INVALID_INPUTS)
    assert "canary" not in found.value.message


def test_an_option_that_is_none_ends_with_the_code_for_what_is_invalid() -> None:
    with pytest.raises(SystemExit) as ended:
        begin(["--crew", "x"], {})
    assert ended.value.code == 10

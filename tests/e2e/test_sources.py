"""The example crews in each form that a crew can have: a definition, classic files, code in an image."""

import base64
import hashlib
import os
import subprocess
import sys

import pytest
import yaml

from devcluster.images import docker_is_up
from tests.e2e.conftest import ROOT, Space
from tests.support.kube import Document, condition, document, phase

RUNNER = ROOT / "build/images/runner.tar"
IMAGE = "localhost/crewrun-example:dev"
CUSTOMER = "Contoso-7731"
TOPIC = {"topic": "Kubernetes operators"}


def devcluster(*arguments: str) -> None:
    command = [sys.executable, "-m", "devcluster", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's Dockerfile, on the runner image of this checkout."""
    example, folder = ROOT / "examples/custom-image", tmp_path_factory.mktemp("image")
    first, *rest = (example / "Dockerfile").read_text().splitlines()
    assert first.startswith("FROM ") and len(rest) == 1, "two lines are promised"
    base = "localhost/crewrun-runner:dev" if docker_is_up() else f"docker-archive:{RUNNER}"
    (folder / "Dockerfile").write_text("\n".join([f"FROM {base}", *rest]) + "\n")
    with RUNNER.open("rb") as archive:
        digest = hashlib.file_digest(archive, "sha256").hexdigest()
    made = ["--file", str(folder / "Dockerfile"), "--context", str(example), "--tag", IMAGE]
    devcluster("build-image", *made, "--build-arg", f"RUNNER={digest}", "--output", str(folder / "example.tar"))
    devcluster("load", "--name", os.environ.get("CLUSTER_NAME", "crewrun"), str(folder / "example.tar"))
    return IMAGE


def example(name: str) -> list[Document]:
    return list(yaml.safe_load_all((ROOT / "examples" / name).read_text()))


def a_run(name: str, crew: str, **spec: object) -> Document:
    return document("CrewRun", name, {"crewRef": {"name": crew}, "inputs": TOPIC, **spec})


def test_the_example_crew_runs_in_every_form(own: Space, image: str) -> None:
    own.llm.play({"replies": [{"text": "Operators are controllers."}]})
    own.kube.apply(*example("research/crew.yaml"))
    own.kube.kubectl("apply", "-k", str(ROOT / "examples/classic"))
    for name in ("crew", "flow"):
        (manifest,) = example(f"custom-image/{name}.yaml")
        manifest["spec"]["entrypoint"]["image"] = image
        manifest["spec"]["pod"] = {"imagePullPolicy": "IfNotPresent"}
        own.kube.apply(manifest)
    forms = {
        "definition": ("research", 3),
        "classic": ("classic-research", 2),
        "crewbase": ("research-in-an-image", 2),
        "flow": ("report-flow", 2),
    }
    own.kube.apply(*(a_run(form, crew) for form, (crew, _) in forms.items()))
    for form, (crew, want_tasks) in forms.items():
        ended = own.kube.await_end(form, seconds=180)
        status = ended["status"]
        assert phase(ended) == "Succeeded", status
        assert (status["crew"]["name"], status["progress"]) == (crew, f"{want_tasks}/{want_tasks}")
        assert status["usage"]["requests"] == want_tasks
        assert [task["models"] for task in status["tasks"]] == [["openai/gpt-4o"]] * want_tasks
        assert "Operators are controllers." in status["output"]["value"]
        usage = status["usage"]
        print(f"{form}: {status['progress']} tasks, {usage['totalTokens']} tokens, {usage['costUSD']} USD")
    assert len(own.calls) == sum(want_tasks for _, want_tasks in forms.values())


def test_a_crew_of_an_image_that_failed_goes_on_at_its_first_unfinished_task(own: Space, image: str) -> None:
    fails_once = [{"fault": {"status": 503}}, {"text": "The report."}]
    own.llm.play(
        {"name": "report", "match": {"user": "(?i)write a report"}, "replies": fails_once},
        {"name": "facts", "match": {"user": "(?i)list facts"}, "replies": [{"text": "Ten facts."}]},
    )
    (manifest,) = example("custom-image/crew.yaml")
    manifest["spec"]["entrypoint"]["image"] = image
    own.kube.apply(manifest, a_run("r", "research-in-an-image"))
    ended = own.kube.await_end("r", seconds=180)
    assert [attempt["reason"] for attempt in ended["status"]["attempts"]] == ["LLMUnavailable", "Completed"]
    assert [call["rule"] for call in own.calls] == ["facts", "report", "report"]
    assert ended["status"]["attempts"][1]["resumedFromTask"] == "report"


def test_inputs_come_from_config_maps_and_secrets_and_the_secret_stands_nowhere(own: Space) -> None:
    own.llm.play({"replies": [{"text": f"About {CUSTOMER}, as asked."}]})
    more = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"tone": "friendly"}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "private"},
        "stringData": {"who": CUSTOMER},
    }
    agent = {"role": "Writer", "goal": "Write to {customer}", "backstory": "Concise."}
    task = {"name": "letter", "description": "Write, {tone}.", "expected_output": "A letter.", "agent": "writer"}
    schema = {
        "type": "object",
        "required": ["customer"],
        "properties": {"customer": {"type": "string", "minLength": 3}},
    }
    crew = document(
        "Crew", "letters", {"definition": {"agents": {"writer": agent}, "tasks": [task]}, "inputSchema": schema}
    )
    sources = [
        {"configMapRef": {"name": "more"}},
        {"secretKeyRef": {"name": "private", "key": "who"}, "input": "customer"},
    ]
    own.kube.apply(more, secret, crew)
    own.kube.apply(document("CrewRun", "r", {"crewRef": {"name": "letters"}, "inputsFrom": sources}))
    ended = own.kube.await_end("r")
    assert phase(ended) == "Succeeded", ended["status"]
    assert ended["status"]["output"]["value"] == "About [redacted], as asked."
    told = own.kube.kubectl("get", "crewruns,jobs,pods,configmaps,events", "-o", "json")
    told += own.kube.kubectl("logs", f"job/{ended['status']['attempts'][0]['job']}")
    for form in (CUSTOMER, base64.b64encode(CUSTOMER.encode()).decode()):
        assert form not in told


#: What stands in the definition, and what the run says of it before any Pod.
CARRIED: dict[str, tuple[Document, str]] = {
    "callback": ({"callback": "os.system"}, "spec.definition.tasks[0].callback: runs Python"),
    "custom-tool": ({"tools": ["custom:shell"]}, "spec.definition.tasks[0].tools[0]: custom:shell runs Python"),
    "reference": ({"guardrail": {"python": "os.system"}}, "spec.definition.tasks[0].guardrail: {python: os.system}"),
}


def test_definitions_that_carry_python_are_refused_before_a_pod_starts(own: Space) -> None:
    for name, (fields, want) in CARRIED.items():
        task = {"name": "t1", "description": "Do it.", "expected_output": "A line.", "agent": "writer", **fields}
        agents = {"writer": {"role": "Writer", "goal": "Write", "backstory": "Concise."}}
        own.kube.apply(
            document("Crew", name, {"definition": {"agents": agents, "tasks": [task]}}),
            document("CrewRun", name, {"crewRef": {"name": name}}),
        )
        refused = own.kube.await_run(name, lambda it: condition(it, "Accepted").get("status") == "False")
        assert want in condition(refused, "Accepted")["message"]
        assert own.kube.jobs_of(refused) == []
    assert own.calls == []


#: What the image lacks or the code does wrong, and what the run says of it.
WRONG: dict[str, tuple[Document, str]] = {
    "no-module": ({"entrypoint": "no_project.crew:Crew"}, "no_project"),
    "no-name": ({"entrypoint": "my_project.crew:NoCrew"}, "NoCrew"),
    "wrong-kind": ({"entrypoint": "my_project.tools:WordCount"}, "WordCount"),
    "no-provider": ({"llm": {"model": "anthropic/claude-sonnet-4-5"}}, "anthropic"),
    "no-fallback": ({"llm": {"model": "openai/gpt-4o", "fallbackModels": ["gemini/gemini-2.5-pro"]}}, "gemini"),
    "no-tool": ({"tools": ["SerperDevTool"]}, "SerperDevTool"),
    "no-memory": ({"memory": {"enabled": True}}, "memory.enabled: the runner image leaves out lancedb"),
}


def settings(wrong: Document) -> Document:
    return {name: wrong[name] for name in ("llm", "memory") if name in wrong}


def test_what_an_image_lacks_is_an_invalid_crew_that_names_it(own: Space, image: str) -> None:
    agents = {"writer": {"role": "Writer", "goal": "Write", "backstory": "Concise."}}
    for name, (wrong, _) in WRONG.items():
        task = {"name": "t1", "description": "Do it.", "expected_output": "A line.", "agent": "writer"}
        task |= {"tools": wrong["tools"]} if "tools" in wrong else {}
        source: Document = {"definition": {"agents": agents, "tasks": [task]}}
        if target := wrong.get("entrypoint"):
            source = {"entrypoint": {"target": target, "image": image}}
        own.kube.apply(
            document("Crew", name, source),
            document("CrewRun", name, {"crewRef": {"name": name}, **settings(wrong)}),
        )
    for name, (_, want) in WRONG.items():
        ended = own.kube.await_end(name, seconds=180)
        failed = condition(ended, "Succeeded")
        assert (phase(ended), failed["reason"]) == ("Failed", "InvalidCrew"), failed
        assert want in failed["message"], failed["message"]
        print(f"{name}: {failed['message']}")
    assert own.calls == []

"""What tests ask of a cluster: kubectl as people use it, and watches where something is awaited."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

GROUP, VERSION = "crewrun.dev", "v1alpha1"
Document = dict[str, Any]


class Kube:
    """One cluster and one namespace of it."""

    def __init__(self, kubeconfig: Path, kubectl: str, namespace: str = "default") -> None:
        self.kubeconfig, self._kubectl, self.namespace = kubeconfig, kubectl, namespace
        api = config.new_client_from_config(str(kubeconfig))
        self.custom, self.core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self.batch, self.apps = client.BatchV1Api(api), client.AppsV1Api(api)

    def within(self, namespace: str) -> "Kube":
        """The same cluster, another namespace, which is made if it is not there."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        return Kube(self.kubeconfig, self._kubectl, namespace)

    def run_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl with these arguments, whatever comes of it."""
        command = [self._kubectl, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl printed; an error is the test's error."""
        done = self.run_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    @contextmanager
    def following(self, *arguments: str) -> Iterator[Iterator[str]]:
        """The lines that kubectl prints as time goes by."""
        command = [self._kubectl, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            try:
                yield iter(process.stdout)
            finally:
                process.terminate()

    def apply(self, *documents: Document) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def refusal(self, document: Document) -> str:
        """What kubectl says of a manifest that must be refused."""
        done = self.run_kubectl("apply", "-f", "-", stdin=json.dumps(document))
        assert done.returncode != 0, f"was accepted: {document}"
        return done.stderr

    def get(self, plural: str, name: str) -> Document:
        document: Document = json.loads(self.kubectl("get", plural, name, "-o", "json"))
        return document

    def items(self, plural: str, **labels: str) -> list[Document]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        arguments = ["-l", selector] if selector else []
        items: list[Document] = json.loads(self.kubectl("get", plural, "-o", "json", *arguments))["items"]
        return items

    def jobs_of(self, run: Document) -> list[Document]:
        return self.items("jobs", **{"crewrun.dev/run-uid": run["metadata"]["uid"]})

    def await_run(self, name: str, wanted: Callable[[Document], bool], seconds: int = 90) -> Document:
        """The run as soon as it is as wanted; fails with its last status otherwise."""
        last: Document = {}
        stream = watch.Watch().stream(
            self.custom.list_namespaced_custom_object,
            GROUP,
            VERSION,
            self.namespace,
            "crewruns",
            field_selector=f"metadata.name={name}",
            timeout_seconds=seconds,
        )
        for event in stream:
            last = event["object"]
            if event["type"] != "DELETED" and wanted(last):
                return last
        raise AssertionError(f"{name} is not as wanted after {seconds} s: {json.dumps(last.get('status'), indent=1)}")

    def await_phase(self, name: str, *phases: str, seconds: int = 90) -> Document:
        return self.await_run(name, lambda run: phase(run) in phases, seconds)

    def await_end(self, name: str, seconds: int = 90) -> Document:
        return self.await_phase(name, "Succeeded", "Failed", "Cancelled", seconds=seconds)


def phase(run: Document) -> str:
    return str(run.get("status", {}).get("phase"))


def condition(run: Document, type_: str) -> Document:
    found = [each for each in run.get("status", {}).get("conditions", []) if each["type"] == type_]
    return found[0] if found else {}


def crew(name: str, **spec: Any) -> Document:
    """A Crew of one agent and one task, about {topic}."""
    definition = {
        "agents": {"a": {"role": "Writer", "goal": "Explain {topic}", "backstory": "Concise."}},
        "tasks": [{"name": "t1", "description": "Explain {topic}.", "expected_output": "A line.", "agent": "a"}],
    }
    return document("Crew", name, {"definition": definition, **spec})


def run(name: str, crew_name: str, **spec: Any) -> Document:
    """A CrewRun of that crew, with its one input."""
    return document("CrewRun", name, {"crewRef": {"name": crew_name}, "inputs": {"topic": "AI"}, **spec})


def document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": spec}

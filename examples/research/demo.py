"""The demo: applies this folder, shows tasks as they finish, prints the result, and checks the bill.

Called by `make demo`, which has started the cluster and installed CrewRun before. With OPENAI_API_KEY set
(and perhaps MODEL) the crew asks the real provider instead of the scripted model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMESPACE = "crewrun-demo"
START_LIMIT_SECONDS = 120
_MARKS = {"task_started": "…", "task_completed": "✓", "task_failed": "✗"}


class Demo:
    """One demo on one cluster."""

    def __init__(self, kubectl: str, kubeconfig: str) -> None:
        self._kubectl = [kubectl, "--kubeconfig", kubeconfig, "-n", NAMESPACE]
        self.shown = f"kubectl -n {NAMESPACE}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run([*self._kubectl, *arguments], input=stdin, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"[demo] `kubectl {' '.join(arguments[:3])}` failed; its message stands above")
        return done.stdout

    def apply(self, *documents: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def prepare(self) -> None:
        """Namespace, model, Secret, profile and crew."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        key, model = os.environ.get("OPENAI_API_KEY"), os.environ.get("MODEL", "openai/gpt-4o-mini")
        self.kubectl("apply", "-f", str(HERE / "profile.yaml"), "-f", str(HERE / "crew.yaml"))
        if key:
            say(f"using {model} of the real provider")
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-keys"}}
            self.apply({**secret, "stringData": {"openai": key}})
            llm = {"spec": {"llm": {"model": model, "baseURL": None}}}
            self.kubectl("patch", "crewprofile", "development", "--type=merge", "-p", json.dumps(llm))
            return
        say("no OPENAI_API_KEY: using the scripted model")
        script = (HERE / "llm-script.yaml").read_text()
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripted-llm"}}
        self.apply({**config, "data": {"script.yaml": script}})
        self.kubectl("apply", "-f", str(HERE / "secret.yaml"))
        self.kubectl("apply", "-f", str(HERE.parent / "scripted-llm" / "scripted-llm.yaml"))
        self.kubectl("rollout", "restart", "deployment/scripted-llm")  # an empty ledger
        self.kubectl("rollout", "status", "deployment/scripted-llm", "--timeout=120s")

    def start(self) -> str:
        name = self.kubectl("create", "-f", str(HERE / "run.yaml"), "-o", "name").strip()
        say(f"created {name}: {self.shown} get {name}")
        return name

    def get(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", name, "-o", "json"))
        return document

    def follow(self, name: str) -> dict[str, Any]:
        """Show the tasks of each attempt until the run has ended; the run as it stands then."""
        followed = 0
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while True:
            run = self.get(name)
            status = run["status"]
            if status.get("completionTime"):
                return run
            attempts = status.get("attempts", [])
            if len(attempts) > followed and status.get("phase") == "Running":
                followed = len(attempts)
                for line in self.log(attempts[-1]["job"]):
                    show(line)
                deadline = time.monotonic() + START_LIMIT_SECONDS
            elif time.monotonic() > deadline:
                raise SystemExit(f"[demo] the run does not go on; see `{self.shown} describe {name}`:\n{reason(run)}")
            else:
                self.await_change(name, run["metadata"]["resourceVersion"])

    def await_change(self, name: str, version: str) -> None:
        """Wait, a second at the most, for the run to be another than this version."""
        self._quiet("wait", name, f"--for=jsonpath={{.metadata.resourceVersion}}!={version}", "--timeout=1s")
        time.sleep(0.2)

    def log(self, job: str) -> Iterator[dict[str, Any]]:
        """The runner's JSON lines, as they come."""
        command = [*self._kubectl, "logs", "-f", f"job/{job}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in process.stdout or ():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def ledger(self) -> dict[str, Any]:
        """What the scripted model counted."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/scripted-llm:http/proxy/ledger"
        totals: dict[str, Any] = json.loads(self.kubectl("get", "--raw", path))["totals"]
        return totals

    def _quiet(self, *arguments: str) -> None:
        subprocess.run([*self._kubectl, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def show(line: dict[str, Any]) -> None:
    """One line of the runner's log, if it tells of a task or of a model's answer."""
    event, task = line.get("event", ""), line.get("task", "")
    if event in _MARKS:
        seconds = f"  {line['durationSeconds']:.1f} s" if "durationSeconds" in line else ""
        say(f"  {_MARKS[event]} {task:<8} {line.get('agent', '')}{seconds}")
    elif event == "llm_call_completed":
        say(f"    {task:<8} {line['model']}: {line['totalTokens']} tokens")


def reason(run: dict[str, Any]) -> str:
    conditions = run["status"].get("conditions", [])
    return "\n".join(f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions)


def report(demo: Demo, name: str, run: dict[str, Any]) -> int:
    """The result and the bill; 0 only if the run succeeded and both sides counted the same."""
    status = run["status"]
    if status["phase"] != "Succeeded":
        say(f"the run ended as {status['phase']}:\n{reason(run)}")
        return 1
    usage = status["usage"]
    print(f"\n{status['output']['value']}\n")
    say(f"Succeeded: {status['progress']} tasks, {usage['requests']} LLM calls, {usage['totalTokens']} tokens")
    if not os.environ.get("OPENAI_API_KEY"):
        totals = demo.ledger()
        ledger = {"requests": totals["calls"], "totalTokens": totals["totalTokens"]}
        counted = {key: usage[key] for key in ledger}
        if ledger != counted:
            say(f"the model's ledger says {ledger}, the status says {counted}: one of them is wrong")
            return 1
        say(f"the model's ledger agrees: {ledger['requests']} calls, {ledger['totalTokens']} tokens")
    print("\nWhere to look next:")
    for command in (
        f"get crewruns -n {NAMESPACE}",
        f"describe {name} -n {NAMESPACE}",
        f"get crews,crewprofiles -n {NAMESPACE}",
    ):
        print(f"  kubectl {command}")
    print(f"  kubectl create -n {NAMESPACE} -f examples/research/run.yaml\n  make demo-down")
    return 0


def say(text: str) -> None:
    print(f"[demo] {text}", flush=True)


def _devcluster(*arguments: str) -> str:
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="crewrun", help="which cluster")
    options = parser.parse_args()
    kubeconfig = _devcluster("kubeconfig", "--name", options.name)
    demo = Demo(_devcluster("tool", "kubectl"), kubeconfig)
    print(f"export KUBECONFIG={kubeconfig}", flush=True)
    demo.prepare()
    name = demo.start()
    return report(demo, name, demo.follow(name))


if __name__ == "__main__":
    sys.exit(main())

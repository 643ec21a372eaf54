"""A run tells a receiver of its end by a Pod of its own, on a real network; what is secret stays so."""

import json
import time
from datetime import datetime
from typing import Any

from tests.e2e.conftest import Space
from tests.support.kube import Document, Kube, crew, phase, run

TOKEN = "Bearer hook-canary-51c0aa9b"
#: Logs each POST as one line of JSON, and fails the first of each run so that it is told again.
RECEIVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
seen = set()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(json.dumps({"path": self.path, "headers": dict(self.headers.items()), "body": body}), flush=True)
        self.answer(200 if body["run"]["uid"] in seen else 503)
        seen.add(body["run"]["uid"])
    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
LABELS = {"app": "receiver"}
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def receiver() -> list[Document]:
    container = {
        "name": "receiver",
        "image": "localhost/crewrun-testing:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", RECEIVER],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "receiver", "labels": LABELS}, "spec": spec}
    ports = {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]}
    return [pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "receiver"}, "spec": ports}]


def secret(**values: str) -> Document:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": values}


def await_told(kube: Kube, name: str) -> Document:
    def told(its: Document) -> bool:
        return its["status"].get("webhook", {}).get("outcome") in ("Delivered", "Failed")

    return kube.await_run(name, told, seconds=120)


def everything(kube: Kube, job: str) -> str:
    """What anybody may read of it who may not read Secrets."""
    told = kube.kubectl("get", "crewruns,jobs,pods,events", "-o", "json")
    return told + kube.kubectl("logs", f"job/{job}") + kube.kubectl("describe", "crewruns,jobs,pods")


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_a_receiver_is_told_of_a_success_with_the_secret_it_asks_for(own: Space) -> None:
    own.llm.play({"replies": [{"text": "A crew of agents."}]})
    own.kube.apply(secret(token=TOKEN), *receiver(), crew("plain"))
    own.kube.kubectl("wait", "pod/receiver", "--for=condition=Ready", "--timeout=60s")
    headers = [{"name": "Authorization", "secretKeyRef": {"name": "hook", "key": "token"}}]
    hook = {"webhook": {"url": f"http://receiver.{own.kube.namespace}.svc/hooks?room=1", "headersFrom": headers}}
    own.kube.apply(run("r", "plain", onSuccess=hook, onFailure=hook))
    own.kube.await_end("r")
    begun = time.monotonic()
    told = await_told(own.kube, "r")
    took = time.monotonic() - begun
    status, webhook = told["status"], told["status"]["webhook"]
    assert (phase(told), webhook["outcome"], webhook["statusCode"], webhook["tries"]) == (
        "Succeeded", "Delivered", 200, 2,
    )  # fmt: skip
    posts: list[dict[str, Any]] = [json.loads(line) for line in own.kube.kubectl("logs", "receiver").splitlines()]
    assert [post["path"] for post in posts] == ["/hooks?room=1"] * 2
    assert {post["headers"]["Authorization"] for post in posts} == {TOKEN}
    assert {post["headers"]["X-CrewRun-Delivery"] for post in posts} == {f"{told['metadata']['uid']}/1"}
    body = posts[-1]["body"]
    assert (body["event"], body["reason"], body["attempts"]) == ("RunSucceeded", "Completed", 1)
    assert (body["output"]["value"], body["usage"]) == ("A crew of agents.", status["usage"] | body["usage"])
    assert len(own.calls) == 1, "no model is asked for it"
    assert TOKEN.split()[1] not in everything(own.kube, webhook["job"])
    after = seconds_between(status["completionTime"], webhook["completionTime"])
    print(
        f"\ntold {took:.1f} s after the end was seen ({after:.0f} s by the status), with one refusal and a wait of 1 s"
    )


def test_an_address_that_is_a_secret_and_refuses_is_told_as_an_event(own: Space) -> None:
    own.llm.play({"replies": [{"fault": {"status": 401}}]})
    url = own.llm.base_url.replace("/v1", "/room/of-the-team")
    own.kube.apply(secret(url=url), crew("plain"))
    hook = {"webhook": {"urlFrom": {"name": "hook", "key": "url"}}}
    own.kube.apply(run("r", "plain", onSuccess=hook, onFailure=hook))
    told = await_told(own.kube, "r")
    webhook = told["status"]["webhook"]
    assert (phase(told), webhook["outcome"], webhook["statusCode"], webhook["tries"]) == ("Failed", "Failed", 404, 1)
    assert webhook["message"] == "the webhook was not told: answered 404 Not Found"
    own.kube.kubectl("wait", f"job/{webhook['job']}", "--for=condition=Failed", "--timeout=60s")
    assert len(own.kube.items("pods", **{"crewrun.dev/attempt": "0"})) == 1, "what fails for good is not made again"
    assert [each["message"] for each in own.kube.items("events") if each["reason"] == "WebhookFailed"] == [
        webhook["message"]
    ]
    assert "of-the-team" not in everything(own.kube, webhook["job"])

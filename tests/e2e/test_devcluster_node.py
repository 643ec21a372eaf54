"""What a node-size devcluster must be able to do, tried on a running one.

Needs KUBECONFIG, the file that devcluster itself wrote: it lies in the cluster's state folder.

    python -m devcluster up
    KUBECONFIG=$(python -m devcluster kubeconfig) pytest tests/e2e/test_devcluster_node.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.base_image import base_image
from devcluster.images import Image, build_image
from devcluster.tools import ensure_tool

TAG = "localhost/crewrun-devcluster-probe:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
LIMITS = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}

PROBE = """
import base64, json, os, pathlib, ssl, time, urllib.request
token = pathlib.Path("/token/token").read_text()
claims = token.split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
account = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
trust = ssl.create_default_context(cafile=str(account / "ca.crt"))
def get(url, **kwargs):
    request = urllib.request.Request(url, **kwargs)
    deadline = time.monotonic() + 15
    while True:  # a Pod is Ready a moment before its service leads to it
        try:
            context = trust if url.startswith("https") else None
            return urllib.request.urlopen(request, timeout=10, context=context).read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
bearer = {"Authorization": "Bearer " + (account / "token").read_text()}
jwks = json.loads(get("https://kubernetes.default.svc/openid/v1/jwks", headers=bearer))
try:
    pathlib.Path("/written").write_text("x")
    root = "writable"
except OSError:
    root = "read-only"
found = {
    "key": os.environ["KEY"], "audience": claims["aud"], "note": pathlib.Path("/info/note").read_text(),
    "uid": os.getuid(), "root": root, "jwks": len(jwks["keys"]),
    "by_name": get("http://web.%s.svc.cluster.local" % os.environ["NAMESPACE"]),
    "by_short_name": get("http://web"), "by_address": get("http://" + os.environ["WEB_SERVICE_HOST"]),
}
pathlib.Path("/dev/termination-log").write_text(json.dumps(found))
print("probe done", flush=True)
"""

SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"hello from web")
    def log_message(self, *arguments): pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def kubectl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [str(ensure_tool("kubectl")), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def container(name: str, program: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": TAG,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program],
        "securityContext": RESTRICTED,
        "resources": LIMITS,
        **more,
    }


def web(namespace: str) -> list[dict[str, Any]]:
    meta = {"name": "web", "namespace": namespace, "labels": {"app": "web"}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {
                "securityContext": POD_SECURITY,
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    container(
                        "web", SERVER, readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
                    )
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


def probe(namespace: str) -> list[dict[str, Any]]:
    volumes = [
        {
            "name": "token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"audience": "crewrun-reports", "path": "token", "expirationSeconds": 3600}}
                ]
            },
        },
        {
            "name": "info",
            "downwardAPI": {
                "items": [{"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['crewrun.dev/note']"}}]
            },
        },
    ]
    env = [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "llm"}}},
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    mounts = [{"name": "token", "mountPath": "/token"}, {"name": "info", "mountPath": "/info"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": namespace},
            "stringData": {"llm": "sk-test"},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "probe", "namespace": namespace},
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "metadata": {"annotations": {"crewrun.dev/note": "two\nlines"}},
                    "spec": {
                        "restartPolicy": "Never",
                        "securityContext": POD_SECURITY,
                        "volumes": volumes,
                        "containers": [container("probe", PROBE, env=env, volumeMounts=mounts)],
                    },
                },
            },
        },
    ]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace that enforces the restricted standard, with a web server in it that is ready."""
    assert os.environ.get("KUBECONFIG"), "set KUBECONFIG to a running node-size cluster"
    folder = tmp_path_factory.mktemp("probe")
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nUSER 65532:65532\n")
    archive = folder / "probe.tar"
    build_image(Image(folder / "Dockerfile", folder, TAG, archive, (f"BASE={base_image()}",), only=("Dockerfile",)))
    state = Path(os.environ["KUBECONFIG"]).parent
    subprocess.run(
        [sys.executable, "-m", "devcluster", "load", "--name", state.name, "--state-dir", str(state), str(archive)],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    name = f"devcluster-{uuid.uuid4().hex[:8]}"
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(space))
    kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(web(name)))
    kubectl("wait", "--for=condition=Ready", "pod/web", "-n", name, "--timeout=60s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def found(namespace: str) -> dict[str, Any]:
    """What the probe's Pod saw, from its termination message."""
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(probe(namespace)))
    kubectl("wait", "--for=jsonpath={.status.conditions}", "job/probe", "-n", namespace, "--timeout=90s")
    status = json.loads(kubectl("get", "pods", "-l", "job-name=probe", "-n", namespace, "-o", "json"))
    state = status["items"][0]["status"]["containerStatuses"][0]["state"]
    assert state["terminated"]["exitCode"] == 0, kubectl("logs", "job/probe", "-n", namespace)
    return dict(json.loads(state["terminated"]["message"]))


@pytest.mark.parametrize(
    ("what", "want"),
    [
        pytest.param("key", "sk-test", id="a secret reaches the environment"),
        pytest.param("audience", ["crewrun-reports"], id="a projected token carries its own audience"),
        pytest.param("note", "two\nlines", id="an annotation arrives as a file"),
        pytest.param("uid", 65532, id="the container is not root"),
        pytest.param("root", "read-only", id="the root file system is read-only"),
        pytest.param("jwks", 1, id="the issuer's keys are served inside the cluster"),
        pytest.param("by_address", "hello from web", id="a service's address works"),
        pytest.param("by_name", "hello from web", id="a service's full name resolves"),
        pytest.param("by_short_name", "hello from web", id="a service's short name resolves"),
    ],
)
def test_a_pod_sees_what_a_cluster_promises(found: dict[str, Any], what: str, want: Any) -> None:
    assert found[what] == want


def test_kubectl_logs_shows_what_a_container_wrote(namespace: str, found: dict[str, Any]) -> None:
    assert "probe done" in kubectl("logs", "job/probe", "-n", namespace)


def test_kubectl_exec_runs_in_a_container(namespace: str) -> None:
    assert kubectl("exec", "web", "-n", namespace, "--", "python3", "-c", "print(6 * 7)").strip() == "42"


def test_a_pod_reaches_itself_through_its_service(namespace: str, found: dict[str, Any]) -> None:
    """By the long name: its short one is the Pod's own host name here."""
    url = f"http://web.{namespace}.svc"
    program = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=10).read().decode())"
    assert kubectl("exec", "web", "-n", namespace, "--", "python3", "-c", program).strip() == "hello from web"

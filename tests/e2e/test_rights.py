"""What the operator may do is what it did: its role against the API server's audit log of this whole suite.

Runs when all other tests have run, but for those that replace the release.
"""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes.aio import client, config

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.api import Api
from crewrun_operator.metrics import Metrics
from tests.e2e.conftest import ROOT, SYSTEM_NAMESPACE, Space
from tests.support.audit import Right, granted, log_lines, requests
from tests.support.kube import Kube, crew, phase, run

ANSWER = {"replies": [{"text": "Done."}]}

# --- What it seldom has to do ------------------------------------------------------------------------------------


def test_a_run_whose_time_to_live_is_over_is_deleted(own: Space) -> None:
    own.llm.play(ANSWER)
    own.kube.apply(crew("plain"), run("r", "plain", ttlSecondsAfterFinished=1))
    own.kube.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=90s")
    assert len(own.calls) == 1


def test_a_run_that_is_cancelled_before_it_has_a_pod_has_its_job_deleted(own: Space) -> None:
    """A namespace that may have no Pod."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    own.kube.apply(quota)
    own.kube.kubectl("wait", "resourcequota/none", "--for=jsonpath={.status.hard.pods}=0", "--timeout=30s")
    own.kube.apply(crew("plain"), run("r", "plain"))
    own.kube.await_run("r", lambda r: bool(own.kube.jobs_of(r)))
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = own.kube.await_end("r")
    assert phase(ended) == "Cancelled"
    own.kube.kubectl("wait", "jobs", "--all", "--for=delete", "--timeout=30s")


_SEND = """
import ssl, sys, urllib.error, urllib.request
sent = urllib.request.Request(sys.argv[1], b"{}", {"Authorization": "Bearer " + sys.argv[2]})
try:
    urllib.request.urlopen(sent, timeout=20, context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def test_a_token_of_a_key_that_nobody_knows_is_shown_to_the_api_server(own: Space) -> None:
    """It says all that a runner's token says, and is signed by somebody else."""
    now = datetime.now(UTC)
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": [names.AUDIENCE],
        "iat": now,
        "nbf": now,
        "exp": now + timedelta(hours=1),
        "kubernetes.io": {"namespace": own.kube.namespace, "pod": {"name": "r", "uid": "a-uid"}},
    }
    key = rsa.generate_private_key(65537, 2048)
    forged = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "of-nobody"})
    url = f"https://crewrun.{SYSTEM_NAMESPACE}.svc:8443" + names.report_path(own.kube.namespace, "r", 1)
    pod = own.kube.within("crewrun-e2e-llm")
    said = pod.kubectl("exec", "deployment/scripted-llm", "--", "python3", "-c", _SEND, url, forged)
    assert said.startswith("401 "), said
    assert forged not in said


def test_an_api_server_that_does_not_stream_lists_is_asked_for_pages(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one does; the operator's own client and token ask as they would ask one before Kubernetes 1.34."""
    monkeypatch.setattr("crewrun_operator.api._FROM_THE_BEGINNING", {"resourceVersionMatch": "forbidden without"})
    token = kube.kubectl("create", "token", "crewrun", "--namespace", SYSTEM_NAMESPACE).strip()
    kubeconfig = json.loads(kube.kubectl("config", "view", "--raw", "-o", "json"))
    kubeconfig["users"][0]["user"] = {"token": token}

    async def listed(*paths_: str) -> list[int]:
        configuration = client.Configuration()
        await config.load_kube_config_from_dict(kubeconfig, client_configuration=configuration)
        api = Api(configuration, Metrics())
        try:
            return [sum([len(events) async for events in api.everything(path)]) for path in paths_]
        finally:
            await api.close()

    assert all(asyncio.run(listed(paths.custom(paths.CREWRUNS), paths.jobs()))), "the bookmark at least"


# --- The comparison ----------------------------------------------------------------------------------------------


def test_the_operator_has_the_rights_it_used_in_this_suite_and_no_other(kube: Kube, suite_began: str) -> None:
    role = json.loads(kube.kubectl("get", "clusterrole", "crewrun", "-o", "json"))
    asked = [*requests(log_lines(audit_log(kube)), f"{SYSTEM_NAMESPACE}:crewrun", since=suite_began)]
    used = {request.right for request in asked if request.role == "crewrun"}
    rights = granted(role)
    print(f"\n{len(asked)} requests since {suite_began}")
    print(*(f"  {right}: {'used' if right in used else 'NOT USED'}" for right in sorted(rights)), sep="\n")
    refused = {request.right for request in asked if not request.role}
    assert named(refused) == [], "the operator asked for what it may not"
    assert named(rights - used) == [], "the operator may do what no test of this suite needed"
    assert named(used - rights) == [], "its role was another when the suite began"


def named(rights: set[Right]) -> list[str]:
    return [str(right) for right in sorted(rights)]


def audit_log(kube: Kube) -> Path:
    state = kube.kubeconfig.parent
    command = [sys.executable, "-m", "devcluster", "audit-log", "--name", state.name, "--state-dir", str(state)]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip())

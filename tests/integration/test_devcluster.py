"""devcluster's control plane, run for real: real etcd, API server, controllers and scheduler, no node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster.api import Api
from devcluster.paths import Layout
from devcluster.processes import marked
from devcluster.record import Record
from tests.support.audit import Request, Right, log_lines, requests

ROOT = Path(__file__).parents[2]
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}

STAGES = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-complete}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.phase, operator: In, values: [Pending]}
  next:
    statusTemplate: |
      {{ $now := Now }}
      {{ $root := . }}
      phase: Succeeded
      startTime: {{ $now | Quote }}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        imageID: ""
        ready: false
        restartCount: 0
        state:
          terminated:
            exitCode: 0
            reason: Completed
            startedAt: {{ $now | Quote }}
            finishedAt: {{ $now | Quote }}
            message: {{ index $root.metadata.annotations "crewrun.dev/record" | Quote }}
      {{ end }}
"""


@dataclass(frozen=True)
class Cluster:
    """One cluster, driven as a person does: by the command line."""

    name: str
    state: Path

    def run(self, command: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "devcluster", command, "--name", self.name, "--state-dir", str(self.state)]
        return subprocess.run(
            [*line, *arguments], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
        )

    def up(self, *arguments: str) -> None:
        done = self.run("up", "--size", "control-plane", *arguments, CLUSTER="native")
        assert done.returncode == 0, done.stderr

    @property
    def api(self) -> Api:
        return Api.from_file(self.state / "kubeconfig")

    @property
    def pids(self) -> dict[str, int]:
        record = json.loads((self.state / "state.json").read_text())
        return {entry["name"]: entry["pid"] for entry in record["processes"]}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """Makes clusters, and takes them down again whatever happens."""
    made: list[Cluster] = []

    def build(name: str) -> Cluster:
        made.append(Cluster(name, tmp_path_factory.mktemp("devcluster") / name))
        return made[-1]

    yield build
    for cluster in made:
        done = cluster.run("down")
        assert done.returncode == 0, done.stderr
        assert not cluster.state.exists()
        assert marked(cluster.state) == []


@pytest.fixture(scope="module")
def pair(make: Callable[[str], Cluster]) -> tuple[Cluster, Cluster]:
    """Two clusters of one name that were started at the same time."""
    first, second = make("twin"), make("twin")
    line = [sys.executable, "-m", "devcluster", "up", "--name", "twin", "--size", "control-plane", "--state-dir"]
    env = {**os.environ, "CLUSTER": "native"}
    starting = [subprocess.Popen([*line, str(cluster.state)], cwd=ROOT, env=env) for cluster in (first, second)]
    assert [process.wait(timeout=180) for process in starting] == [0, 0]
    return first, second


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
    return value


def listening_addresses(pid: int) -> set[str]:
    """Local addresses of the process's listening sockets, as /proc writes them: in hexadecimal."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue  # closed while we looked
    rows = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[9] in inodes and row[3] == LISTENING}


def test_two_clusters_at_once_do_not_see_each_other(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "only-in-first"}}

    first.api.apply("/api/v1/namespaces/only-in-first", space)

    assert first.api.ok("/api/v1/namespaces/only-in-first")
    assert second.api.request("GET", "/api/v1/namespaces/only-in-first")[0] == 404


def test_a_cluster_that_is_up_takes_pods_and_says_so(pair: tuple[Cluster, Cluster]) -> None:
    first, _ = pair
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }

    first.api.apply("/api/v1/namespaces/default/pods/p", pod)
    status = first.run("status")

    assert status.returncode == 0
    assert status.stdout.count(" healthy ") == 4
    assert first.run("kubeconfig").stdout.strip() == str(first.state / "kubeconfig")


def test_up_again_changes_nothing(pair: tuple[Cluster, Cluster]) -> None:
    _, second = pair
    before = second.pids

    second.up()

    assert second.pids == before


def test_up_with_other_settings_leaves_the_cluster_and_says_what_to_do(pair: tuple[Cluster, Cluster]) -> None:
    _, second = pair
    before = second.pids

    done = second.run("up", "--size", "control-plane", "--apiserver-arg", "v=2", CLUSTER="native")

    assert done.returncode == 1
    assert "devcluster down" in done.stderr
    assert second.pids == before


def test_every_server_listens_on_loopback_alone(pair: tuple[Cluster, Cluster]) -> None:
    found = {name: listening_addresses(pid) for name, pid in pair[0].pids.items()}

    assert all(found.values())
    assert set().union(*found.values()) <= LOOPBACK


def test_the_issuers_keys_are_served_and_tokens_name_the_issuer(pair: tuple[Cluster, Cluster]) -> None:
    api = pair[0].api
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["reports"]}}

    status, _ = api.request("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", body)
    discovery = api.get("/.well-known/openid-configuration")

    assert status == 201
    assert discovery["issuer"] == "https://kubernetes.default.svc.cluster.local"
    assert discovery["jwks_uri"] == "https://kubernetes.default.svc.cluster.local/openid/v1/jwks"
    assert len(api.get("/openid/v1/jwks")["keys"]) == 1


def test_up_after_a_crash_of_half_the_cluster_recovers(make: Callable[[str], Cluster]) -> None:
    cluster = make("crash")
    cluster.up()
    killed = cluster.pids
    for name in ("etcd", "kube-apiserver"):
        os.kill(killed[name], signal.SIGKILL)
    assert cluster.run("status").returncode == 1

    cluster.up()

    assert cluster.run("status").returncode == 0
    assert set(cluster.pids.values()).isdisjoint(killed.values())
    assert {process.pid for process in marked(cluster.state)} == set(cluster.pids.values())


def test_a_process_that_the_record_missed_is_found(make: Callable[[str], Cluster]) -> None:
    cluster = make("orphan")
    cluster.up()
    (cluster.state / "state.json").unlink()

    assert cluster.run("down").returncode == 0

    assert marked(cluster.state) == []
    assert not cluster.state.exists()


def test_a_server_that_does_not_start_is_named_with_its_last_words(make: Callable[[str], Cluster]) -> None:
    cluster = make("wrong")

    done = cluster.run("up", "--size", "control-plane", "--apiserver-arg", "no-such-flag=1", CLUSTER="native")

    assert done.returncode == 1
    assert "kube-apiserver ended right after its start" in done.stderr
    assert "unknown flag: --no-such-flag" in done.stderr
    assert (cluster.state / "logs" / "kube-apiserver.log").is_file()
    assert marked(cluster.state) == []


def test_kwok_finishes_a_pod_as_its_stages_say(make: Callable[[str], Cluster], tmp_path: Path) -> None:
    cluster = make("kwok")
    stages = tmp_path / "stages.yaml"
    stages.write_text(STAGES)
    cluster.up("--kwok-config", str(stages), "--kwok-nodes", "2")
    record = '{"outcome": "Succeeded"}'
    container = {"name": "c", "image": "i"}
    template = {
        "metadata": {"annotations": {"crewrun.dev/record": record}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}}

    cluster.api.apply("/apis/batch/v1/namespaces/default/jobs/j", job)
    until(lambda: cluster.api.get("/apis/batch/v1/namespaces/default/jobs/j")["status"].get("succeeded"))

    pods = cluster.api.get("/api/v1/namespaces/default/pods")["items"]
    assert [pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] for pod in pods] == [record]
    assert listening_addresses(cluster.pids["kwok"]) <= LOOPBACK


def test_a_context_of_yours_is_used_and_never_removed(
    pair: tuple[Cluster, Cluster], make: Callable[[str], Cluster]
) -> None:
    yours, mine = pair[0], make("mine")
    env = {"CLUSTER": "current", "KUBE_CONTEXT": "devcluster-twin", "KUBECONFIG": str(yours.state / "kubeconfig")}

    up = mine.run("up", **env)
    status = mine.run("status")
    load = mine.run("load", "image.tar")
    down = mine.run("down")

    assert (up.returncode, status.returncode, down.returncode) == (0, 0, 0), up.stderr
    assert load.returncode == 1
    assert "docker push" in load.stderr
    assert yours.run("status").returncode == 0


def test_a_context_that_is_not_there_is_named(pair: tuple[Cluster, Cluster], make: Callable[[str], Cluster]) -> None:
    env = {"CLUSTER": "current", "KUBE_CONTEXT": "prod", "KUBECONFIG": str(pair[0].state / "kubeconfig")}

    done = make("prod").run("up", **env)

    assert done.returncode == 1
    assert "prod" in done.stderr


def test_a_record_says_which_provider_made_a_cluster(pair: tuple[Cluster, Cluster]) -> None:
    data = json.loads((pair[0].state / "state.json").read_text())

    assert (data["provider"], data["size"], data["ready"]) == ("native", "control-plane", True)
    assert set(data) == set(Record("", "").__dict__)


def test_what_a_service_account_asks_stands_in_the_audit_log(pair: tuple[Cluster, Cluster]) -> None:
    first, _ = pair
    account = "/api/v1/namespaces/default/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = json.loads(first.api.request("POST", account, body)[1])["status"]["token"]
    log = Path(first.run("audit-log").stdout.strip())

    context = ssl.create_default_context(cafile=str(first.state / "pki/ca.crt"))
    for path in ("/api/v1/namespaces/kube-public/configmaps/c", "/version"):
        port = Record.load(Layout(first.name, first.state)).process("kube-apiserver").ports[0]  # type: ignore[union-attr]
        asked = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(asked, context=context, timeout=10)

    found = until(lambda: [*requests(log_lines(log), "default:default")])
    assert found == [Request(Right("", "configmaps", "get"), "", "kube-public")]

"""The choice of a provider, and the pieces of kind and current, which run no Docker here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import cli, kind, loading, native
from devcluster.current import Current
from devcluster.errors import DevClusterError
from devcluster.kind import CONFIG, Kind, cluster_config
from devcluster.paths import Layout
from devcluster.provider import Provider, Size, Status, UpOptions, choose
from devcluster.record import Record


@dataclass
class Fake:
    name: str
    reason: str | None = None

    def why_not(self, size: Size) -> str | None:
        return self.reason

    def up(self, options: UpOptions) -> None: ...

    def down(self) -> None: ...

    def status(self) -> Status:
        return Status(self.name, up=False)

    def load(self, archives: object) -> None: ...

    def kubeconfig(self) -> Path:
        return Path("/nowhere")

    def audit_log(self) -> Path:
        return Path("/nowhere")


def three(**reasons: str) -> list[Provider]:
    return [Fake(name, reasons.get(name)) for name in ("current", "kind", "native")]


@pytest.mark.parametrize(
    ("reasons", "env", "want"),
    [
        ({"current": "not named"}, {}, "kind"),
        ({"current": "not named", "kind": "no Docker"}, {}, "native"),
        ({"current": "not named"}, {"CLUSTER": "native"}, "native"),
        ({}, {"CLUSTER": "current"}, "current"),
    ],
)
def test_the_first_provider_that_can_is_chosen_unless_one_is_named(
    reasons: dict[str, str], env: dict[str, str], want: str
) -> None:
    assert choose(three(**reasons), "node", env).name == want


@pytest.mark.parametrize(
    ("reasons", "env", "want"),
    [
        (
            {"current": "not named", "kind": "no Docker", "native": "no root"},
            {},
            r"(?s)kind: no Docker.*native: no root",
        ),
        ({"kind": "no Docker"}, {"CLUSTER": "kind"}, "CLUSTER=kind cannot work here: no Docker"),
        ({}, {"CLUSTER": "minikube"}, "current, kind, native"),
    ],
)
def test_when_none_can_work_each_says_why(reasons: dict[str, str], env: dict[str, str], want: str) -> None:
    with pytest.raises(DevClusterError, match=want):
        choose(three(**reasons), "node", env)


@pytest.mark.parametrize(
    ("size", "want"), [("node", ["current", "kind", "native"]), ("control-plane", ["current", "native", "kind"])]
)
def test_a_control_plane_alone_is_made_without_docker_first(tmp_path: Path, size: Size, want: list[str]) -> None:
    assert [provider.name for provider in cli.candidates(Layout("x", tmp_path), size)] == want


def test_a_name_does_not_change_hands_silently(tmp_path: Path) -> None:
    layout = Layout("x", tmp_path)
    Record("kind", "node").save(layout)

    with pytest.raises(DevClusterError, match=r"made by kind, this would use native.*\n.*down --name x"):
        cli.provider_for_up(layout, "control-plane", {"CLUSTER": "native"})


def test_a_node_needs_root_and_a_control_plane_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    provider = native.Native(Layout("x", tmp_path))

    assert "root" in str(provider.why_not("node"))
    assert provider.why_not("control-plane") is None


def test_native_runs_on_linux_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")

    assert "Linux" in str(native.Native(Layout("x", tmp_path)).why_not("control-plane"))


@pytest.mark.parametrize(
    ("options", "want"),
    [
        (UpOptions("node", kwok_config=Path("/stages.yaml"), kwok_nodes=1), "control-plane"),
        (UpOptions("control-plane", kwok_config=Path("/no/stages.yaml"), kwok_nodes=1), "no file /no/stages.yaml"),
    ],
)
def test_a_wrong_kwok_request_is_refused_before_anything_is_made(options: UpOptions, want: str) -> None:
    with pytest.raises(DevClusterError, match=want):
        native.check(options)


@pytest.mark.parametrize(
    "env", [{}, {"KUBE_CONTEXT": "prod"}, {"CLUSTER": "kind", "KUBE_CONTEXT": "prod"}, {"CLUSTER": "current"}]
)
def test_a_cluster_of_yours_is_used_only_when_it_is_named(tmp_path: Path, env: dict[str, str]) -> None:
    assert Current(Layout("x", tmp_path), env).why_not("node")


def test_images_for_a_cluster_of_yours_are_pushed_by_you(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match="docker push"):
        Current(Layout("x", tmp_path), {}).load([Path("image.tar")])


def test_the_kind_file_keeps_the_api_server_on_loopback() -> None:
    assert yaml.safe_load(CONFIG.read_text())["networking"]["apiServerAddress"] == "127.0.0.1"


def test_api_server_arguments_reach_a_kind_cluster() -> None:
    given = UpOptions(apiserver_args=("v=4", "audit-log-path=-"))
    config = cluster_config(yaml.safe_load(CONFIG.read_text()), given, Path("/state/x/config/audit-policy.yaml"))

    found = yaml.safe_load(config["kubeadmConfigPatches"][0])["apiServer"]["extraArgs"]
    assert {key: found[key] for key in ("v", "audit-log-path")} == {"v": "4", "audit-log-path": "-"}


def test_what_the_api_server_of_kind_needs_for_its_audit_log_is_mounted_twice() -> None:
    """From the machine into the node, and from the node into the API server's Pod."""
    config = cluster_config(yaml.safe_load(CONFIG.read_text()), UpOptions(), Path("/state/x/config/audit-policy.yaml"))
    server = yaml.safe_load(config["kubeadmConfigPatches"][0])["apiServer"]
    (mount,) = config["nodes"][0]["extraMounts"]
    writable = {volume["mountPath"] for volume in server["extraVolumes"] if not volume["readOnly"]}
    mounted = {volume["mountPath"]: volume["hostPath"] for volume in server["extraVolumes"]}

    policy, log = (Path(server["extraArgs"][key]) for key in ("audit-policy-file", "audit-log-path"))
    assert (mount["hostPath"], mount["containerPath"]) == ("/state/x/config/audit-policy.yaml", str(policy))
    assert mounted[str(policy.parent)] == str(policy.parent)
    assert str(log.parent) in writable


def test_the_audit_log_of_a_kind_cluster_is_copied_out_of_its_node(
    tmp_path: Path, fake_kind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = fake_kind / "docker"
    docker.write_text('#!/bin/sh\neval target=\\$$#\necho "$@" > "$target/audit.log"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake_kind}:{os.environ['PATH']}")
    provider = Kind(Layout("x", tmp_path / "state"))
    provider.up(UpOptions())

    assert provider.audit_log().read_text().split()[-2] == "x-control-plane:/var/log/crewrun-audit/."


def test_the_audit_log_of_a_cluster_of_yours_is_not_ours_to_read(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match="administrator"):
        Current(Layout("x", tmp_path), {}).audit_log()


# A kind that keeps its clusters as files, so that the provider can be tried whole.
FAKE_KIND = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
name=$(echo "$@" | sed -n 's/.*--name \\([^ ]*\\).*/\\1/p')
mkdir -p "$here/clusters"
case "$1 $2" in
  "get clusters") ls "$here/clusters" ;;
  "create cluster") touch "$here/clusters/$name"; echo "{}" > "$here/../state/kubeconfig" ;;
  "delete cluster") rm "$here/clusters/$name" ;;
esac
"""


@pytest.fixture
def fake_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "kind"
    program.parent.mkdir()
    program.write_text(FAKE_KIND)
    program.chmod(0o755)
    monkeypatch.setenv("CREWRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kind, "ensure_tool", lambda name: program)
    monkeypatch.setattr(Kind, "_answers", lambda self: self.layout.kubeconfig.exists())
    return program.parent


def calls(folder: Path) -> list[str]:
    return [" ".join(line.split()[:2]) for line in (folder / "calls").read_text().splitlines()]


def test_a_kind_cluster_is_made_once_and_removed(tmp_path: Path, fake_kind: Path) -> None:
    provider = Kind(Layout("x", tmp_path / "state"))

    provider.up(UpOptions())
    provider.up(UpOptions())
    assert calls(fake_kind) == ["get clusters", "create cluster", "get clusters"]
    assert provider.status().up

    provider.down()
    assert not (tmp_path / "state").exists()
    assert os.listdir(fake_kind / "clusters") == []  # noqa: PTH208


def test_a_kind_cluster_of_somebody_else_is_left_alone(tmp_path: Path, fake_kind: Path) -> None:
    (fake_kind / "clusters").mkdir()
    (fake_kind / "clusters" / "x").touch()
    provider = Kind(Layout("x", tmp_path / "state"))

    with pytest.raises(DevClusterError, match="did not make"):
        provider.up(UpOptions())
    provider.down()

    assert (fake_kind / "clusters" / "x").exists()


def test_an_image_is_put_into_a_kind_node_once(
    tmp_path: Path, fake_kind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker exec ... ctr images ls` is answered with the image as soon as it was loaded."""
    docker = fake_kind / "docker"
    docker.write_text(
        f"#!/bin/sh\ngrep -q 'load image-archive' {fake_kind}/calls && echo localhost/a:1 sha256:abc\n:\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake_kind}:{os.environ['PATH']}")
    monkeypatch.setattr(loading, "config_digests", lambda archive: {"localhost/a:1": "sha256:abc"})
    provider = Kind(Layout("x", tmp_path / "state"))
    provider.up(UpOptions())

    provider.load([tmp_path / "a.tar"])
    provider.load([tmp_path / "a.tar"])

    assert calls(fake_kind).count("load image-archive") == 1


def test_kind_says_that_kwok_is_natives(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match="CLUSTER=native"):
        Kind(Layout("x", tmp_path)).up(UpOptions(kwok_config=Path("stages.yaml")))


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (["up", "--size", "huge"], "invalid choice"),
        (["up", "--apiserver-arg", "v"], "not of the form K=V"),
        (["up", "--kwok-nodes", "0"], "must be 1 or more"),
        (["tool", "terraform"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    arguments: list[str], want: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)

    assert ended.value.code == 2
    assert want in capsys.readouterr().err


def test_status_of_no_cluster_is_not_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--name", "x", "--state-dir", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().out == "x (native): not up\n"


def test_an_error_is_a_message_and_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kubeconfig", "--state-dir", str(tmp_path / "x")]) == 1

    told: Any = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("devcluster: ")
    assert "What to do: python -m devcluster up" in told.err


def test_settings_tell_one_up_from_another(tmp_path: Path) -> None:
    stages = tmp_path / "stages.yaml"
    stages.write_text("a")
    first = native.settings(UpOptions("control-plane", kwok_config=stages, kwok_nodes=1))
    stages.write_text("b")
    second = native.settings(UpOptions("control-plane", kwok_config=stages, kwok_nodes=1))

    assert first != second
    assert json.loads(json.dumps(first)) == first

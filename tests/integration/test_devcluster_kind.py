"""The real kind with a docker that runs nothing: our configuration goes through kind's own loader, up to the moment
where a node would start. What a node then does is seen with Docker alone: `CLUSTER=kind make e2e`."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest
import yaml

from devcluster import audit, kind
from devcluster.archives import config_digests
from devcluster.errors import DevClusterError
from devcluster.kind import CONFIG, Kind
from devcluster.paths import Layout
from devcluster.provider import UpOptions
from devcluster.record import Record
from tests.support.fake_docker import STOP, FakeDocker, fake_docker

NAME = "kind-test"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    docker = fake_docker(tmp_path / "bin", NAME)
    monkeypatch.setenv("PATH", f"{docker.folder}:{os.environ['PATH']}")
    return docker


@pytest.fixture
def provider(tmp_path: Path) -> Kind:
    return Kind(Layout(NAME, tmp_path / "state"))


def cluster_configuration(docker: FakeDocker) -> dict[str, object]:
    """What kubeadm would have been given."""
    documents = yaml.safe_load_all(docker.read("kubeadm.conf"))
    return next(dict(each) for each in documents if each["kind"] == "ClusterConfiguration")


def test_kind_accepts_our_file_and_goes_on_until_the_node_would_start(docker: FakeDocker, provider: Kind) -> None:
    assert provider.why_not("node") is None

    with pytest.raises(DevClusterError, match=STOP):
        provider.up(UpOptions())

    assert [call.split()[0] for call in docker.calls].count("run") == 1
    (run,) = [call for call in docker.calls if call.startswith("run")]
    assert f"--name {NAME}-control-plane" in run
    assert "--publish=127.0.0.1:" in run, "the API server is for this machine alone"


def test_what_our_file_and_the_command_line_say_reaches_kubeadm(docker: FakeDocker, provider: Kind) -> None:
    with pytest.raises(DevClusterError, match=STOP):
        provider.up(UpOptions(apiserver_args=("v=4", "max-requests-inflight=99")))

    server = cluster_configuration(docker)["apiServer"]
    assert isinstance(server, dict)
    assert {"v": "4", "max-requests-inflight": "99", **audit.kind_flags()}.items() <= server["extraArgs"].items()
    assert server["extraVolumes"] == audit.kind_volumes()


def test_kind_refuses_a_field_that_it_does_not_know(
    docker: FakeDocker, provider: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "kind.yaml"
    wrong.write_text(CONFIG.read_text().replace("apiServerAddress", "apiServerAdress"))
    monkeypatch.setattr(kind, "CONFIG", wrong)

    with pytest.raises(DevClusterError, match="field apiServerAdress not found"):
        provider.up(UpOptions())

    assert not [call for call in docker.calls if call.startswith("run")]


def test_a_failed_start_can_be_tried_again(docker: FakeDocker, provider: Kind) -> None:
    for _ in range(2):
        with pytest.raises(DevClusterError, match=STOP):
            provider.up(UpOptions())
    provider.down()

    assert len([call for call in docker.calls if call.startswith("run")]) == 2
    assert not provider.layout.state.exists()


def test_an_archive_reaches_the_node_as_it_is(docker: FakeDocker, provider: Kind, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    config = tmp_path / "config.json"
    config.write_text("{}")
    manifest = tmp_path / "manifest.json"
    manifest.write_text('[{"Config": "config.json", "RepoTags": ["localhost/a:1"], "Layers": []}]')
    with tarfile.open(archive, "w") as tar:
        for path in (config, manifest):
            tar.add(path, path.name)
    Record("kind", "node", ready=True).save(provider.layout)
    docker.start_node()

    provider.load([archive])

    with archive.open("rb") as file:
        assert docker.read("imported").strip() == hashlib.file_digest(file, "sha256").hexdigest()
    record = Record.load(provider.layout)
    assert record is not None and record.loaded == config_digests(archive)

"""What a node changes on the machine, decided without touching it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from devcluster import ports
from devcluster.errors import DevClusterError
from devcluster.host import network_results, parse_mounts, remove_folders
from devcluster.network import free_subnet, gateway, nat_rules

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
90 22 0:50 / /state/a/kubelet/pods/1/volumes/x rw - tmpfs tmpfs rw
91 22 0:51 / /state/ab/kubelet rw - tmpfs tmpfs rw
92 90 0:52 / /state/a/with\\040space rw - tmpfs tmpfs rw
93 22 0:53 / /run/crewrun/1/containerd/rootfs rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("taken", "want"),
    [
        ([], "10.200.0.0/24"),
        (["192.0.2.2/24", "10.200.0.1/24"], "10.200.1.0/24"),
        (["10.200.0.0/23"], "10.200.2.0/24"),
        (["10.0.0.0/9", "127.0.0.1/8"], "10.200.0.0/24"),
    ],
)
def test_the_first_network_that_overlaps_none_is_taken(taken: list[str], want: str) -> None:
    assert free_subnet(taken) == want


def test_a_machine_without_a_free_network_is_told() -> None:
    with pytest.raises(DevClusterError, match=r"10\.200\.0\.0/16 is in use"):
        free_subnet(["10.128.0.0/9"])


def test_the_node_is_the_first_address_of_its_network() -> None:
    assert gateway("10.200.7.0/24") == "10.200.7.1"


def test_only_what_leaves_the_bridge_is_translated() -> None:
    assert "ip saddr 10.200.0.0/24 ip daddr != 10.200.0.0/24 masquerade" in nat_rules("t", "10.200.0.0/24")


def test_only_mounts_below_our_folders_go_and_the_latest_goes_first() -> None:
    assert parse_mounts(MOUNTINFO, [Path("/state/a"), Path("/run/crewrun/1")]) == [
        "/run/crewrun/1/containerd/rootfs",
        "/state/a/with space",
        "/state/a/kubelet/pods/1/volumes/x",
    ]


def test_of_the_shared_network_cache_only_our_pods_files_are_ours() -> None:
    names = ["crewrun1-aa-eth0", "cni-loopback-aa-lo", "cni-loopback-bb-lo", "other-bb-eth0", "README"]

    assert network_results(names, "crewrun1") == {"crewrun1-aa-eth0", "cni-loopback-aa-lo"}


def test_a_system_folder_stays_when_somebody_put_something_in(tmp_path: Path) -> None:
    for name in ("ours/inner", "shared"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "shared" / "theirs").touch()

    remove_folders([str(tmp_path / name) for name in ("ours/inner", "ours", "shared", "gone")])

    assert [path.name for path in tmp_path.iterdir()] == ["shared"]


def test_clusters_that_start_at_once_get_different_ports(tmp_path: Path) -> None:
    taken = [ports.take_ports(["a", "b"], markers=tmp_path) for _ in range(5)]

    numbers = [number for entry in taken for number in entry.values()]
    assert len(set(numbers)) == 10
    assert all(ports.FIRST <= number < ports.LAST for number in numbers)


def test_a_block_of_ports_is_free_again_after_its_reservation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LAST", ports.FIRST + ports.BLOCK)
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    first = ports.take_ports(["a"], markers=tmp_path)
    with pytest.raises(DevClusterError, match="no block of 1 free ports"):
        ports.take_ports(["a"], markers=tmp_path)

    long_ago = time.time() - ports.RESERVED - 1
    os.utime(tmp_path / str(first["a"]), (long_ago, long_ago))

    assert ports.take_ports(["a"], markers=tmp_path) == first

"""Argument lists, configuration files and certificates of a devcluster: pure, so tested as documents."""

from __future__ import annotations

import ipaddress
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster import audit, components, documents
from devcluster.components import PORTS, Plan
from devcluster.kubeconfig import kubeconfig
from devcluster.paths import Layout, cache_dir, default_state_dir
from devcluster.pki import Authority, Identity, Pair, identities

LAYOUT = Layout("demo", Path("/state/demo"))
NUMBERS = {name: 21000 + number for number, name in enumerate(PORTS)}
CONTROL_PLANE = Plan(LAYOUT, NUMBERS)
NODE = Plan(LAYOUT, {**NUMBERS, "apiserver": 6443}, node="demo-node", address="10.200.0.1", subnet="10.200.0.0/24")


def values(arguments: list[str]) -> dict[str, str]:
    return {key.removeprefix("--"): value for key, _, value in (entry.partition("=") for entry in arguments)}


@pytest.mark.parametrize(
    ("arguments", "flag", "want"),
    [
        (components.etcd(CONTROL_PLANE), "listen-client-urls", "https://127.0.0.1:21001"),
        (components.etcd(CONTROL_PLANE), "listen-peer-urls", "https://127.0.0.1:21002"),
        (components.kube_apiserver(CONTROL_PLANE), "bind-address", "127.0.0.1"),
        (components.kube_apiserver(CONTROL_PLANE), "advertise-address", components.NOBODY),
        (components.kube_apiserver(CONTROL_PLANE), "secure-port", "21000"),
        (components.kube_apiserver(NODE), "bind-address", "10.200.0.1"),
        (components.kube_apiserver(NODE), "advertise-address", "10.200.0.1"),
        (components.kube_controller_manager(NODE), "bind-address", "127.0.0.1"),
        (components.kube_scheduler(NODE), "bind-address", "127.0.0.1"),
        (components.kubelet(NODE), "node-ip", "10.200.0.1"),
    ],
)
def test_every_server_listens_on_loopback_or_on_the_bridge(arguments: list[str], flag: str, want: str) -> None:
    assert values(arguments)[flag] == want


def test_an_argument_from_the_command_line_replaces_ours() -> None:
    plan = Plan(LAYOUT, NUMBERS, apiserver_args=("authorization-mode=RBAC", "audit-log-path=-"))

    arguments = components.kube_apiserver(plan)

    assert [entry for entry in arguments if entry.startswith("--authorization-mode")] == ["--authorization-mode=RBAC"]
    assert "--audit-log-path=-" in arguments


def test_the_api_server_writes_down_what_service_accounts_ask_in_bounded_files() -> None:
    found = values(components.kube_apiserver(NODE))
    rules = audit.policy()["rules"]

    assert Path(found["audit-log-path"]).parent in LAYOUT.owned(), "`down` removes it"
    assert found["audit-policy-file"] == NODE.config("audit-policy.yaml")
    assert int(found["audit-log-maxsize"]) * (1 + int(found["audit-log-maxbackup"])) <= 500
    assert [rule for rule in rules if rule["level"] != "None"] == [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}
    ]


def test_the_kubelet_keeps_images_that_no_registry_could_give_back() -> None:
    config = documents.kubelet(NODE)

    assert config["imageGCHighThresholdPercent"] == 100
    assert config["clusterDNS"] == [config["address"]] == ["10.200.0.1"]


def test_containerd_keeps_everything_in_folders_of_the_cluster() -> None:
    config = tomllib.loads(documents.containerd(NODE))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]

    assert config["root"].startswith("/state/demo/")
    assert config["state"].startswith(str(LAYOUT.run))
    assert config["grpc"]["address"] == str(LAYOUT.containerd_socket)
    assert cri["sandbox_image"] == documents.PAUSE_IMAGE
    assert cri["restrict_oom_score_adj"] is True
    assert cri["netns_mounts_under_state_dir"] is True


def test_pods_get_addresses_of_the_bridge_network_with_the_node_as_gateway() -> None:
    plugin = json.loads(documents.cni(NODE))["plugins"][0]

    assert plugin["bridge"] == LAYOUT.bridge
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.200.0.0/24", "gateway": "10.200.0.1"}]]


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ("search corp.example\nnameserver 192.0.2.53\noptions ndots:5\n", "nameserver 192.0.2.53\n"),
        ("", ""),
        ("# nothing\n", ""),
    ],
)
def test_pods_inherit_the_hosts_name_servers_and_nothing_else(host: str, want: str) -> None:
    assert documents.resolv_conf(host) == want


@pytest.mark.parametrize(("upstream", "want"), [(True, 1), (False, 0)])
def test_names_outside_the_cluster_are_forwarded_where_there_is_a_name_server(upstream: bool, want: int) -> None:
    corefile = documents.corefile(NODE, upstream=upstream)

    assert corefile.count("forward .") == want
    assert "bind 10.200.0.1" in corefile
    assert corefile.count("{") == corefile.count("}")


def test_a_bridge_has_a_name_that_the_kernel_takes() -> None:
    assert len(Layout("a-cluster-with-a-very-long-name", Path("/somewhere")).bridge) <= 15


def test_clusters_of_one_name_in_two_state_folders_share_nothing() -> None:
    other = Layout("demo", Path("/elsewhere/demo"))

    assert {other.bridge, str(other.run), str(other.lock)}.isdisjoint(
        {LAYOUT.bridge, str(LAYOUT.run), str(LAYOUT.lock)}
    )


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ({"CREWRUN_CACHE": "/fast/cache", "XDG_CACHE_HOME": "/xdg"}, "/fast/cache"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/crewrun"),
        ({}, str(Path.home() / ".cache/crewrun")),
    ],
)
def test_the_cache_is_where_the_environment_says(env: dict[str, str], want: str) -> None:
    assert str(cache_dir(env)) == want


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/crewrun/demo"),
        ({}, str(Path.home() / ".local/state/crewrun/demo")),
    ],
)
def test_the_state_folder_is_where_the_environment_says(env: dict[str, str], want: str) -> None:
    assert str(default_state_dir("demo", env)) == want


@pytest.mark.parametrize(
    ("name", "want_user", "want_groups"),
    [
        ("admin", "crewrun-admin", ["system:masters"]),
        ("kubelet", "system:node:demo-node", ["system:nodes"]),
        ("controller-manager", "system:kube-controller-manager", []),
        ("scheduler", "system:kube-scheduler", []),
        ("kube-proxy", "system:kube-proxy", []),
    ],
)
def test_a_certificate_says_who_its_holder_is(name: str, want_user: str, want_groups: list[str]) -> None:
    pair = Authority("ca").issue(identities("demo-node", ["10.200.0.1"])[name])
    subject = x509.load_pem_x509_certificate(pair.cert).subject

    assert [entry.value for entry in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [want_user]
    assert [entry.value for entry in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == want_groups


def test_a_servers_certificate_holds_its_names_and_addresses() -> None:
    pair = Authority("ca").issue(identities("demo-node", ["10.200.0.1", "10.96.0.1"])["apiserver"])
    cert = x509.load_pem_x509_certificate(pair.cert)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    purposes = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    assert ipaddress.ip_address("10.96.0.1") in names.get_values_for_type(x509.IPAddress)
    assert ExtendedKeyUsageOID.SERVER_AUTH in purposes


def test_a_clients_certificate_serves_nothing() -> None:
    cert = x509.load_pem_x509_certificate(Authority("ca").issue(Identity("somebody")).cert)

    assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]


def test_a_kubeconfig_can_be_copied_anywhere() -> None:
    document: dict[str, Any] = kubeconfig("demo", "https://127.0.0.1:1", b"ca", Pair(b"cert", b"key"))

    assert document["current-context"] == document["contexts"][0]["name"] == "demo"
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}

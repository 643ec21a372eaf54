"""The command line of every server. Pure: addresses and paths in, argument lists out.

Everything listens on loopback, or, in a node-size cluster, on the cluster's own bridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import audit
from devcluster.paths import Layout

SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
# Where pods find the API server. A control-plane size has no pods that could dial it, but the
# API server refuses to advertise a loopback address; this one is reserved for documentation.
NOBODY = "192.0.2.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"
LOCAL = "127.0.0.1"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PORTS = (
    "apiserver",
    "etcd",
    "etcd-peer",
    "controller-manager",
    "scheduler",
    "kubelet-healthz",
    "proxy-healthz",
    "proxy-metrics",
    "kwok",
    "coredns-health",
)


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a cluster starts."""

    layout: Layout
    ports: Mapping[str, int]
    node: str = ""
    """Name of the node; empty in a control-plane size."""
    address: str = LOCAL
    """Address of the API server: the bridge's in a node size."""
    subnet: str = ""
    apiserver_args: tuple[str, ...] = field(default=())
    """K=V from the command line; they win over ours."""

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.ports['apiserver']}"

    def cert(self, name: str) -> str:
        return str(self.layout.pki / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.layout.pki / f"{name}.key")

    def kubeconfig(self, name: str) -> str:
        return str(self.layout.pki / f"{name}.kubeconfig")

    def config(self, name: str) -> str:
        return str(self.layout.config / name)


def flags(values: Mapping[str, str | int | Path]) -> list[str]:
    return [f"--{key}={value}" for key, value in values.items()]


def etcd(plan: Plan) -> list[str]:
    """TLS on loopback too: whoever writes to etcd owns the cluster, and machines have other users."""
    client = f"https://{LOCAL}:{plan.ports['etcd']}"
    peer = f"https://{LOCAL}:{plan.ports['etcd-peer']}"
    return [
        *flags(
            {
                "name": "etcd",
                "data-dir": plan.layout.etcd,
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"etcd={peer}",
                "cert-file": plan.cert("etcd"),
                "key-file": plan.key("etcd"),
                "trusted-ca-file": plan.cert("ca"),
                "peer-cert-file": plan.cert("etcd"),
                "peer-key-file": plan.key("etcd"),
                "peer-trusted-ca-file": plan.cert("ca"),
                "log-level": "warn",
            }
        ),
        "--client-cert-auth",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",
    ]  # a cluster that is thrown away after a power cut needs no disk flush


def kube_apiserver(plan: Plan) -> list[str]:
    values: dict[str, str | int | Path] = {
        "etcd-servers": f"https://{LOCAL}:{plan.ports['etcd']}",
        "etcd-cafile": plan.cert("ca"),
        "etcd-certfile": plan.cert("etcd"),
        "etcd-keyfile": plan.key("etcd"),
        "bind-address": plan.address,
        "advertise-address": NOBODY if plan.address == LOCAL else plan.address,
        "secure-port": plan.ports["apiserver"],
        "tls-cert-file": plan.cert("apiserver"),
        "tls-private-key-file": plan.key("apiserver"),
        "client-ca-file": plan.cert("ca"),
        "kubelet-certificate-authority": plan.cert("ca"),
        "kubelet-client-certificate": plan.cert("apiserver-kubelet"),
        "kubelet-client-key": plan.key("apiserver-kubelet"),
        # By address: a node's name resolves nowhere, and `kubectl logs` would fail.
        "kubelet-preferred-address-types": "InternalIP",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": SERVICE_NETWORK,
        "service-account-issuer": ISSUER,
        "service-account-jwks-uri": f"{ISSUER}/openid/v1/jwks",
        "service-account-signing-key-file": plan.key("service-account"),
        "service-account-key-file": plan.cert("service-account"),
        **audit.flags(Path(plan.config(audit.POLICY_FILE)), plan.layout.audit_log),
    }
    for pair in plan.apiserver_args:
        values.pop(pair.partition("=")[0], None)
    return [*flags(values), *(f"--{pair}" for pair in plan.apiserver_args)]


def kube_controller_manager(plan: Plan) -> list[str]:
    own = plan.kubeconfig("controller-manager")
    return flags(
        {
            "kubeconfig": own,
            "authentication-kubeconfig": own,
            "authorization-kubeconfig": own,
            "bind-address": LOCAL,
            "secure-port": plan.ports["controller-manager"],
            "tls-cert-file": plan.cert("controller-manager"),
            "tls-private-key-file": plan.key("controller-manager"),
            "leader-elect": "false",
            "root-ca-file": plan.cert("ca"),
            "service-account-private-key-file": plan.key("service-account"),
            "cluster-signing-cert-file": plan.cert("ca"),
            "cluster-signing-key-file": plan.key("ca"),
            "use-service-account-credentials": "true",
            # It makes this folder; the default one is under /usr.
            "flex-volume-plugin-dir": plan.config("volume-plugins"),
            # The default of 20 requests a second would be what a benchmark of Jobs measures.
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
        }
    )


def kube_scheduler(plan: Plan) -> list[str]:
    own = plan.kubeconfig("scheduler")
    return flags(
        {
            "config": plan.config("scheduler.yaml"),
            "authentication-kubeconfig": own,
            "authorization-kubeconfig": own,
            "bind-address": LOCAL,
            "secure-port": plan.ports["scheduler"],
            "tls-cert-file": plan.cert("scheduler"),
            "tls-private-key-file": plan.key("scheduler"),
        }
    )


def kube_proxy(plan: Plan) -> list[str]:
    return flags({"config": plan.config("kube-proxy.yaml"), "hostname-override": plan.node})


def kubelet(plan: Plan) -> list[str]:
    return flags(
        {
            "config": plan.config("kubelet.yaml"),
            "kubeconfig": plan.kubeconfig("kubelet"),
            "hostname-override": plan.node,
            "node-ip": plan.address,
            "root-dir": plan.layout.kubelet,
            "cert-dir": plan.layout.kubelet / "pki",
        }
    )


def containerd(plan: Plan) -> list[str]:
    return ["--config", plan.config("containerd.toml")]


def coredns(plan: Plan) -> list[str]:
    return ["-conf", plan.config("Corefile")]


def kwok(plan: Plan, stages: Path) -> list[str]:
    """All nodes are kwok's: there are no others in a control-plane size."""
    return [
        "--kubeconfig",
        plan.kubeconfig("kwok"),
        "--config",
        str(stages),
        "--manage-all-nodes=true",
        "--server-address",
        f"{LOCAL}:{plan.ports['kwok']}",
    ]


def kube_command(binary: Path, program: str, arguments: Sequence[str]) -> list[str]:
    return [str(binary), program, *arguments]

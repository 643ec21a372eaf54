"""Whether a component works, asked of itself. Looks only."""

from __future__ import annotations

import http.client
import socket

import yaml

from devcluster.api import Api
from devcluster.components import LOCAL
from devcluster.paths import Layout
from devcluster.processes import Process, alive

# Components that answer plain HTTP on loopback, and where; the port is the process's first.
PLAIN = {"kubelet": "/healthz", "kube-proxy": "/healthz", "coredns": "/health", "kwok": "/healthz"}
# Those behind TLS with a certificate of the cluster's CA.
TLS = {"kube-controller-manager", "kube-scheduler"}


def healthy(process: Process, layout: Layout) -> bool:
    """The component's own word for it; for those that have none, whether they take connections."""
    if not alive(process):
        return False
    if process.name == "kube-apiserver":
        return api_ready(layout)
    if process.name in TLS:
        return tls_ok(layout, process.ports[0], "/healthz")
    if path := PLAIN.get(process.name):
        return plain_ok(process.ports[0], path)
    if process.name == "containerd":
        return accepts(socket.AF_UNIX, str(layout.containerd_socket))
    return all(accepts(socket.AF_INET, (LOCAL, port)) for port in process.ports)


def api_ready(layout: Layout) -> bool:
    try:
        return Api.from_file(layout.kubeconfig).ok("/readyz")
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return False


def tls_ok(layout: Layout, port: int, path: str) -> bool:
    try:
        document = yaml.safe_load(layout.kubeconfig.read_text())
        document["clusters"][0]["cluster"]["server"] = f"https://{LOCAL}:{port}"
        return Api(document).ok(path)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return False


def plain_ok(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOCAL, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def accepts(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(address) == 0

"""Writes a plan's certificates and configuration files to the state folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import audit, documents
from devcluster.components import SERVICE_ADDRESS, Plan
from devcluster.kubeconfig import kubeconfig
from devcluster.pki import Authority, identities, service_account_keys

# Who gets a kubeconfig in pki/, and under which certificate.
CLIENTS = {
    "controller-manager": "controller-manager",
    "scheduler": "scheduler",
    "kube-proxy": "kube-proxy",
    "coredns": "coredns",
    "kubelet": "kubelet",
    "kwok": "admin",
}


def write(path: Path, data: bytes | str | Mapping[str, Any]) -> None:
    """Write a file that only its owner can read: most hold keys."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if isinstance(data, Mapping):
        data = yaml.safe_dump(dict(data), sort_keys=False)
    path.touch(mode=0o600)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def write_pki(plan: Plan) -> None:
    authority = Authority(f"crewrun devcluster {plan.layout.name}")
    pairs = {"ca": authority.pair, "service-account": service_account_keys()}
    for name, identity in identities(plan.node, [plan.address, SERVICE_ADDRESS]).items():
        pairs[name] = authority.issue(identity)
    for name, pair in pairs.items():
        write(Path(plan.cert(name)), pair.cert)
        write(Path(plan.key(name)), pair.key)
    cluster = f"devcluster-{plan.layout.name}"
    for client, certificate in CLIENTS.items():
        write(Path(plan.kubeconfig(client)), kubeconfig(cluster, plan.server, pairs["ca"].cert, pairs[certificate]))
    write(plan.layout.kubeconfig, kubeconfig(cluster, plan.server, pairs["ca"].cert, pairs["admin"]))


def write_configs(plan: Plan) -> None:
    write(Path(plan.config("scheduler.yaml")), documents.scheduler(plan))
    write(Path(plan.config(audit.POLICY_FILE)), audit.policy())
    plan.layout.audit_log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not plan.node:
        return
    resolv = documents.resolv_conf(_read(Path("/etc/resolv.conf")))
    write(Path(plan.config("resolv.conf")), resolv)
    write(Path(plan.config("kubelet.yaml")), documents.kubelet(plan))
    write(Path(plan.config("kube-proxy.yaml")), documents.kube_proxy(plan))
    write(Path(plan.config("containerd.toml")), documents.containerd(plan))
    write(Path(plan.config("cni/10-crewrun.conflist")), documents.cni(plan))
    write(Path(plan.config("Corefile")), documents.corefile(plan, upstream=bool(resolv)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

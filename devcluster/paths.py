"""Where devcluster keeps files: a cache shared by all clusters, and one state folder a cluster.

Both are outside the checkout, so a new clone finds the binaries that an old one built.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster import audit

PACKAGE = Path(__file__).resolve().parent
GO_MODULE = PACKAGE / "go"
STATE_FILE = "state.json"


def cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of built binaries and images: $CREWRUN_CACHE, else crewrun in the user's cache."""
    env = os.environ if env is None else env
    if chosen := env.get("CREWRUN_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "crewrun"


def default_state_dir(name: str, env: Mapping[str, str] | None = None) -> Path:
    env = os.environ if env is None else env
    base = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base).absolute() / "crewrun" / name


@dataclass(frozen=True)
class Layout:
    """Names of everything inside one cluster's state folder, and of its run folder."""

    name: str
    state: Path

    @property
    def ident(self) -> str:
        """Short, unique on this machine: two clusters of one name in two state folders differ."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def record(self) -> Path:
        return self.state / STATE_FILE

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def etcd(self) -> Path:
        return self.state / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.state / "kubelet"

    @property
    def audit_log(self) -> Path:
        """The newest part; older ones lie beside it."""
        return self.state / "audit" / audit.LOG_FILE

    @property
    def pod_logs(self) -> Path:
        return self.state / "pod-logs"

    @property
    def containerd(self) -> Path:
        return self.state / "containerd"

    @property
    def run(self) -> Path:
        """Sockets live here and not in the state folder: their paths may have 107 characters."""
        return Path("/run/crewrun") / self.ident

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def bridge(self) -> str:
        """Name of the node's bridge (15 characters at most) and of its nftables table."""
        return f"crewrun{self.ident[:6]}"

    @property
    def lock(self) -> Path:
        return cache_dir() / "locks" / f"cluster-{self.ident}.lock"

    def owned(self) -> tuple[Path, ...]:
        """What `down` may delete in the state folder; anything else in there is not ours."""
        return (
            self.record,
            self.kubeconfig,
            self.logs,
            self.pki,
            self.config,
            self.etcd,
            self.kubelet,
            self.pod_logs,
            self.audit_log.parent,
            self.containerd,
            self.state / "cni",
        )

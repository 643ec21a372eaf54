"""Who makes the cluster: the interface of the three providers, and the choice between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from devcluster.errors import DevClusterError

Size = Literal["node", "control-plane"]
SIZES: tuple[Size, ...] = ("node", "control-plane")


@dataclass(frozen=True)
class UpOptions:
    size: Size = "node"
    apiserver_args: tuple[str, ...] = ()
    """K=V, handed to the API server as --K=V."""
    kwok_config: Path | None = None
    kwok_nodes: int = 0


@dataclass(frozen=True)
class ComponentStatus:
    name: str
    healthy: bool
    detail: str = ""


@dataclass(frozen=True)
class Status:
    provider: str
    up: bool
    components: tuple[ComponentStatus, ...] = field(default=())


class Provider(Protocol):
    """One way to have a cluster. All methods raise DevClusterError with what to do next."""

    name: str

    def why_not(self, size: Size) -> str | None:
        """Why this provider cannot make a cluster of this size here; None when it can."""

    def up(self, options: UpOptions) -> None:
        """Make the cluster, or find it ready; on return it serves."""

    def down(self) -> None:
        """Remove what `up` made, and nothing else."""

    def status(self) -> Status:
        """Look, change nothing."""

    def load(self, archives: Sequence[Path]) -> None:
        """Make the images of these archives runnable in the cluster."""

    def kubeconfig(self) -> Path:
        """The file that reaches the cluster as its administrator."""

    def audit_log(self) -> Path:
        """What the API server wrote down of service accounts' requests; older parts lie beside it."""


def choose(candidates: Sequence[Provider], size: Size, env: Mapping[str, str]) -> Provider:
    """The provider that CLUSTER names, else the first that can.

    `current` never can unless CLUSTER names it: its why_not says so.
    """
    wanted = env.get("CLUSTER", "")
    if wanted:
        named = next((provider for provider in candidates if provider.name == wanted), None)
        if named is None:
            known = ", ".join(provider.name for provider in candidates)
            raise DevClusterError(f"CLUSTER={wanted}: there is no such provider.", hint=f"use one of: {known}")
        if reason := named.why_not(size):
            raise DevClusterError(f"CLUSTER={wanted} cannot work here: {reason}")
        return named
    reasons = []
    for provider in candidates:
        if not (reason := provider.why_not(size)):
            return provider
        reasons.append(f"  {provider.name}: {reason}")
    raise DevClusterError(
        "no way to have a Kubernetes cluster on this machine:\n" + "\n".join(reasons),
        hint="start Docker; or run as root on Linux; or name a cluster of yours with CLUSTER=current KUBE_CONTEXT=NAME",
    )

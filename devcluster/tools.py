"""Pinned programs that are not ours: built by `go install` into the cache when first asked for."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.binaries import build_once, ensure_kube, find_go, go_environment, kube_folder
from devcluster.errors import DevClusterError
from devcluster.paths import cache_dir
from devcluster.progress import run_long, say


@dataclass(frozen=True)
class Tool:
    package: str
    version: str
    cold: str
    """How long a cold build took on 2 cores, for the message."""
    stamps: tuple[str, ...] = ()
    """Variables set at link time, where the program gets its facts from its own Makefile."""


# Each builds with Go 1.24, and none has a replace directive in its go.mod: `go install` refuses those.
TOOLS = {
    # Unstamped, `helm template` and `helm lint` take the cluster for 1.20 and refuse newer charts.
    "helm": Tool(
        "helm.sh/helm/v3/cmd/helm",
        "v3.19.0",
        "3 minutes",
        (
            "helm.sh/helm/v3/internal/version.version=v3.19.0",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34",
        ),
    ),
    "kwok": Tool("sigs.k8s.io/kwok/cmd/kwok", "v0.7.0", "2 to 3 minutes"),
    "coredns": Tool("github.com/coredns/coredns", "v1.12.4", "3 minutes"),
    "actionlint": Tool("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12", "10 seconds"),
    "kind": Tool("sigs.k8s.io/kind", "v0.30.0", "10 seconds"),
}


def install_arguments(tool: Tool) -> list[str]:
    # -s -w and -trimpath: smaller, and free of this machine's paths.
    flags = " ".join(["-s -w", *(f"-X {stamp}" for stamp in tool.stamps)])
    return ["install", "-v", "-trimpath", "-ldflags", flags, f"{tool.package}@{tool.version}"]


def tool_folder(name: str, tool: Tool, go_version: str) -> str:
    """Folder name of one build of one tool: another version, stamp or compiler is another folder."""
    key = hashlib.sha256(" ".join([*install_arguments(tool), go_version]).encode()).hexdigest()[:12]
    return f"{name}-{tool.version}-{key}"


def ensure_tool(name: str) -> Path:
    """Path of a tool's binary; builds it when this machine has none."""
    if name == "kubectl":
        return ensure_kubectl()
    if name not in TOOLS:
        known = ", ".join(sorted([*TOOLS, "kubectl"]))
        raise DevClusterError(f"there is no tool named {name!r}.", hint=f"use one of: {known}")
    tool = TOOLS[name]
    go, go_version = find_go()

    def build(target: Path) -> None:
        say(f"building {name} {tool.version} from source, once a machine (cold about {tool.cold} on 2 cores)")
        run_long(
            [str(go), *install_arguments(tool)],
            what=f"building {name}",
            log=cache_dir() / "logs" / f"build-{name}.log",
            env=go_environment(GOBIN=str(target)),
            cwd=target,
            hint="read the output above; a download that failed can simply be run again",
        )

    folder = cache_dir() / "bin" / tool_folder(name, tool, go_version)
    return build_once(folder, build, what=name) / name


def ensure_kubectl() -> Path:
    """Our own kubectl when it is built, else the person's; building ours takes minutes, so last."""
    folder, _ = kube_folder()
    if (folder / "kubectl").exists():
        return folder / "kubectl"
    if found := shutil.which("kubectl"):
        return Path(found)
    return ensure_kube().kubectl

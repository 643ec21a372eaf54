"""Builds the cluster's programs from devcluster/go, once a machine, into the cache.

A build is keyed by what goes into it, so another checkout with the same inputs finds it, and a
changed module never runs an old binary. The finished folder is renamed into place: a path that
exists is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.locks import locked
from devcluster.paths import GO_MODULE, cache_dir
from devcluster.progress import run_long, say

KUBERNETES = "v1.34.4"
MINIMUM_GO = (1, 24)
TAGS = "providerless,dockerless"
INPUTS = ("go.mod", "go.sum", "main.go", "pause/main.go")


@dataclass(frozen=True)
class Binaries:
    """The built programs: one binary that holds the servers, kubectl, and the pause program."""

    kube: Path

    @property
    def kubectl(self) -> Path:
        return self.kube.parent / "kubectl"

    @property
    def pause(self) -> Path:
        return self.kube.parent / "pause"


def ldflags(version: str) -> str:
    """Linker flags that stamp the version: without them the servers say v0.0.0 and clients refuse."""
    major, minor = version.removeprefix("v").split(".")[:2]
    stamp = " ".join(
        f"-X k8s.io/{package}.{key}={value}"
        for package in ("component-base/version", "client-go/pkg/version")
        for key, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor))
    )
    return f"-s -w {stamp}"


def parse_go_version(text: str) -> tuple[int, int] | None:
    """(1, 26) from `go version go1.26.8 linux/amd64`; None when it is not a release."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def find_go() -> tuple[Path, str]:
    """The go command and what it says of its version."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    need = f"Go {MINIMUM_GO[0]}.{MINIMUM_GO[1]} or newer"
    if not found:
        raise DevClusterError(
            f"{need} is needed to build the cluster's programs, and there is no `go` on PATH nor in /usr/local/go/bin.",
            hint="install Go: https://go.dev/doc/install",
        )
    text = subprocess.run([found, "version"], capture_output=True, text=True, check=True).stdout.strip()
    version = parse_go_version(text)
    if version is not None and version < MINIMUM_GO:
        raise DevClusterError(f"{need} is needed, {found} is `{text}`.", hint="install a newer Go")
    return Path(found), text


def cache_key(inputs: dict[str, bytes], go_version: str, flags: str) -> str:
    """Same key, same binary: over the module's files, the compiler and the flags."""
    digest = hashlib.sha256()
    for part in (
        go_version,
        flags,
        *(f"{name}\0{hashlib.sha256(data).hexdigest()}" for name, data in sorted(inputs.items())),
    ):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()[:16]


def go_environment(**more: str) -> dict[str, str]:
    """Static binaries, and no surprise from the person's own GOFLAGS or workspace."""
    env = {key: value for key, value in os.environ.items() if key not in ("GOFLAGS", "GOWORK", "GOBIN")}
    return {**env, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-buildvcs=false", **more}


def build_once(folder: Path, build: Callable[[Path], None], *, what: str) -> Path:
    """Make `folder` by `build` unless it is there; a half-made one is never seen under its name."""
    if folder.is_dir():
        return folder
    with locked(folder.parent / f".{folder.name}.lock", waiting_for=f"building {what}"):
        if folder.is_dir():
            return folder
        making = folder.parent / f".{folder.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        build(making)
        making.rename(folder)
    return folder


def kube_folder() -> tuple[Path, Path]:
    """Where the binary of this module and this compiler belongs, and the go command."""
    go, version = find_go()
    inputs = {name: (GO_MODULE / name).read_bytes() for name in INPUTS}
    key = cache_key(inputs, version, f"{TAGS} {ldflags(KUBERNETES)}")
    return cache_dir() / "bin" / f"kube-{KUBERNETES}-{key}", go


def ensure_kube() -> Binaries:
    """The cluster's programs; builds them when this machine has none for the present module."""
    folder, go = kube_folder()

    def build(target: Path) -> None:
        say(
            f"building Kubernetes {KUBERNETES} from source, once a machine: with an empty Go cache "
            "this takes minutes (about 7 on 2 cores)"
        )
        log = cache_dir() / "logs" / "build-kube.log"
        for package, output in (("./pause", "pause"), (".", "crewrun-kube")):
            run_long(
                [
                    str(go),
                    "build",
                    "-v",
                    "-trimpath",
                    "-tags",
                    TAGS,
                    "-ldflags",
                    ldflags(KUBERNETES),
                    "-o",
                    str(target / output),
                    package,
                ],
                what=f"building {output}",
                log=log,
                env=go_environment(),
                cwd=GO_MODULE,
                hint="read the output above; a download that failed can simply be run again, what was compiled is kept",
            )
        (target / "kubectl").symlink_to("crewrun-kube")
        say(f"built, kept in {folder}")

    return Binaries(build_once(folder, build, what="the cluster's programs") / "crewrun-kube")

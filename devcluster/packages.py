"""Debian packages that a step needs: installed when root, else named with the exact command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.locks import locked
from devcluster.paths import cache_dir
from devcluster.progress import find_program, run_long, say

# What each package is needed for: a program, or a file where it is none.
PROBES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
NODE = ("containerd", "runc", "containernetworking-plugins", "nftables", "iproute2", "conntrack", "buildah")
BUILD = ("buildah",)
BASE_IMAGE = ("buildah", "mmdebstrap")
# Debian's hook that says whether a package may start its service: 101 means no.
POLICY = Path("/usr/sbin/policy-rc.d")
DENY = "#!/bin/sh\n# crewrun devcluster: no service starts while packages are installed\nexit 101\n"


def find(probe: str) -> str | None:
    """Path of a program, or of a file that is named whole."""
    if probe.startswith("/"):
        return probe if Path(probe).exists() else None
    return find_program(probe)


def program(name: str) -> str:
    """Path of a program that `ensure` has seen to."""
    if found := find(name):
        return found
    raise DevClusterError(f"there is no {name} on this machine.", hint=f"install the package that holds {name}")


def missing(wanted: Sequence[str], look: Callable[[str], str | None]) -> list[str]:
    """Those packages whose program is not there. Looked for by program: any distribution will do."""
    return [name for name in wanted if look(PROBES[name]) is None]


def install_command(names: Sequence[str]) -> list[str]:
    return ["apt-get", "install", "-y", "--no-install-recommends", *names]


def ensure(wanted: Sequence[str]) -> None:
    """Have these packages on the machine."""
    if not (names := missing(wanted, find)):
        return
    command = install_command(names)
    if not find_program("apt-get"):
        raise DevClusterError(
            f"programs are missing that Debian has in the packages {', '.join(names)}.",
            hint="install what these packages hold with your own package manager; or start Docker",
        )
    if os.geteuid() != 0:
        raise DevClusterError(
            f"these Debian packages are missing: {', '.join(names)}.", hint=f"sudo {' '.join(command)}"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    logs = cache_dir() / "logs"
    with locked(cache_dir() / "locks" / "apt.lock", waiting_for="installing packages"), no_services():
        say(f"installing Debian packages: {' '.join(names)}")
        run_long(
            ["apt-get", "update"],
            what="apt-get update",
            log=logs / "apt-update.log",
            env=env,
            hint="read the output above; is a package source out of reach?",
        )
        run_long(
            command,
            what="apt-get install",
            log=logs / "apt-install.log",
            env=env,
            hint=f"run it by hand: {' '.join(command)}",
        )


@contextmanager
def no_services() -> Iterator[None]:
    """The distribution's own containerd must not start: the cluster brings up its own.

    A policy that somebody else put there stays in force.
    """
    if POLICY.exists():
        yield
        return
    POLICY.write_text(DENY)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)

"""Programs out of Debian packages, unpacked into the cache: nothing is installed, and no root is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from devcluster.binaries import build_once
from devcluster.errors import DevClusterError
from devcluster.paths import cache_dir
from devcluster.progress import find_program, run_long, say

#: Programs that run on their own, and the package that holds each.
PACKAGE_OF = {"prometheus": "prometheus", "promtool": "prometheus"}


def ensure_unpacked(name: str) -> Path:
    """Path of a program: this machine's own, else that of the package."""
    if found := find_program(name):
        return Path(found)
    package = PACKAGE_OF[name]

    def unpack(target: Path) -> None:
        say(f"fetching the Debian package {package}, once a machine")
        run_long(
            ["apt-get", "download", package],
            what=f"apt-get download {package}",
            log=cache_dir() / "logs" / f"download-{package}.log",
            cwd=target,
            hint=f"install {name} with your own package manager; on Debian `apt-get update` may be what it lacks",
        )
        (archive,) = target.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive.name, "."], check=True, cwd=target)
        archive.unlink()

    if not find_program("apt-get"):
        raise DevClusterError(f"there is no {name} on this machine.", hint=f"install {name} with your package manager")
    folder = cache_dir() / "bin" / f"debian-{package}"
    return build_once(folder, unpack, what=package) / "usr/bin" / name

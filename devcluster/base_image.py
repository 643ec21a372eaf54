"""The Python image that CrewRun's own images start from.

With Docker it is the official slim image. Without a registry it is made of Debian's packages:
unpacked, finished by base/customize.sh and imported into buildah's storage.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from devcluster import packages
from devcluster.images import build_environment, docker_is_up
from devcluster.locks import locked
from devcluster.paths import PACKAGE, cache_dir
from devcluster.progress import run_long, run_quick, say

DOCKER_BASE = "python:3.13-slim"
SUITE = "bookworm"
# numpy and others of the extras need the C++ library.
INCLUDE = ("python3.11", "ca-certificates", "dash", "base-files", "tzdata", "netbase", "libstdc++6")
RECIPE = PACKAGE / "base"


def make_commands(folder: Path) -> list[list[str]]:
    """From nothing to folder/rootfs.tar. Pure.

    Unpack and no more: the packages' own scripts would want a whole system. mmdebstrap runs no
    late hook after a mere unpacking, so the finishing is a step of its own.
    """
    rootfs = str(folder / "rootfs")
    return [
        ["mmdebstrap", "--variant=extract", f"--include={','.join(INCLUDE)}", "--format=directory", SUITE, rootfs],
        [str(RECIPE / "customize.sh"), rootfs],
        # A container gets a /dev of its own.
        [
            "tar",
            "--create",
            "--numeric-owner",
            "--exclude=./dev/*",
            f"--file={rootfs}.tar",
            f"--directory={rootfs}",
            ".",
        ],
    ]


def base_tag(recipe: dict[str, bytes]) -> str:
    """The tag carries the recipe's hash: a changed recipe is another image. Pure."""
    commands = [" ".join(command[1:]) for command in make_commands(Path("/folder"))[::2]]
    digest = hashlib.sha256("\n".join(commands).encode())
    for name, data in sorted(recipe.items()):
        digest.update(name.encode() + b"\0" + data)
    return f"localhost/crewrun-python-base:{digest.hexdigest()[:16]}"


def base_image() -> str:
    """The tag to give as `--build-arg BASE=`; the image is there when this returns."""
    if docker_is_up():
        return DOCKER_BASE
    packages.ensure(packages.BASE_IMAGE)
    tag = base_tag({path.name: path.read_bytes() for path in RECIPE.iterdir() if path.is_file()})
    with locked(cache_dir() / "locks" / "base-image.lock", waiting_for="making the base image"):
        found = run_quick(
            ["buildah", "inspect", "--type", "image", tag], what="looking for the base image", check=False
        )
        if found.returncode == 0:
            say(f"{tag}: there already")
        else:
            make(tag)
    return tag


def make(tag: str) -> None:
    say(f"making a Python base image from Debian's packages (about 20 s): {tag}")
    logs = cache_dir() / "logs"
    folder = Path(tempfile.mkdtemp(prefix="crewrun-base-"))
    try:
        build = ["buildah", "build", "--file", str(RECIPE / "Dockerfile"), "--tag", tag, str(folder)]
        for command in [*make_commands(folder), build]:
            name = Path(command[0]).stem
            run_long(
                command,
                what=f"base image: {name}",
                log=logs / f"base-{name}.log",
                env=build_environment(),
                hint="read the output above; is Debian's package archive out of reach?",
            )
    finally:
        shutil.rmtree(folder)

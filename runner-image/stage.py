"""Gathers what an image holds into a build context, so that building the image needs no network.

    python runner-image/stage.py runner --python-version 3.13 --output build/runner-image

The context has `site/` (the locked packages for that Python on Linux), `app/` (our packages), `finish.py`,
and the Dockerfile. The Python version must be that of the base image: `finish.py` refuses another one.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SOURCES_ONLY = shutil.ignore_patterns("__pycache__", "*.pyc", "Dockerfile")
_MARKER = "python-version"
#: The oldest glibc that packages may need: that of Debian 12 and of the slim Python images is newer.
_PLATFORM = "manylinux_2_28"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Image:
    """What goes into one image."""

    dockerfile: str
    requirements: str
    packages: tuple[str, ...]
    unused: tuple[str, ...] = ()  # files of packages that nothing imports


#: What the runner image can have in addition: an image of its own each, named runner-EXTRA.
EXTRAS = ("anthropic", "azure", "bedrock", "gemini", "mcp", "memory", "tools")


def runner(requirements: str) -> Image:
    """A runner image with these packages."""
    return Image("runner-image/Dockerfile", requirements, ("operator/crewrun_api", "runner-image/crewrun_runner"))


IMAGES = {
    "runner": runner("requirements/runner.txt"),
    **{f"runner-{extra}": runner(f"requirements/runner-{extra}.txt") for extra in EXTRAS},
    "operator": Image(
        "operator/Dockerfile",
        "requirements/operator.txt",
        ("operator/crewrun_api", "operator/crewrun_operator"),
        # Typed models and calls of every API, twice: half of the image. They are imported on use alone, and
        # the operator deals in plain documents.
        unused=(
            "kubernetes/client/models/v*.py",
            "kubernetes/client/api/*_v*_api.py",
            "kubernetes/aio/client/models/v*.py",
            "kubernetes/aio/client/api/*_v*_api.py",
        ),
    ),
    "testing": Image("operator/crewrun_testing/Dockerfile", "requirements/testing.txt", ("operator/crewrun_testing",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Gather an image's build context.")
    parser.add_argument("image", nargs="?", choices=sorted(IMAGES), default="runner")
    parser.add_argument("--python-version", required=True, metavar="3.x", help="that of the base image")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="made anew each time")
    parser.add_argument("--machine", default=platform.machine(), help="x86_64 or aarch64 (default: this one)")
    parser.add_argument("--epoch", type=int, metavar="SECONDS", help="the time of every file (default: as it comes)")
    options = parser.parse_args(arguments)
    context: Path = options.output
    if context.exists() and any(context.iterdir()) and not (context / _MARKER).exists():
        print(f"{context} holds something else: name another --output", file=sys.stderr)
        return 1
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    (context / _MARKER).write_text(options.python_version + "\n")
    image = IMAGES[options.image]
    machine = MACHINES.get(options.machine, options.machine)
    if code := install(image, context / "site", options.python_version, machine):
        return code
    for package in image.packages:
        shutil.copytree(ROOT / package, context / "app" / Path(package).name, ignore=_SOURCES_ONLY)
    shutil.copy(ROOT / "runner-image/finish.py", context)
    shutil.copy(ROOT / image.dockerfile, context / "Dockerfile")
    settle(context, options.epoch)
    size = sum(path.stat().st_size for path in _files(context)) / 1e6
    print(f"{options.image}: staged {size:.0f} MB for Python {options.python_version} in {context}")
    return 0


def install(image: Image, target: Path, python_version: str, machine: str) -> int:
    """The locked packages, nothing else, from wheels alone."""
    if code := subprocess.run(install_command(image, target, python_version, machine), check=False).returncode:
        return code
    shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that point to this machine's Python
    (target / ".lock").unlink(missing_ok=True)
    for pattern in image.unused:
        for path in target.glob(pattern):
            path.unlink()
    return 0


def install_command(image: Image, target: Path, python_version: str, machine: str) -> list[str]:
    return [
        *(_uv(), "pip", "install", "--quiet", "--target", str(target)),
        *("--python-version", python_version, "--python-platform", f"{machine}-{_PLATFORM}"),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy"),
        *("--requirement", str(ROOT / image.requirements)),
    ]


def settle(context: Path, epoch: int | None) -> None:
    """The same modes under every umask, so that the image's user can read all; and the same times, if wanted."""
    for path in [context, *context.rglob("*")]:
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if epoch is not None:
            os.utime(path, (epoch, epoch))


def _uv() -> str:
    own = ROOT / ".uv/bin/uv"
    return os.environ.get("UV") or (str(own) if own.exists() else "uv")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())

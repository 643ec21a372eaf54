"""Builds container images with Docker when it is up, else with buildah, and writes archives.

A build is keyed by its inputs, and its archive is kept in the cache: an unchanged image is not
built again, nor in another checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import packages
from devcluster.errors import DevClusterError
from devcluster.ignore import Ignore
from devcluster.locks import locked
from devcluster.paths import cache_dir
from devcluster.progress import run_long, run_quick, say

# Archives kept of one image: the present one, and the one before for who goes back and forth.
KEEP = 2


@dataclass(frozen=True)
class Image:
    """What one image is made of. `only` narrows the context to these entries of its top folder."""

    dockerfile: Path
    context: Path
    tag: str
    output: Path
    build_args: tuple[str, ...] = field(default=())
    only: tuple[str, ...] = field(default=())


def docker_is_up() -> bool:
    if not shutil.which("docker"):
        return False
    # A client alone answers too, and exits 0 with some versions: the server's version is what counts.
    asked = ["docker", "info", "--format", "{{.ServerVersion}}"]
    done = run_quick(asked, what="docker info", check=False, timeout=20.0)
    return done.returncode == 0 and bool(done.stdout.strip())


def context_files(context: Path, only: Sequence[str] = ()) -> Iterator[Path]:
    """Every file that the build can see, in a fixed order; .dockerignore is honoured."""
    ignore = Ignore.of(context)
    for folder, folders, files in os.walk(context):
        here = Path(folder).relative_to(context)
        top = here == Path()
        folders[:] = sorted(
            name
            for name in folders
            if not (top and only and name not in only) and not ignore.whole_folder(str(here / name))
        )
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*files, *links]):
            if not (top and only and name not in only) and not ignore.matches(str(here / name)):
                yield Path(folder, name)


def build_key(image: Image, builder: str) -> str:
    """Same key, same image: over the Dockerfile, the context's files and the arguments."""
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)

    add(builder, image.tag, *image.build_args, image.dockerfile.read_bytes())
    for path in context_files(image.context, image.only):
        name = str(path.relative_to(image.context))
        if path.is_symlink():
            add(name, "link", str(path.readlink()))
        else:
            add(name, "x" if os.access(path, os.X_OK) else "-", path.read_bytes())
    return digest.hexdigest()[:24]


def build_image(image: Image) -> bool:
    """Have the image's archive at `output`; true when it had to be built."""
    check(image)
    builder = "docker" if docker_is_up() else "buildah"
    folder = cache_dir() / "images"
    stem = hashlib.sha256(image.tag.encode()).hexdigest()[:12]
    cached = folder / f"{stem}-{build_key(image, builder)}.tar"
    with locked(folder / f".{stem}.lock", waiting_for=f"building {image.tag}"):
        built = not cached.exists()
        if built:
            making = cached.with_suffix(".making")
            making.unlink(missing_ok=True)
            build_with(builder, image, making)
            making.rename(cached)
        else:
            os.utime(cached)
        prune(folder, stem)
        deliver(cached, image.output)
    return built


def check(image: Image) -> None:
    if not image.dockerfile.is_file():
        raise DevClusterError(f"there is no Dockerfile at {image.dockerfile}.", hint="give it with --file")
    if not image.context.is_dir():
        raise DevClusterError(f"there is no folder {image.context}.", hint="give the build context with --context")


def build_commands(builder: str, image: Image, archive: Path) -> list[list[str]]:
    """The command that builds and the one that writes the archive. Pure."""
    arguments = [part for pair in image.build_args for part in ("--build-arg", pair)]
    common = ["--file", str(image.dockerfile), "--tag", image.tag, *arguments]
    if builder == "docker":
        return [
            ["docker", "build", *common, str(image.context)],
            ["docker", "save", "--output", str(archive), image.tag],
        ]
    return [
        ["buildah", "build", *common, str(image.context)],
        ["buildah", "push", image.tag, f"docker-archive:{archive}:{image.tag}"],
    ]


def build_environment() -> dict[str, str]:
    """For buildah chroot isolation: it needs no right that a sandboxed root lacks. For Docker no attestations: an
    archive with them cannot be imported into a node, since `docker save` leaves them out but names them.
    """
    return {**os.environ, "BUILDAH_ISOLATION": "chroot", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


def build_with(builder: str, image: Image, archive: Path) -> None:
    if builder == "buildah":
        packages.ensure(packages.BUILD)
    say(f"building image {image.tag} with {builder}")
    before = stored_id(builder, image.tag)
    log = cache_dir() / "logs" / f"image-{image.tag.replace('/', '_').replace(':', '_')}.log"
    for command in build_commands(builder, image, archive):
        run_long(
            command,
            what=f"{command[0]} {command[1]} {image.tag}",
            log=log,
            env=build_environment(),
            hint=f"read the output above; the Dockerfile is {image.dockerfile}",
        )
    if before and before != stored_id(builder, image.tag):
        # The image that had the tag is nameless now, and nobody would ever remove it.
        run_quick([builder, "rmi", before], what="removing the old image", check=False)


def stored_id(builder: str, tag: str) -> str:
    """Which image the builder's own storage holds under the tag; empty when there is none."""
    return run_quick([builder, "images", "--quiet", tag], what="listing images", check=False).stdout.strip()


def prune(folder: Path, stem: str) -> None:
    """Forget all but the latest archives of an image."""
    archives = sorted(folder.glob(f"{stem}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[KEEP:]:
        path.unlink(missing_ok=True)


def deliver(cached: Path, output: Path) -> None:
    """Put the archive where it is wanted: by a second link where that can be, since they are large."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists() and output.samefile(cached):
        return
    making = output.parent / f".{output.name}.making"
    making.unlink(missing_ok=True)
    try:
        os.link(cached, making)
    except OSError:
        shutil.copyfile(cached, making)
    making.replace(output)

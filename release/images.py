"""Builds the images of a release into archives. The same commit and base give the same layers and configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import stage
from devcluster.base_image import base_image
from devcluster.errors import DevClusterError
from devcluster.images import build_environment, docker_is_up
from devcluster.progress import run_long, say
from release.identity import ROOT, Identity
from release.products import Product, labels, machine_of, own_platform, python_of

OUTPUT = ROOT / "build/release"


@dataclass(frozen=True)
class Build:
    """One image for one platform, staged."""

    reference: str
    context: Path
    platform: str
    base: str
    labels: Mapping[str, str]
    epoch: int

    @property
    def arguments(self) -> list[str]:
        """What Docker and buildah take alike."""
        told = [part for key, value in self.labels.items() for part in ("--label", f"{key}={value}")]
        return ["--platform", self.platform, "--build-arg", f"BASE={self.base}", *told]


def archive_commands(builder: str, build: Build, archive: Path) -> list[list[str]]:
    """The commands that leave the image in an archive. Pure.

    Times come from the commit; Docker takes it from SOURCE_DATE_EPOCH. Attestations are for what is pushed: they
    carry the time of the build, and an archive with them cannot be imported everywhere.
    """
    if builder == "docker":
        output = f"type=docker,dest={archive},rewrite-timestamp=true"
        flags = ["--provenance=false", "--sbom=false", "--tag", build.reference, "--output", output]
        return [["docker", "buildx", "build", *build.arguments, *flags, str(build.context)]]
    timed = ["--timestamp", str(build.epoch), "--identity-label=false", "--tag", build.reference]
    return [
        ["buildah", "build", *build.arguments, *timed, str(build.context)],
        ["buildah", "push", "--quiet", build.reference, f"docker-archive:{archive}:{build.reference}"],
        ["buildah", "rmi", build.reference],
    ]


def environment(epoch: int) -> dict[str, str]:
    return {**build_environment(), "SOURCE_DATE_EPOCH": str(epoch)}


def stage_one(product: Product, platform: str, base: str, registry: str, identity: Identity, folder: Path) -> Build:
    """The build context of one image for one platform, with the commit's time on every file."""
    machine = machine_of(platform)
    context = folder / "context" / f"{product.staged}-{machine}"
    arguments = ["--python-version", python_of(base), "--machine", machine, "--epoch", str(identity.committed)]
    if stage.main([product.staged, *arguments, "--output", str(context)]):
        raise DevClusterError(f"{product.staged} could not be staged for {platform}; the reason stands above.")
    reference = product.reference(registry, identity.tag)
    return Build(reference, context, platform, base, labels(product, identity, base), identity.committed)


def build_archives(
    products: Sequence[Product], platforms: Sequence[str], identity: Identity, registry: str, folder: Path = OUTPUT
) -> list[Path]:
    """Each image for each platform as an archive `docker load` reads; their paths."""
    builder = "docker" if docker_is_up() else "buildah"
    if builder == "buildah" and list(platforms) != [own_platform()]:
        raise DevClusterError(
            f"without Docker images are built for {own_platform()} alone, not for {', '.join(platforms)}.",
            hint="use Docker with buildx and QEMU, or leave PLATFORMS out",
        )
    base = os.environ.get("BASE") or base_image()
    archives = []
    for product in products:
        for platform in platforms:
            build = stage_one(product, platform, base, registry, identity, folder)
            archives.append(archive_one(builder, build, product.staged, folder))
    return archives


def archive_one(builder: str, build: Build, name: str, folder: Path) -> Path:
    machine = machine_of(build.platform)
    archive = folder / "images" / f"{name}-{machine}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    for command in archive_commands(builder, build, archive):
        run_long(
            command,
            what=f"{command[0]} {command[1]} {build.reference}",
            log=folder / "logs" / f"{name}-{machine}.log",
            env=environment(build.epoch),
            hint="read the output above; Docker needs a buildx builder: docker buildx create --use",
        )
    say(f"{build.reference} ({build.platform}): {archive}")
    return archive

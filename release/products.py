"""The images of a release: their names, tags and labels."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

import stage
from devcluster.archives import normalize
from devcluster.errors import DevClusterError
from release.identity import Identity

REGISTRY = "ghcr.io/crewrun"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_PYTHON = re.compile(r"(?:^|/)python:(3\.\d+)")
_TITLES = {
    "operator": ("CrewRun operator", "Runs CrewAI crews as Kubernetes resources."),
    "testing": (
        "CrewRun scripted model",
        "Answers in OpenAI's API from a script, for tests and demos.",
    ),
    "runner": ("CrewRun runner", "Runs one attempt of one crew."),
}


@dataclass(frozen=True)
class Product:
    """One image of a release."""

    staged: str
    """Its name in `stage.py`: `runner-mcp`."""
    repository: str
    suffix: str
    """What its tag has after the version: `-mcp`."""
    title: str
    description: str

    def reference(self, registry: str, tag: str) -> str:
        return f"{registry}/{self.repository}:{tag}{self.suffix}"


def product(staged: str) -> Product:
    """An extra of the runner is another tag of the same repository. Pure."""
    repository, dash, extra = staged.partition("-")
    title, description = _TITLES[repository]
    if extra:
        title, description = f"{title} with {extra}", f"{description.rstrip('.')}, with the extra {extra}."
    return Product(staged, repository, f"{dash}{extra}", title, description)


PRODUCTS = {name: product(name) for name in stage.IMAGES}


def labels(product: Product, identity: Identity, base: str) -> dict[str, str]:
    """The labels that the OCI image specification names for annotations. Pure."""
    name, _, digest = base.partition("@")
    told = {
        "title": product.title,
        "description": product.description,
        "version": f"{identity.tag}{product.suffix}",
        "revision": identity.revision,
        "created": identity.created,
        "source": identity.source,
        "licenses": identity.licenses,
        "base.name": normalize(name),
        "base.digest": digest,
    }
    return {f"org.opencontainers.image.{key}": value for key, value in sorted(told.items()) if value}


def python_of(base: str) -> str:
    """The Python of a base image: the official ones say it in their tag, ours is Debian 12's. Pure."""
    found = _PYTHON.search(base)
    return found[1] if found else "3.11"


def own_platform() -> str:
    machine = platform.machine()
    return f"linux/{_MACHINES.get(machine, machine)}"


def machine_of(platform_name: str) -> str:
    """`arm64` of `linux/arm64`. Pure."""
    system, _, machine = platform_name.partition("/")
    if system != "linux" or machine not in _MACHINES.values():
        raise DevClusterError(
            f"there is no image for the platform {platform_name!r}.", hint="use linux/amd64, linux/arm64 or both"
        )
    return machine

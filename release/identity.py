"""What is released: the version of pyproject.toml, and the commit that it is made of."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.progress import run_quick

ROOT = Path(__file__).resolve().parents[1]
_SHORT = 12


@dataclass(frozen=True)
class Identity:
    """Everything that names a release. The same commit has the same identity on every machine."""

    version: str
    tag: str
    revision: str
    committed: int
    """Seconds since 1970 of the commit: the time of every file, so that no clock is in an image."""
    description: str
    licenses: str
    source: str

    @property
    def created(self) -> str:
        """The commit's time as OCI wants it: RFC 3339."""
        return datetime.fromtimestamp(self.committed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tag_of(version: str, revision: str, tags: list[str], *, dirty: bool) -> str:
    """VERSION for the commit that is tagged vVERSION, VERSION-gSHA for every other. Pure.

    In the order of semantic versions the second comes before the first, which is what it is: not yet released.
    """
    if dirty:
        return f"{version}-g{revision[:_SHORT]}-dirty"
    return version if f"v{version}" in tags else f"{version}-g{revision[:_SHORT]}"


def read() -> Identity:
    """The identity of the checkout as it stands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    revision, committed = _git("show", "--no-patch", "--format=%H %ct", "HEAD").split()
    tags, dirty = _git("tag", "--points-at", "HEAD").split(), bool(_git("status", "--porcelain"))
    return Identity(
        version=project["version"],
        tag=tag_of(project["version"], revision, tags, dirty=dirty),
        revision=revision,
        committed=int(committed),
        description=project["description"],
        licenses=project["license"],
        source=project["urls"]["Source"],
    )


def check(identity: Identity) -> None:
    """Refuse to publish what would not have the version's own tag."""
    if identity.tag != identity.version:
        raise DevClusterError(
            f"this commit is {identity.tag}, not the release {identity.version}.",
            hint=f"commit everything, then git tag v{identity.version}; the version stands in pyproject.toml",
        )


def _git(*arguments: str) -> str:
    hint = "a release is built from a git checkout, since its tag and its times come from the commit"
    return run_quick(["git", "-C", str(ROOT), *arguments], what="asking git for the commit", hint=hint).stdout.strip()

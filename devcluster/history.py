"""The last release, from the git history: the last commit in which the chart had another version."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from devcluster.errors import DevClusterError

CHART = "charts/crewrun/Chart.yaml"


@dataclass(frozen=True)
class Release:
    """A state of the tree that had a version."""

    root: Path
    commit: str
    version: str

    def text(self, path: str) -> str:
        return _git(self.root, "show", f"{self.commit}:{path}").decode()

    def files(self, folder: str) -> list[str]:
        return _git(self.root, "ls-tree", "--name-only", self.commit, f"{folder}/").decode().split()

    def export(self, target: Path, *paths: str) -> Path:
        """These paths as they were, below `target`."""
        archive = _git(self.root, "archive", "--format=tar", self.commit, *paths)
        with tarfile.open(fileobj=BytesIO(archive)) as opened:
            opened.extractall(target, filter="data")
        return target


def is_checkout(root: Path) -> bool:
    """A folder that was unpacked from an archive has no history to compare with."""
    return (root / ".git").exists()


def previous_release(root: Path) -> Release:
    """The release before the version that stands in the tree."""
    current = _version((root / CHART).read_text())
    for commit in _states(root):
        version = _version_at(root, commit)
        if version not in (None, current):
            return Release(root, _git(root, "rev-parse", commit).decode().strip(), str(version))
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise DevClusterError(
            f"the history ends before the chart had another version than {current}: this is a shallow clone.",
            hint="git fetch --unshallow; in a workflow, check out with fetch-depth: 0",
        )
    raise DevClusterError(f"the chart has had no other version than {current}: there is no release to compare with.")


def _states(root: Path) -> Iterator[str]:
    """The newest commit, then the one before each that touched the chart's file, newest first."""
    yield "HEAD"
    for commit in _git(root, "rev-list", "--first-parent", "HEAD", "--", CHART).decode().split():
        yield f"{commit}^"


def _version_at(root: Path, commit: str) -> str | None:
    try:
        return _version(_git(root, "show", f"{commit}:{CHART}").decode())
    except DevClusterError:  # before the chart, or before the history
        return None


def _version(chart: str) -> str:
    document: dict[str, Any] = yaml.safe_load(chart)
    return str(document["version"])


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise DevClusterError(f"git {' '.join(arguments)}: {done.stderr.decode().strip()}")
    return done.stdout

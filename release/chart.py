"""Packages the chart, with the version and the image tag of this commit, and the digest beside it."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
from pathlib import Path

from devcluster.progress import run_quick, say
from devcluster.tools import ensure_tool
from release.identity import ROOT, Identity

CHART = ROOT / "charts/crewrun"
OUTPUT = ROOT / "build/charts"


def settled(packaged: bytes, epoch: int) -> bytes:
    """The same files with one time and one owner, in the order of their names. Pure.

    Helm stamps each file with the moment of packaging, so that two packages of one chart differ.
    """
    inner = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packaged)) as given,
        tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as made,
    ):
        for name in sorted(given.getnames(), key=lambda name: (not name.endswith("/Chart.yaml"), name)):
            found = given.getmember(name)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = found.size, epoch, 0o644
            made.addfile(entry, given.extractfile(found))
    return gzip.compress(inner.getvalue(), mtime=epoch)


def package(identity: Identity, folder: Path = OUTPUT) -> Path:
    """crewrun-VERSION.tgz and its .sha256, as `sha256sum --check` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        versions = ["--version", identity.tag, "--app-version", identity.tag]
        command = [str(ensure_tool("helm")), "package", str(CHART), *versions, "--destination", scratch]
        run_quick(command, what="helm package", hint="make verify says what is wrong with the chart")
        (packaged,) = Path(scratch).iterdir()
        target = folder / packaged.name
        target.write_bytes(settled(packaged.read_bytes(), identity.committed))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n")
    say(f"{target}: sha256:{digest}")
    return target

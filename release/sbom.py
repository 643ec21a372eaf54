"""Bills of materials, from the locks: what an image is staged from, with versions and hashes, in CycloneDX."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

import stage
from devcluster.progress import run_quick, say
from release.identity import ROOT, Identity
from release.products import Product

OUTPUT = ROOT / "build/sbom"
TOOL = ROOT / ".venv-release/bin/cyclonedx-py"
_ENTRY = re.compile(r"^(?=\S)(?!#)", re.MULTILINE)


def installed(lock: str, python: str) -> str:
    """The entries of a lock that are installed on Linux for this Python: a lock is for every platform. Pure."""
    target = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.99",
        "python_version": python,
        "sys_platform": "linux",
    }
    return "".join(entry for entry in _ENTRY.split(lock) if _applies(entry, target))


def _applies(entry: str, target: Mapping[str, str]) -> bool:
    if not entry.strip() or entry.startswith((" ", "#")):
        return False
    marker = Requirement(entry.split("\\", 1)[0].split(" #", 1)[0].strip()).marker
    return marker is None or marker.evaluate(dict(target))


def project_of(product: Product, identity: Identity) -> str:
    """The pyproject.toml of the root component: the image itself. Pure."""
    return (
        f'[project]\nname = "crewrun-{product.staged}"\nversion = "{identity.tag}"\n'
        f'description = "{product.description}"\nlicense = "{identity.licenses}"\n'
        f'urls = {{Source = "{identity.source}"}}\n'
    )


def write(product: Product, identity: Identity, python: str, folder: Path = OUTPUT) -> Path:
    """The bill of one image; validated by the tool, and the same bytes for the same commit."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{product.staged}.cdx.json"
    lock = installed((ROOT / stage.IMAGES[product.staged].requirements).read_text(), python)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "pyproject.toml"
        project.write_text(project_of(product, identity))
        settings = ["--spec-version", "1.6", "--output-reproducible", "--validate", "--output-file", str(target)]
        run_quick(
            [str(TOOL), "requirements", "-", "--pyproject", str(project), *settings],
            what=f"the bill of materials of {product.staged}",
            hint="make sbom installs the tool",
            env={**os.environ, "SOURCE_DATE_EPOCH": str(identity.committed)},
            stdin=lock,
        )
    say(f"{target}: {lock.count('==')} packages")
    return target

"""The release before this one, from the git history: its chart, its CRDs, and images of its operator and runner."""

import os
import subprocess
import sys
from pathlib import Path

from devcluster.base_image import base_image
from devcluster.history import Release, previous_release
from devcluster.images import Image, build_image

ROOT = Path(__file__).parents[2]
TAG = "previous"
_NEEDED = ("charts", "crds", "operator", "requirements", "runner-image")


class Previous:
    """Its files, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.release: Release = previous_release(ROOT)
        self.root = self.release.export(folder, *_NEEDED)

    @property
    def chart(self) -> Path:
        return self.root / "charts/crewrun"

    @property
    def crds(self) -> Path:
        return self.root / "crds"

    @property
    def values(self) -> dict[str, str]:
        """Its images, as `image` tags them."""
        named = {part: f"localhost/crewrun-{part}" for part in ("operator", "runner")}
        return {f"{part}.image.repository": name for part, name in named.items()} | {
            f"{part}.image.tag": TAG for part in named
        }

    def image(self, name: str) -> Path:
        """The archive of its operator's or runner's image, built of what it was."""
        base = base_image()
        version = base.removeprefix("python:").partition("-")[0] if base.startswith("python:") else "3.11"
        context = self.root / "context" / name
        stage = [sys.executable, str(self.root / "runner-image/stage.py"), name]
        environment = {**os.environ, "UV": str(ROOT / ".uv/bin/uv")}
        subprocess.run([*stage, "--python-version", version, "--output", str(context)], check=True, env=environment)
        archive = self.root / f"{name}.tar"
        tag = f"localhost/crewrun-{name}:{TAG}"
        build_image(Image(context / "Dockerfile", context, tag, archive, (f"BASE={base}",)))
        return archive

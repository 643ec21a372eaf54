"""What the image has, asked of Python itself."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: Where an image built on the runner's keeps its own code.
APP_DIR = "/app"
ENV_APP_DIR = "CREWRUN_APP_DIR"


def installed(module: str) -> bool:
    """Whether this image has a top-level module."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # `absent` says so where crewai is loaded
        return False


def app_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's own code."""
    return Path(environ.get(ENV_APP_DIR) or APP_DIR)


def find_own_code(folder: Path) -> None:
    """Python finds the user's code after all other: a file called types.py there breaks nothing."""
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))

"""Prints what is left out of the image with one extra, for `uv pip compile --excludes`.

That is `excludes.txt` without the distributions that the extra `runner-EXTRA` of pyproject.toml names:

    python runner-image/excludes.py memory
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def without(lines: Iterable[str], requirements: Iterable[str]) -> list[str]:
    """The lines that do not exclude what is required. Pure."""
    required = {match[0] for each in requirements if (match := _NAME.match(each))}
    return [line for line in lines if line.strip() not in required]


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    required = project["optional-dependencies"][f"runner-{sys.argv[1]}"]
    print("\n".join(without((HERE / "excludes.txt").read_text().splitlines(), required)))


if __name__ == "__main__":
    main()

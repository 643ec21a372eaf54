"""The last step of building an image, run in it by its own Python: check, compile, make the home.

It needs nothing but Python, since a small base has no other tools.
"""

import compileall
import os
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

HERE = Path(__file__).resolve().parent
USER = 65532
HOME = Path("/home/crewrun")


def main() -> int:
    staged = (HERE / "python-version").read_text().strip()
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if staged != found:
        print(f"packages were staged for Python {staged}, and the base image has {found}", file=sys.stderr)
        return 1
    # Nothing can be compiled at run time under a read-only root, and the check of a source's time would be
    # one system call for each of two thousand modules.
    for folder in ("site", "app"):
        compileall.compile_dir(HERE / folder, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    for entry in ("app", "site"):
        sys.path.insert(0, str(HERE / entry))
    import pydantic_core  # noqa: F401  - compiled for this Python and machine, or this fails now

    HOME.mkdir(parents=True, exist_ok=True)
    os.chown(HOME, USER, USER)
    return 0


if __name__ == "__main__":
    sys.exit(main())

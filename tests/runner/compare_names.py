"""What every name of an SDK's packages is, as JSON: imported as always, or opened name by name.

It runs in the runner's environment. Without input it lists every name; with the list as input it opens the
packages name by name and looks up the names of the list.
"""

import json
import pkgutil
import sys
from importlib import import_module

from crewrun_runner import lazy


def main() -> None:
    names: dict[str, list[str]] = {}
    if given := sys.stdin.read():
        lazy.install()
        names = {package: list(seen) for package, seen in json.loads(given).items()}
    else:
        for root in sys.argv[1:]:
            path = import_module(root).__path__
            packages = [name for _, name, is_package in pkgutil.walk_packages(path, f"{root}.") if is_package]
            for package in (root, *packages):
                names[package] = [name for name in dir(import_module(package)) if not name.startswith("_")]
    seen = {package: {name: what(package, name) for name in names[package]} for package in names}
    json.dump(seen, sys.stdout)


def what(package: str, name: str) -> str:
    return repr(getattr(import_module(package), name, "nothing"))


main()

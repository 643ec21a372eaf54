"""Packages whose `__init__` imports everything below it are opened name by name.

The SDKs of models describe the whole API of their provider, and importing one of their names imports all: more
than a thousand modules of which a crew uses a few dozen. Such an `__init__` holds nothing but `from .x import Y`.
It is read instead of run, and `x` is imported when somebody asks for `Y`. Whatever is used is the real thing, as
without this; a package that holds anything else is imported as always.
"""

import ast
import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

#: Where such packages are, and what a crew uses of them.
NAME_BY_NAME = {
    "openai.resources": "chat completions, of some 30 parts of the API",
    "openai.types": "chat completions, of some 1,000 modules with assistants, realtime sessions, administration ...",
}


class ByName(MetaPathFinder):
    """Asked before all other finders, for these packages and what is below them alone."""

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages = tuple(packages)
        self._below = tuple(f"{name}." for name in self._packages)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._packages and not fullname.startswith(self._below):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        # Only what Python itself would have done with the file is replaced.
        if spec is not None and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Python's own, but for an `__init__` that only re-exports."""

    def exec_module(self, module: ModuleType) -> None:
        source = ast.parse(self.get_data(self.path), self.path)
        exported = re_exports(source)
        if exported is None:
            super().exec_module(module)
        else:
            _open(module, exported)


def re_exports(source: ast.Module) -> dict[str, tuple[str, str]] | None:
    """The submodule and the name in it for each name, if the module has nothing but that. Pure."""
    exported: dict[str, tuple[str, str]] = {}
    modules = set()
    for statement in source.body:
        match statement:
            case ast.ImportFrom(module="__future__") | ast.Expr(value=ast.Constant()):
                pass
            case ast.ImportFrom(module=str(submodule), names=names, level=1):
                modules.add(submodule.partition(".")[0])
                exported |= {name.asname or name.name: (submodule, name.name) for name in names}
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List()):
                pass  # what the names are is known without it
            case _:
                return None
    # A name that is also a submodule means one or the other depending on who was imported first.
    return None if "*" in exported or modules & exported.keys() else exported


def _open(module: ModuleType, exported: dict[str, tuple[str, str]]) -> None:
    """What the module's `__init__` would have made of it, on demand."""

    def __getattr__(name: str) -> Any:
        package = module.__name__
        if name in exported:
            submodule, original = exported[name]
            value = getattr(import_module(f"{package}.{submodule}"), original)
            setattr(module, name, value)
            return value
        if not name.startswith("_"):  # all submodules would have been there
            try:
                return import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{package}.{name}":
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)

    names = sorted(exported)
    vars(module).update(__getattr__=__getattr__, __all__=names, __dir__=lambda: sorted({*vars(module), *names}))


def install() -> None:
    """From now on."""
    sys.meta_path.insert(0, ByName(NAME_BY_NAME))


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """A long import makes little garbage, and looking for it again and again takes an eighth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # modules stay: no later search needs to look at them
        gc.enable()

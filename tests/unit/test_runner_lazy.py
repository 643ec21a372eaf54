"""Packages that are opened name by name: what is used is there, what is not used is not loaded."""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from crewrun_runner.lazy import NAME_BY_NAME, ByName, re_exports

RE_EXPORTS: list[tuple[str, dict[str, tuple[str, str]] | None]] = [
    ("from .a import B", {"B": ("a", "B")}),
    ("from .a import B as B, c as D", {"B": ("a", "B"), "D": ("a", "c")}),
    ('"""Words."""\nfrom __future__ import annotations\nfrom .a.b import C', {"C": ("a.b", "C")}),
    ('from .a import B\n__all__ = ["B"]', {"B": ("a", "B")}),
    ("from .a import *", None),
    ("from .a import a", None),
    ("from .a import b\nfrom .b import c", None),
    ("from . import a", None),
    ("from ..a import B", None),
    ("from a import B", None),
    ("import a", None),
    ("from .a import B\nB.rebuild()", None),
    ("if True:\n    from .a import B", None),
    ("from .a import B\n__all__ = names()", None),
]


@pytest.mark.parametrize(("source", "want"), RE_EXPORTS, ids=[source for source, _ in RE_EXPORTS])
def test_only_a_package_that_does_nothing_but_re_export_is_read(
    source: str, want: dict[str, tuple[str, str]] | None
) -> None:
    assert re_exports(ast.parse(source)) == want


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An SDK of three modules, of which one cannot be imported, on the path and opened name by name."""
    folder = tmp_path / "sdk" / "types"
    folder.mkdir(parents=True)
    (tmp_path / "sdk/__init__.py").touch()
    (folder / "__init__.py").write_text(
        "from .chat import Chat as Chat\nfrom .beta import Beta\nfrom .bad import Bad\n"
    )
    (folder / "chat.py").write_text("class Chat: ...\n")
    (folder / "beta.py").write_text("class Beta: ...\nOTHER = 1\n")
    (folder / "bad.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [ByName(["sdk.types"]), *sys.meta_path])
    yield folder
    for name in [name for name in sys.modules if name == "sdk" or name.startswith("sdk.")]:
        del sys.modules[name]


def loaded() -> set[str]:
    return {name.removeprefix("sdk.types.") for name in sys.modules if name.startswith("sdk.types.")}


def test_a_name_brings_its_own_module_alone(package: Path) -> None:
    types = import_module("sdk.types")
    assert loaded() == set()
    assert types.Chat is import_module("sdk.types.chat").Chat
    assert types.Chat is vars(types)["Chat"]
    assert loaded() == {"chat"}


def test_every_way_to_a_name_leads_to_the_real_thing(package: Path) -> None:
    found: dict[str, object] = {}
    exec("from sdk.types import Beta, beta", found)
    exec("import sdk.types\nOTHER = sdk.types.beta.OTHER", found)
    assert (found["Beta"], found["OTHER"]) == (import_module("sdk.types.beta").Beta, 1)
    assert {"Bad", "Beta", "Chat"} <= set(dir(import_module("sdk.types")))


def test_a_submodule_is_an_attribute_although_nobody_imported_it(package: Path) -> None:
    assert import_module("sdk.types").beta.OTHER == 1


def test_a_name_that_is_not_there_is_an_attribute_error(package: Path) -> None:
    types = import_module("sdk.types")
    for name in ("Nothing", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'sdk.types' has no attribute '{name}'"):
            getattr(types, name)
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from sdk.types import Nothing")


def test_a_module_that_cannot_be_imported_says_why(package: Path) -> None:
    for name in ("Bad", "bad"):
        with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
            getattr(import_module("sdk.types"), name)


def test_a_star_import_takes_every_name(package: Path) -> None:
    (package / "__init__.py").write_text("from .chat import Chat\nfrom .beta import Beta\n")
    found: dict[str, object] = {}
    exec("from sdk.types import *", found)
    assert {"Chat", "Beta"} <= found.keys()


def test_a_package_that_does_more_is_imported_as_always(package: Path) -> None:
    (package / "__init__.py").write_text("from .chat import Chat\nMINE = Chat()\n")
    assert type(import_module("sdk.types").MINE).__name__ == "Chat"


def test_only_the_named_packages_are_looked_at() -> None:
    finder = ByName(NAME_BY_NAME)
    assert finder.find_spec("json") is None
    assert finder.find_spec("openai") is None
    assert finder.find_spec("openai.types_of_another_kind") is None

"""What goes into the images: the lists agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest

import excludes
import stage
from crewrun_runner import absent

ROOT = Path(__file__).resolve().parents[2]
LOCKED = re.compile(r"^([a-z0-9.-]+)==", re.MULTILINE)


def locked(requirements: str) -> set[str]:
    return set(LOCKED.findall((ROOT / requirements).read_text()))


def versions(requirements: str) -> set[tuple[str, str]]:
    """The packages for Linux, with their versions."""
    return set(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (ROOT / requirements).read_text(), re.MULTILINE))


def project() -> dict[str, list[str]]:
    """The extras of pyproject.toml."""
    extras: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return extras


def excluded() -> set[str]:
    lines = (ROOT / "runner-image/excludes.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("image", stage.IMAGES.values(), ids=stage.IMAGES)
def test_an_image_is_made_of_files_that_exist(image: stage.Image) -> None:
    assert (ROOT / image.dockerfile).is_file()
    assert all((ROOT / package / "__init__.py").is_file() for package in image.packages)
    assert locked(image.requirements)


def test_the_runner_has_crewai_and_nobody_else_has() -> None:
    assert "crewai" in locked("requirements/runner.txt")
    assert "crewai" not in locked("requirements/operator.txt") | locked("requirements/testing.txt")


def test_what_is_excluded_is_not_locked_and_fails_with_advice() -> None:
    assert not excluded() & locked("requirements/runner.txt")
    advised = {install for install, *_ in absent.LEFT_OUT.values()}
    assert {"chromadb", "instructor", "lancedb", "mcp", "openpyxl", "pdfplumber", "tokenizers"} <= advised
    assert not {name for name in advised if "[" not in name} & locked("requirements/runner.txt")


@pytest.mark.parametrize("extra", stage.EXTRAS)
def test_an_extra_has_what_the_runner_has_and_what_brings_it(extra: str) -> None:
    plain, more = versions("requirements/runner.txt"), versions(f"requirements/runner-{extra}.txt")
    assert plain < more
    left_out = {entry.install for entry in absent.LEFT_OUT.values() if entry.extra == extra}
    assert left_out, "a message of absent.py names each extra"
    required = project()[f"runner-{extra}"]
    assert not {name for name in required if "[" not in name} - {name for name, _ in more}
    named = {name for name in left_out if "[" in name} | {name for name in required if "[" in name}
    assert named <= {*required, "crewai[embeddings]"}, "tiktoken comes with crewai_tools"


def test_every_extra_that_a_message_names_is_an_image_and_a_target() -> None:
    assert {entry.extra for entry in absent.LEFT_OUT.values() if entry.extra} == set(stage.EXTRAS)
    assert f"EXTRAS := {' '.join(stage.EXTRAS)}\n" in (ROOT / "Makefile").read_text()
    assert {name.removeprefix("runner-") for name in project() if name.startswith("runner-")} == set(stage.EXTRAS)


def test_an_extra_is_excluded_no_longer() -> None:
    lines = ["# words", "lancedb", "mcp"]
    assert excludes.without(lines, ["lancedb>=0.33", "crewai[tools]"]) == ["# words", "mcp"]


@pytest.mark.parametrize("requirements", sorted({image.requirements for image in stage.IMAGES.values()}))
def test_a_lock_has_hashes_and_no_addresses(requirements: str) -> None:
    text = (ROOT / requirements).read_text()
    assert "://" not in text and "-index" not in text
    assert text.count("--hash=sha256:") >= len(locked(requirements))


def test_staging_does_not_empty_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert stage.main(["runner", "--python-version", "3.11", "--output", str(tmp_path)]) == 1
    assert (tmp_path / "precious").exists()


def test_the_documents_say_what_each_extra_brings() -> None:
    text = (ROOT / "docs/reference/images.md").read_text()
    for extra in stage.EXTRAS:
        assert f"| `crewrun-runner:dev-{extra}` |" in text
    rows = re.findall(r"^\| ([^|`]+) \| [^|]+ \|([^|]*)\|$", text, re.MULTILINE)
    said = {install: extra.strip() for installs, extra in rows for install in installs.split(", ")}
    for entry in absent.LEFT_OUT.values():
        assert said.get(entry.install) == entry.extra, entry.install

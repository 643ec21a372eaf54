"""What goes into the images: the lists agree with each other."""

import re
from pathlib import Path

import pytest

import stage
from crewrun_runner import absent

ROOT = Path(__file__).resolve().parents[2]
LOCKED = re.compile(r"^([a-z0-9.-]+)==", re.MULTILINE)


def locked(requirements: str) -> set[str]:
    return set(LOCKED.findall((ROOT / requirements).read_text()))


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
    advised = {install for install, _ in absent.LEFT_OUT.values()}
    assert {"chromadb", "instructor", "lancedb", "mcp", "openpyxl", "pdfplumber", "tokenizers"} <= advised
    assert not {name for name in advised if "[" not in name} & locked("requirements/runner.txt")


@pytest.mark.parametrize("requirements", sorted({image.requirements for image in stage.IMAGES.values()}))
def test_a_lock_has_hashes_and_no_addresses(requirements: str) -> None:
    text = (ROOT / requirements).read_text()
    assert "://" not in text and "-index" not in text
    assert text.count("--hash=sha256:") >= len(locked(requirements))


def test_staging_does_not_empty_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert stage.main(["runner", "--python-version", "3.11", "--output", str(tmp_path)]) == 1
    assert (tmp_path / "precious").exists()

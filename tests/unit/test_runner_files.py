"""Files of tasks: named as the task names them, redacted, and never one from elsewhere."""

import os
from pathlib import Path

import pytest

from crewrun_api.report import STORED_LIMIT_BYTES
from crewrun_runner.files import collect
from crewrun_runner.redaction import Redactor

SECRET = "sk-canary-4f1d77"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "out").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def names(home: Path, *paths: str) -> list[str]:
    return [file.name for file in collect(paths, str, home, home.parent / "tmp")]


def test_a_file_is_named_by_its_path_under_home_and_comes_once(home: Path) -> None:
    (home / "out/report.md").write_text("text")
    file, *more = collect(["out/report.md", str(home / "out/report.md"), "./out/../out/report.md"], str, home)
    assert (file.name, file.bytes, more) == ("out/report.md", 4, [])
    assert file.upload is not None and file.upload.content() == b"text"


def test_home_may_be_a_link(home: Path) -> None:
    (home / "report.md").write_text("text")
    link = home.parent / "link"
    link.symlink_to(home)
    assert names(link, "report.md", str(link / "report.md")) == ["report.md"]


def test_a_file_in_tmp_keeps_its_whole_path(home: Path) -> None:
    scratch = home.parent / "tmp"
    scratch.mkdir()
    (scratch / "report.md").write_text("text")
    assert names(home, str(scratch / "report.md")) == [str(scratch / "report.md")]


def test_what_is_missing_not_a_file_or_elsewhere_is_left_out(home: Path) -> None:
    (home.parent / "elsewhere").write_text("a mounted Secret")
    (home / "link").symlink_to(home.parent / "elsewhere")
    (home / "folder").symlink_to(home.parent)
    os.mkfifo(home / "pipe")
    elsewhere = ["link", "folder/elsewhere", "../elsewhere", str(home.parent / "elsewhere")]
    assert names(home, "missing", "out", "pipe", *elsewhere) == []


def test_a_name_that_the_contract_does_not_take_is_left_out(home: Path) -> None:
    deep = "/".join(["d" * 200] * 6)
    (home / deep).mkdir(parents=True)
    (home / deep / "file").write_text("x")
    assert names(home, f"{deep}/file") == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "latin-1"])
def test_secrets_are_masked_and_all_else_stays_byte_for_byte(home: Path, encoding: str) -> None:
    (home / "a").write_bytes("Größe 😀".encode(encoding, errors="ignore") + f" {SECRET}\r\n".encode() + b"\x00")
    (file,) = collect(["a"], Redactor([SECRET]), home)
    assert file.upload is not None
    want = "Größe 😀".encode(encoding, errors="ignore") + b" [redacted]\r\n\x00"
    assert (file.upload.content(), file.bytes) == (want, len(want))


def test_a_file_that_no_configmap_holds_comes_without_its_content(home: Path) -> None:
    (home / "huge").touch()
    os.truncate(home / "huge", 2**40)  # nobody may try to read it
    (home / "masked").write_bytes(SECRET[:-8].encode() + b"x" * (STORED_LIMIT_BYTES - 8))
    (home / "fits").write_bytes(b"x" * STORED_LIMIT_BYTES)
    huge, masked, fits = collect(["huge", "masked", "fits"], Redactor([SECRET[:-8]]), home)
    assert (huge.bytes, huge.upload) == (2**40, None)
    assert (masked.bytes, masked.upload) == (STORED_LIMIT_BYTES + 2, None)
    assert fits.upload is not None

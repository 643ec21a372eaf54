"""Files: those that tasks wrote with `output_file`, as the report takes them, and those of mounted Secrets."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from crewrun_api.report import STORED_LIMIT_BYTES, OutputFile, Upload

#: Where a runner may write besides its home.
SCRATCH = Path("/tmp")


def texts(folder: Path) -> Iterator[str]:
    """The texts in a mounted Secret. kubelet keeps each file once more in a folder that begins with two dots."""
    for path in sorted(folder.rglob("*")):
        if not path.relative_to(folder).parts[0].startswith("..") and path.is_file():
            with suppress(OSError, UnicodeDecodeError):
                yield path.read_text()


def collect(
    paths: Iterable[str], redact: Callable[[str], str], home: Path, scratch: Path = SCRATCH
) -> list[OutputFile]:
    """Each file once. One that is missing, cannot be read or lies elsewhere is left out: a link that a tool
    made must not carry a mounted Secret into a ConfigMap."""
    found: dict[str, OutputFile] = {}
    for given in paths:
        path = Path(given).resolve()
        if not any(path.is_relative_to(root.resolve()) for root in (home, scratch)) or not path.is_file():
            continue
        name = _name(given, home)
        try:
            found[name] = _file(name, path, redact)
        except (OSError, ValueError):  # ValueError: the contract takes no name that long
            continue
    return list(found.values())


def _name(given: str, home: Path) -> str:
    """As the task names it, so without following links."""
    path = Path(os.path.abspath(given))  # noqa: PTH100 - Path.absolute() keeps `..`
    for root in (home, home.resolve()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)


def _file(name: str, path: Path, redact: Callable[[str], str]) -> OutputFile:
    if (size := path.stat().st_size) > STORED_LIMIT_BYTES:
        return OutputFile(name=name, bytes=size)
    data = _redacted(path.read_bytes(), redact)
    kept = len(data) <= STORED_LIMIT_BYTES  # a mask may be longer than what it hides
    return OutputFile(name=name, bytes=len(data), upload=Upload.of(data) if kept else None)


def _redacted(data: bytes, redact: Callable[[str], str]) -> bytes:
    """CrewAI writes UTF-8. What a tool wrote instead stays byte for byte, but for a secret in ASCII."""
    for encoding in ("utf-8", "latin-1"):
        try:
            return redact(data.decode(encoding)).encode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes anything")

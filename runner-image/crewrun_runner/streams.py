"""Where the process writes: JSON lines of ours on stdout, everything else on stderr, nothing unredacted.

crewai and its libraries print to stdout as they please. The real stdout is kept aside for our lines, and file
descriptor 1 becomes a second stderr, so that even a child process cannot break the one-object-a-line contract.
"""

import io
import json
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from crewrun_runner import log_events
from crewrun_runner.log_events import EVENTS, Level
from crewrun_runner.payload import Execution
from crewrun_runner.redaction import Redactor

#: The order of the fields in a line. Unknown ones are refused: the schema is a contract.
FIELDS = tuple(log_events.FIELDS)

Log = Callable[..., None]


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC, milliseconds."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line(fields: dict[str, Any], redact: Redactor) -> bytes:
    """One event as one line of JSON; fields without a value are left out."""
    if unknown := fields.keys() - set(FIELDS):
        raise ValueError(f"not a field of a log line: {', '.join(sorted(unknown))}; see log_events.FIELDS")
    event = EVENTS.get(fields["event"])
    if event is None or event.level != fields["level"]:
        raise ValueError(f"not an event of the log: {fields['event']}, {fields['level']}; see log_events.EVENTS")
    ordered = {name: fields[name] for name in FIELDS if fields.get(name) not in (None, "")}
    return redact(json.dumps(ordered, ensure_ascii=False, default=str)).encode() + b"\n"


class RedactedText(io.TextIOBase):
    """A text stream over a file descriptor. Whole lines alone are written, so that no value is torn apart."""

    def __init__(self, descriptor: int, redact: Redactor) -> None:
        self._descriptor = descriptor
        self._redact = redact
        self._lock = threading.Lock()
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        with self._lock:
            done, newline, self._rest = (self._rest + text).rpartition("\n")
            if newline:
                write_all(self._descriptor, self._redact(done + newline).encode(errors="replace"))
        return len(text)

    def finish(self) -> None:
        """Write a last line that has no end."""
        with self._lock:
            rest, self._rest = self._rest, ""
            if rest:
                write_all(self._descriptor, self._redact(rest + "\n").encode(errors="replace"))


def write_all(descriptor: int, data: bytes) -> None:
    """A closed pipe loses log lines; it must not change how the run ends."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


class Streams:
    """The process's output, taken over for good. `alone` leaves stdout to the result."""

    def __init__(self, redact: Redactor, least: Level = Level.INFO, alone: bool = False) -> None:
        self._redact = redact
        self._least = least
        sys.stdout.flush()
        sys.stderr.flush()
        self._stdout = os.dup(1)
        self._lines = os.dup(2) if alone else self._stdout
        for descriptor in (self._stdout, self._lines):
            os.set_inheritable(descriptor, False)
        os.dup2(2, 1)
        self._other = RedactedText(2, redact)
        sys.stdout = sys.stderr = self._other

    def log(self, execution: Execution) -> Log:
        """A function that writes one event."""

        def write(event: str, level: str = "info", ts: str | None = None, **fields: Any) -> None:
            fields |= {"ts": ts or timestamp(), "level": level, "event": event}
            fields |= {"run": execution.run, "attempt": execution.attempt}
            data = line(fields, self._redact)
            if Level(level).passes(self._least):
                write_all(self._lines, data)

        return write

    def result(self, text: str) -> None:
        """The crew's result, for who runs it alone."""
        write_all(self._stdout, self._redact(text + "\n").encode())

    def finish(self) -> None:
        self._other.finish()

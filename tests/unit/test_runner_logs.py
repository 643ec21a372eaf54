"""The log's events, fields and levels, and what the page about them says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crewrun_runner.log_events import EVENTS, FIELDS, Level, least_level
from crewrun_runner.narrator import Narrator, shortened
from crewrun_runner.operations import Kind, Operation, Result
from crewrun_runner.redaction import Redactor
from crewrun_runner.streams import line

PAGE = (Path(__file__).parents[2] / "docs/reference/logs.md").read_text()
CODE = Path(__file__).parents[2] / "runner-image/crewrun_runner"


def table(heading: str) -> list[str]:
    """The rows of the table under a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^(\| `.*)$", section, re.MULTILINE)


def test_the_page_lists_every_event_with_its_level_and_no_other() -> None:
    assert table("Events") == [f"| `{name}` | {event.level} | {event.when} |" for name, event in EVENTS.items()]


def test_the_page_lists_every_field_and_no_other() -> None:
    assert table("Fields") == [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]


def test_whatever_the_crew_does_has_its_events() -> None:
    assert {f"{kind}_{how}" for kind in Kind for how in ("started", "completed", "failed")} <= EVENTS.keys()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"event": "task_begun", "level": "info"}, id="an event that is not listed"),
        pytest.param({"event": "task_started", "level": "error"}, id="another level than the table's"),
        pytest.param({"event": "task_started", "level": "info", "secret": "x"}, id="a field that is not listed"),
    ],
)
def test_what_is_not_listed_is_not_written(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="see log_events"):
        line(fields, Redactor())


def test_every_event_that_the_code_writes_is_listed_with_its_level() -> None:
    call = re.compile(r'\b_?log\(\s*"(\w+)"(?:,\s*level="(\w+)")?')
    written = {found for file in CODE.glob("*.py") for found in call.findall(file.read_text())}
    assert ("runner_started", "") in written
    listed = {(name, event.level) for name, event in EVENTS.items()}
    assert {(name, level or "info") for name, level in written} <= listed


@pytest.mark.parametrize(
    ("environ", "want_level", "want_complaint"),
    [
        ({}, Level.INFO, False),
        ({"LOG_LEVEL": ""}, Level.INFO, False),
        ({"LOG_LEVEL": "DEBUG"}, Level.DEBUG, False),
        ({"LOG_LEVEL": " Warning "}, Level.WARNING, False),
        ({"LOG_LEVEL": "error"}, Level.ERROR, False),
        ({"LOG_LEVEL": "CRITICAL"}, Level.INFO, True),
    ],
)
def test_the_level_is_the_variables(environ: dict[str, str], want_level: Level, want_complaint: bool) -> None:
    level, complaint = least_level(environ)
    assert (level, complaint is not None) == (want_level, want_complaint)


def test_levels_are_ordered() -> None:
    assert [level.passes(Level.WARNING) for level in Level] == [False, False, True, True]


START = datetime(2026, 1, 1, tzinfo=UTC)
OPERATION = Operation(Kind.TOOL, "s", "k", START, None, "report", "Writer", "", "search", {"arguments": "a secret"})


@pytest.mark.parametrize(
    ("result", "want_event", "want_fields"),
    [
        pytest.param({"from_cache": True}, "tool_completed", {"fromCache": True, "error": ""}, id="from the cache"),
        pytest.param({}, "tool_completed", {"fromCache": None, "durationSeconds": 1.5}, id="completed"),
        pytest.param({"error": "KeyError"}, "tool_failed", {"error": "KeyError", "level": "warning"}, id="failed"),
        pytest.param(
            {"texts": {"result": "a secret"}},
            "tool_completed",
            {"arguments": "a [redacted]", "result": "a [redacted]"},
            id="with texts",
        ),
    ],
)
def test_the_end_of_a_tool_is_one_line(result: dict[str, Any], want_event: str, want_fields: dict[str, Any]) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []
    narrator = Narrator(lambda event, **fields: lines.append((event, fields)), Redactor(["secret"]))
    narrator.ended(OPERATION, Result(START + timedelta(seconds=1.5), **result))
    ((event, fields),) = lines
    assert event == want_event
    assert {"task": "report", "agent": "Writer", "tool": "search", **want_fields}.items() <= fields.items()


def test_what_the_runner_prevents_has_no_line() -> None:
    lines: list[str] = []
    narrator = Narrator(lambda event, **_: lines.append(event), Redactor())
    narrator.ended(OPERATION, Result(START, error="HookAborted", prevented=True))
    assert not lines


def test_a_long_text_keeps_its_beginning_and_says_how_long_it_was() -> None:
    assert shortened("é" * 2048) == "é" * 2048
    assert shortened("é" * 2049) == "é" * 2048 + " ... [cut: 4098 bytes in all]"

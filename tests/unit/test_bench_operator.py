"""The benchmark's own arithmetic: what an audit log says, and which limits the figures break."""

import json
from typing import Any

import pytest

from tests.bench.operator.audit import percentile, seen
from tests.bench.operator.report import BEGIN, END, broken, put, section


def event(
    verb: str, resource: str, name: str, seconds: float, agent: str = "us", code: int = 200, sub: str = ""
) -> str:
    target = {"resource": resource, "name": name, "namespace": "bench", **({"subresource": sub} if sub else {})}
    at = f"2026-01-01T00:00:{seconds:09.6f}Z"
    status = {"code": code}
    return json.dumps(
        {"verb": verb, "objectRef": target, "userAgent": agent, "stageTimestamp": at, "responseStatus": status}
    )


LOG = [
    event("create", "crewruns", "r-1", 1, "a client", 201),
    event("list", "crewprofiles", "", 1.001),
    event("patch", "crewruns", "r-1", 1.004, sub="status"),
    event("create", "jobs", "r-1-0f3ab-1", 1.0125, code=201),
    event("create", "jobs", "r-1-0f3ab-1", 1.5, code=409),
    event("create", "jobs", "r-2-0f3ab-1", 2, code=201),
    event("watch", "jobs", "", 9),
    event("patch", "crewruns", "r-1", 3, "somebody else"),
    json.dumps({"verb": "get", "userAgent": "us"}),
]


def test_an_audit_log_tells_reads_writes_and_how_soon_a_job_is_there() -> None:
    found = seen(LOG, "us", "bench")
    assert (found.reads, found.writes, found.latencies) == (1, 4, [12.5])
    assert found.by_kind == {"list crewprofiles": 1, "patch crewruns/status": 1, "create jobs": 3}
    assert seen(LOG, "us", "other").writes == 0
    assert seen(LOG, "us").writes == 4


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile([5, 1, 3, 2, 4], part) for part in (0, 0.5, 0.99, 1)] == [1, 3, 5, 5]


ROUNDS = {
    "10 runs at once": {
        "CrewRun": [{"runs per second": 9.0}, {"runs per second": 8.0}, {"runs per second": 20.0}],
        "oracle": [{"runs per second": 10.0}],
    }
}
LIMITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "kept": ({"10 runs at once": {"runs per second": {"least": 9}}}, []),
    "too slow": (
        {"10 runs at once": {"runs per second": {"least": 9.5}}},
        ["10 runs at once: runs per second: 9.00 is less than 9.5"],
    ),
    "too much": (
        {"10 runs at once": {"runs per second": {"most": 8}}},
        ["10 runs at once: runs per second: 9.00 is more than 8"],
    ),
    "a ratio to the oracle": (
        {"10 runs at once": {"ratio: runs per second": {"least": 0.95}}},
        ["10 runs at once: ratio: runs per second: 0.90 is less than 0.95"],
    ),
    "not measured": ({"idle": {"writes": {"most": 0}}}, ["idle: writes: not measured"]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is(name: str) -> None:
    limits, want_lines = LIMITS[name]
    assert list(broken(ROUNDS, limits)) == want_lines


def test_the_figures_are_a_section_of_the_page_that_replaces_itself() -> None:
    text = section(ROUNDS, "2 cores")
    assert "| runs per second | 9.00 (8.00 to 20.00) | 10.00 |" in text and "Rounds: 1, 3." in text
    page = put(put("# Benchmarks\n\nother\n", text), text)
    assert page.count(BEGIN) == page.count(END) == 1 and page.startswith("# Benchmarks\n\nother\n")

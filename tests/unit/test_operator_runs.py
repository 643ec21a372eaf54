"""Runs that have ended are kept packed, and read as they were."""

from typing import Any

import pytest

from crewrun_api.reasons import Phase
from crewrun_api.run import RunStatus
from crewrun_operator.runs import Runs
from crewrun_operator.status import settle
from tests.unit.builders import NOON, RunBuilder

KEY = ("team-a", "report")


def a_run(phase: Phase | None, version: int = 7, **spec: Any) -> dict[str, Any]:
    status = settle(RunStatus(), phase, "R", "m", NOON, 1) if phase else RunStatus()
    return RunBuilder().spec(**spec).status(status).at(version).build()


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"more": document}
    return document


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_run_is_read_as_it_was_put(phase: Phase | None) -> None:
    runs, run = Runs(), a_run(phase, note="ü")
    runs.put(run)
    assert runs[KEY] == run
    brief = runs.brief(KEY)
    assert brief is not None
    assert (brief.uid, brief.version, brief.phase) == (run["metadata"]["uid"], 7, phase or "")
    assert [key for key, _ in runs.open()] == ([] if phase and phase.ended else [KEY])
    assert len(runs) == 1 and list(runs) == [KEY]


@pytest.mark.parametrize("odd", [nested(400), {"number": 2**80}], ids=["nested deeply", "a large number"])
def test_what_nobody_can_pack_fast_is_packed_all_the_same(odd: dict[str, Any]) -> None:
    runs, run = Runs(), a_run(Phase.CANCELLED, inputs=odd)
    runs.put(run)
    assert runs[KEY] == run


def test_a_run_that_is_run_again_is_open_and_one_that_is_dropped_is_unknown() -> None:
    runs = Runs()
    runs.put(a_run(Phase.SUCCEEDED))
    runs.put(a_run(Phase.STARTING, version=8))
    assert (runs.going, [key for key, _ in runs.open()]) == (1, [KEY])
    runs.put(a_run(Phase.FAILED, version=9))
    assert (runs.going, list(runs.open())) == (0, [])
    runs.drop(KEY)
    assert KEY not in runs and runs.brief(KEY) is None and len(runs) == 0

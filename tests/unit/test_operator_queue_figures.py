"""What the gauges of a queue say."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus, RunStatus, WindowStatus
from crewrun_operator.metrics import Metrics
from crewrun_operator.store import Store
from crewrun_operator.times import stamp
from tests.unit.builders import DEFAULTS, NOON, RunBuilder

QUEUE = {"namespace": "team-a", "queue": "nightly"}
BUDGET = {"window": "Day", "maxCostUSD": "10", "maxTokens": 1_000}
MIDNIGHT = "2026-03-01T00:00:00Z"


def manifest(version: int = 1, **spec: Any) -> dict[str, Any]:
    made = {"creationTimestamp": MIDNIGHT, "generation": version, "resourceVersion": str(version)}
    return {"metadata": {"namespace": "team-a", "name": "nightly", "uid": "q", **made}, "spec": spec}


def run(name: str, phase: Phase, **fields: Any) -> dict[str, Any]:
    status = RunStatus(phase=phase, queue="nightly", **fields)
    return RunBuilder().metadata(name=name, uid=name, creationTimestamp=MIDNIGHT).status(status).build()


def attempt(outcome: Outcome | None = None) -> list[AttemptStatus]:
    reason = Reason.COMPLETED if outcome else None
    return [AttemptStatus(number=1, job="job-1", outcome=outcome, reason=reason)]


def a_store(**spec: Any) -> Store:
    """Two runs wait, the first for a minute and a half; one holds a place; one has ended and spent something."""
    store = Store(DEFAULTS)
    spent = WindowStatus(start=MIDNIGHT, cost_usd=2_500_000, total_tokens=900)
    store.put_queue(manifest(**spec))
    for each in (
        run("first", Phase.QUEUED, queue_time=stamp(NOON - timedelta(seconds=90))),
        run("second", Phase.QUEUED, queue_time=stamp(NOON - timedelta(seconds=30))),
        run("holds", Phase.RUNNING, attempts=attempt(), attempt_count=1),
        run("ended", Phase.SUCCEEDED, attempts=attempt(Outcome.SUCCEEDED), attempt_count=1, window=spent),
    ):
        store.put_run(each)
    store.queues.admit(NOON)
    return store


def shown(store: Store, metrics: Metrics | None = None) -> dict[str, float]:
    """The gauges of the queue, by what their names say."""
    metrics = metrics or Metrics()
    metrics.look(store, NOON)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    ours = [each for each in samples if each.name.startswith("crewrun_queue_") and each.labels == QUEUE]
    return {each.name.removeprefix("crewrun_queue_"): each.value for each in ours}


PLAIN = {"pending_runs": 2, "running_runs": 1, "oldest_wait_seconds": 90, "active": 1}


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"maxConcurrentRuns": 1}, {**PLAIN, "max_concurrent_runs": 1}),
        ({}, {"pending_runs": 0, "running_runs": 3, "oldest_wait_seconds": 0, "active": 1}),
        (
            {"maxConcurrentRuns": 2},
            {**PLAIN, "pending_runs": 1, "running_runs": 2, "oldest_wait_seconds": 30, "max_concurrent_runs": 2},
        ),
        ({"stopPolicy": "Hold"}, {**PLAIN, "active": 0}),
        ({"maxConcurrentRuns": "many"}, {**PLAIN, "active": 0}),
    ],
    ids=["full", "without a bound", "with a free place", "stopped", "with a spec that nobody understands"],
)
def test_a_queue_tells_who_waits_and_who_runs(spec: dict[str, Any], want: dict[str, float]) -> None:
    assert shown(a_store(**spec)) == want


@pytest.mark.parametrize(
    ("budget", "want"),
    [
        (BUDGET, {"budget_usd": 10, "budget_tokens": 1_000, "active": 1}),
        ({"window": "Day", "maxCostUSD": "2.5"}, {"budget_usd": 2.5, "active": 0}),
        ({"window": "Day", "maxTokens": 900}, {"budget_tokens": 900, "active": 0}),
    ],
    ids=["that lasts", "of USD that is spent", "of tokens that is spent"],
)
def test_a_queue_tells_what_was_spent_of_a_budget(budget: dict[str, Any], want: dict[str, float]) -> None:
    told = shown(a_store(maxConcurrentRuns=1, budget=budget))
    want = {**PLAIN, "max_concurrent_runs": 1, "spent_usd": 2.5, "spent_tokens": 900, **want}
    assert told == want


def test_a_queue_that_is_gone_is_no_longer_told() -> None:
    store, metrics = a_store(), Metrics()
    assert shown(store, metrics)
    store.drop_queue(manifest(2))
    assert shown(store, metrics) == {}

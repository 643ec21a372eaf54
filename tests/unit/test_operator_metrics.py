"""Metrics and request labels: bounded, whatever is asked and whoever asks."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crewrun_api.outcome import ModelUsage, Usage
from crewrun_api.reasons import Outcome, Phase, Reason, TaskState
from crewrun_api.run import AttemptStatus, CrewStatus, RunStatus, TaskStatus
from crewrun_operator import paths
from crewrun_operator.api import resource_of
from crewrun_operator.families import FAMILIES, LABELS, MOST_MODELS, MOST_NAMESPACES, Family, Kind
from crewrun_operator.metrics import Bounded, Metrics, exemplar_of
from crewrun_operator.runs import Brief, Key, Runs
from crewrun_operator.store import Store
from tests.unit.builders import DEFAULTS, NOON, RunBuilder


@pytest.mark.parametrize(
    ("path", "want_resource"),
    [
        (paths.custom(paths.CREWRUNS), "crewruns"),
        (paths.custom(paths.CREWRUNS, "team-a", "report"), "crewruns"),
        (paths.run_status("team-a", "report"), "crewruns/status"),
        (paths.jobs(), "jobs"),
        (paths.jobs("team-a", "report-0f3ab-1"), "jobs"),
        (paths.pods("team-a"), "pods"),
        (paths.events("team-a"), "events"),
        ("/api/v1/namespaces/team-a", "other"),
        ("/api", "other"),
        ("/", "other"),
        ("", "other"),
    ],
)
def test_a_request_is_counted_by_its_resource(path: str, want_resource: str) -> None:
    assert resource_of(path) == want_resource


@given(name=st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,50}[a-z0-9])?", fullmatch=True))
def test_no_name_makes_a_label_of_its_own(name: str) -> None:
    made = (
        paths.custom(paths.CREWS, name, name),
        paths.run_status(name, name),
        paths.jobs(name, name),
        paths.pods(name, name),
    )
    assert [resource_of(path) for path in made] == ["crews", "crewruns/status", "jobs", "pods"]


def of(phase: Phase | None, namespace: str = "team-a") -> RunBuilder:
    return RunBuilder().metadata(namespace=namespace).status(RunStatus(phase=phase))


def shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    (family,) = list(metrics.runs.collect())
    return {(each.labels["namespace"], each.labels["phase"]): each.value for each in family.samples}


def briefs(*manifests: dict[str, Any]) -> Iterator[tuple[Key, Brief]]:
    runs = Runs()
    for number, manifest in enumerate(manifests):
        runs.put({**manifest, "metadata": {**manifest["metadata"], "name": f"r-{number}"}})
    return runs.briefs()


def test_runs_are_counted_by_namespace_and_phase() -> None:
    metrics = Metrics()
    unseen = RunBuilder().build()
    del unseen["status"]
    runs = [of(Phase.RUNNING), of(Phase.RUNNING), of(Phase.FAILED, "team-b"), of(None)]
    metrics.count_runs(briefs(unseen, *(run.build() for run in runs)))
    counts = shown(metrics)
    assert {labels: count for labels, count in counts.items() if count} == {
        ("team-a", "Running"): 2,
        ("team-a", "Unseen"): 2,
        ("team-b", "Failed"): 1,
    }
    assert len(counts) == 2 * (len(Phase) + 1), "a phase that no run has is 0, not absent"


def test_a_namespace_without_runs_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.count_runs(briefs(of(Phase.RUNNING).build()))
    metrics.count_runs([])
    assert shown(metrics) == {}


def a_queue(name: str, **spec: Any) -> dict[str, Any]:
    made = {"uid": f"uid-{name}", "creationTimestamp": "2026-03-01T12:00:00Z"}
    return {"metadata": {"namespace": "team-a", "name": name, "generation": 1, **made}, "spec": spec}


def used(model: str, tokens: int) -> RunStatus:
    each = ModelUsage(model=model, requests=1, prompt_tokens=tokens, cost_usd=tokens)
    usage = Usage(requests=1, prompt_tokens=tokens, total_tokens=tokens, cost_usd=tokens, by_model=[each])
    return RunStatus(crew=CrewStatus(name="research", uid="c0c0c0c0", digest="sha256:00"), usage=usage)


def a_life(metrics: Metrics, name: str = "report") -> None:
    """A run that fails once, goes on, and succeeds: there is no metric about runs that it does not touch."""
    number = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)
    failed = AttemptStatus(number=1, job=f"{name}-1", outcome=Outcome.FAILED, reason=Reason.TASK_FAILED)
    evicted = failed.model_copy(update={"number": 2, "reason": Reason.EVICTED})
    last = failed.model_copy(update={"number": 3, "outcome": Outcome.SUCCEEDED, "reason": Reason.COMPLETED})
    times = {"start_time": "2026-03-01T12:00:00Z", "completion_time": "2026-03-01T12:00:09Z"}
    first, second, third = (
        each.model_copy(update={**times, "running_time": times["start_time"]}) for each in (failed, evicted, last)
    )
    third = third.model_copy(update={"resumed_from_task": "report"})
    tasks = [
        TaskStatus(name="facts", state=TaskState.SUCCEEDED, attempt=1, total_tokens=5, **times),
        TaskStatus(name="report", state=TaskState.SUCCEEDED, attempt=3, total_tokens=6, **times),
    ]
    status = used("openai/gpt-4o", 11).model_copy(update={"queue": "nightly"})
    lives = [
        RunStatus(queue="nightly"),
        status.model_copy(update={"phase": Phase.BACKING_OFF, "attempts": [first], "counted_attempts": 1}),
        status.model_copy(update={"phase": Phase.BACKING_OFF, "attempts": [first, second], "disruptions": 1}),
        status.model_copy(
            update={"phase": Phase.SUCCEEDED, "attempts": [first, second, third], "tasks": tasks, **times}
        ),
    ]
    uid = f"{number:08}-1111-4111-8111-111111111111"
    made = {"name": name, "uid": uid, "creationTimestamp": "2026-03-01T12:00:00Z"}
    for before, after in pairwise(lives):
        old, new = (RunBuilder().metadata(**made).status(each).build() for each in (before, after))
        metrics.changed(old, new)


def scraped(metrics: Metrics, store: Store) -> list[Metric]:
    """What Prometheus reads."""
    metrics.look(store, NOON)
    text = generate_latest(metrics.registry).decode()
    return [each for each in text_string_to_metric_families(text) if each.name.startswith("crewrun_")]


def everything_is_counted() -> tuple[Metrics, Store]:
    metrics, store = Metrics("1.0"), Store(DEFAULTS)
    for name in ("report", "a-name-of-its-own"):
        a_life(metrics, name)
        store.put_run(
            RunBuilder().metadata(name=name, uid=f"uid-{name}").status(RunStatus(phase=Phase.STARTING)).build()
        )
    budget = {"window": "Day", "maxCostUSD": "10", "maxTokens": 1_000}
    store.put_queue(a_queue("nightly", maxConcurrentRuns=20, budget=budget))
    metrics.requests.labels("GET", "jobs", "200").inc()
    metrics.reports.labels("200").inc()
    metrics.watch_age.labels("jobs").set(1)
    return metrics, store


def test_every_metric_is_one_of_the_table_with_its_type_and_labels() -> None:
    found = scraped(*everything_is_counted())
    for family in FAMILIES:
        (shown,) = [each for each in found if each.name == family.name.removesuffix("_total")]
        labels = {label for sample in shown.samples for label in sample.labels} - {"le"}
        assert (shown.type, shown.documentation, labels) == (family.kind, family.meaning, {*family.labels}), family.name
    names = {each.name for each in found if not each.name.endswith("_created")}
    assert names == {family.name.removesuffix("_total") for family in FAMILIES}


def test_every_label_is_one_that_is_bounded_and_none_carries_a_runs_name_or_uid() -> None:
    samples = [sample for family in scraped(*everything_is_counted()) for sample in family.samples]
    assert {label for sample in samples for label in sample.labels} <= {*LABELS, "le"}
    values = {value for sample in samples for value in sample.labels.values()}
    assert not [value for value in values if "report" in value or "a-name-of-its-own" in value or "uid" in value]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_has_a_name_by_the_conventions_and_a_meaning(family: Family) -> None:
    assert re.fullmatch(r"crewrun_[a-z_]+", family.name)
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
    assert family.kind is not Kind.HISTOGRAM or (family.name.endswith("_seconds") and family.buckets)
    assert family.meaning[0].isupper() and family.meaning.endswith(".")
    assert {*family.labels} <= LABELS.keys()


def test_more_names_than_are_kept_become_one() -> None:
    bounded = Bounded(2)
    shown = [bounded.label(name) for name in ("a", "b", "c", "a", "d")]
    assert shown == ["a", "b", "other", "a", "other"]
    assert Bounded(1).label("a", "within") == "a"


def test_models_and_namespaces_that_people_invent_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MOST_NAMESPACES + 5):
        namespace = {"namespace": f"team-{number}"}
        before = RunBuilder().metadata(**namespace).build()
        metrics.changed(before, RunBuilder().metadata(**namespace).status(used(f"model-{number}", 1)).build())
    for number in range(MOST_MODELS):
        metrics.changed(RunBuilder().build(), RunBuilder().status(used(f"invented-{number}", 1)).build())
    (tokens,) = [each for each in metrics.registry.collect() if each.name == "crewrun_tokens"]
    labels = [sample.labels for sample in tokens.samples if sample.name == "crewrun_tokens_total"]
    assert len({each["namespace"] for each in labels}) == MOST_NAMESPACES + 1
    assert len(labels) <= MOST_MODELS + MOST_NAMESPACES
    assert sum(s.value for s in tokens.samples if s.name.endswith("_total")) == MOST_NAMESPACES + 5 + MOST_MODELS


def test_a_name_in_a_spec_leads_to_no_other_path() -> None:
    assert paths.custom(paths.CREWS, "team-a", "../../secrets/keys").endswith("/crews/..%2F..%2Fsecrets%2Fkeys")


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("traceparent", "want"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", {"trace_id": TRACE}),
        (f"00-{TRACE}-00f067aa0ba902b7-00", None),
        ("00-no-trace-01", None),
        (None, None),
    ],
    ids=["sampled", "not sampled", "no trace", "no annotation"],
)
def test_a_duration_names_the_trace_that_its_run_is_a_part_of(
    traceparent: str | None, want: dict[str, str] | None
) -> None:
    annotations = {"crewrun.dev/traceparent": traceparent} if traceparent else {}
    assert exemplar_of(RunBuilder().metadata(annotations=annotations).build()) == want

"""Metrics and request labels: bounded, whatever is asked and whoever asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from crewrun_api.reasons import Phase
from crewrun_api.run import RunStatus
from crewrun_operator import paths
from crewrun_operator.api import resource_of
from crewrun_operator.metrics import Metrics
from tests.unit.builders import RunBuilder


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


def test_runs_are_counted_by_namespace_and_phase() -> None:
    metrics = Metrics()
    unseen = RunBuilder().build()
    del unseen["status"]
    runs = [of(Phase.RUNNING), of(Phase.RUNNING), of(Phase.FAILED, "team-b"), of(None)]
    metrics.count_runs([unseen, *(run.build() for run in runs)])
    counts = shown(metrics)
    assert {labels: count for labels, count in counts.items() if count} == {
        ("team-a", "Running"): 2,
        ("team-a", "Unseen"): 2,
        ("team-b", "Failed"): 1,
    }
    assert len(counts) == 2 * (len(Phase) + 1), "a phase that no run has is 0, not absent"


def test_a_namespace_without_runs_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.count_runs([of(Phase.RUNNING).build()])
    metrics.count_runs([])
    assert shown(metrics) == {}


def test_metrics_keep_their_names_and_never_carry_a_runs() -> None:
    metrics = Metrics()
    metrics.count_runs([of(Phase.RUNNING).build()])
    metrics.attempts.labels("Failed", "TaskFailed").inc()
    metrics.requests.labels("GET", "jobs", "200").inc()
    text = generate_latest(metrics.registry).decode()
    for want_name in (
        'crewrun_runs{namespace="team-a",phase="Running"} 1.0',
        'crewrun_attempts_total{outcome="Failed",reason="TaskFailed"} 1.0',
        'crewrun_api_requests_total{code="200",resource="jobs",verb="GET"} 1.0',
        "crewrun_reconcile_duration_seconds_bucket",
        "crewrun_reconcile_errors_total",
        "crewrun_workqueue_depth",
        "crewrun_workqueue_oldest_seconds",
    ):
        assert want_name in text
    assert '"report"' not in text, "the name of that run"


def test_a_name_in_a_spec_leads_to_no_other_path() -> None:
    assert paths.custom(paths.CREWS, "team-a", "../../secrets/keys").endswith("/crews/..%2F..%2Fsecrets%2Fkeys")

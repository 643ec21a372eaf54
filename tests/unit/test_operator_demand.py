"""What runs request of the cluster, by where they stand and the nodes that they want."""

from typing import Any

import pytest

from crewrun_api.reasons import ConditionType, Phase
from crewrun_api.run import RunStatus
from crewrun_operator.demand import Sum, demand, request_of, state_of
from crewrun_operator.metrics import Metrics
from crewrun_operator.status import with_condition
from crewrun_operator.store import Store
from crewrun_operator.views import PodRequest, job_view, pod_request
from tests.unit.builders import DEFAULTS, NOON, CrewBuilder, JobBuilder, ProfileBuilder, RunBuilder, a_payload

SMALL = {"resources": {"requests": {"cpu": "250m", "memory": "256Mi"}}}
ON_SSD = {**SMALL, "nodeSelector": {"zone": "a", "disk": "ssd"}}


def accepted(phase: Phase, value: str = "True") -> RunStatus:
    return with_condition(RunStatus(phase=phase), ConditionType.ACCEPTED, value, "Valid", "", NOON, 1)


@pytest.mark.parametrize(
    ("status", "want_state"),
    [
        (RunStatus(), None),
        (accepted(Phase.PENDING), "waiting"),
        (accepted(Phase.PENDING, "False"), None),
        (RunStatus(phase=Phase.PENDING), None),
        (accepted(Phase.QUEUED), "waiting"),
        (accepted(Phase.BACKING_OFF), "waiting"),
        (accepted(Phase.STARTING), "starting"),
        (accepted(Phase.RUNNING), "running"),
        (accepted(Phase.CANCELLING), "running"),
        (accepted(Phase.SUSPENDED), None),
        (accepted(Phase.SUCCEEDED), None),
        (accepted(Phase.FAILED), None),
        (accepted(Phase.CANCELLED), None),
    ],
)
def test_a_run_wants_a_pod_while_it_is_accepted_and_has_not_ended(status: RunStatus, want_state: str | None) -> None:
    assert state_of(RunBuilder().status(status).build()) == want_state


@pytest.mark.parametrize(
    ("containers", "selector", "want_request"),
    [
        ([], None, PodRequest()),
        ([SMALL], {}, PodRequest(0.25, 256 * 2**20)),
        ([SMALL, SMALL], {"b": "2", "a": "1"}, PodRequest(0.5, 512 * 2**20, "a=1,b=2")),
        ([{"resources": {"limits": {"cpu": 2, "memory": "1G"}}}], None, PodRequest(2.0, 10**9)),
        ([{"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1.5"}}}], None, PodRequest(1.5)),
        ([{"resources": {"requests": {"cpu": "lots", "memory": "NaN"}}}], None, PodRequest()),
        ([{"resources": None}], None, PodRequest()),
        ([{"resources": {"limits": ["1"], "requests": "2"}}], None, PodRequest()),
    ],
)
def test_requests_are_read_as_kubernetes_reads_them(
    containers: list[dict[str, Any]], selector: dict[str, str] | None, want_request: PodRequest
) -> None:
    assert pod_request(containers, selector) == want_request


def test_the_job_of_a_run_says_what_it_requests() -> None:
    view = job_view(JobBuilder(payload=a_payload(pod=ON_SSD)).build())
    assert view is not None
    assert view.request == PodRequest(0.25, 256 * 2**20, "disk=ssd,zone=a")


def a_store(*runs: dict[str, Any]) -> Store:
    store = Store({"pod": {**DEFAULTS["pod"], **SMALL}})
    store.put_crew(CrewBuilder().build())
    store.put_profile(ProfileBuilder().spec(default=True, pod={"nodeSelector": {"disk": "ssd"}}).build())
    for run in runs:
        store.put_run(run)
    return store


@pytest.mark.parametrize(
    ("spec", "want_request"),
    [
        ({}, PodRequest(0.25, 256 * 2**20, "disk=ssd")),
        ({"pod": {"nodeSelector": {"zone": "a"}}}, PodRequest(0.25, 256 * 2**20, "disk=ssd,zone=a")),
        ({"pod": {"resources": {"limits": {"cpu": 1}}}}, PodRequest(1.0, 0, "disk=ssd")),
        ({"profile": "missing"}, PodRequest(0.25, 256 * 2**20)),
    ],
    ids=["by profile and defaults", "by the run too", "by the run instead", "by a profile that is not there"],
)
def test_a_run_without_a_job_requests_what_its_sources_say(spec: dict[str, Any], want_request: PodRequest) -> None:
    store = a_store(RunBuilder().spec(**spec).build())
    observed = store.observe(("team-a", "report"))
    assert observed is not None
    assert request_of(observed, {}) == want_request


def test_the_newest_job_counts_whatever_the_sources_say_meanwhile() -> None:
    run = RunBuilder().build()
    store = a_store(run)
    for attempt, cpu in ((1, "1"), (2, "3")):
        payload = a_payload(pod={"resources": {"requests": {"cpu": cpu}}})
        store.put_job(JobBuilder(run, attempt, payload).build())
    observed = store.observe(("team-a", "report"))
    assert observed is not None
    assert request_of(observed, {}).cores == 3


def test_runs_are_summed_by_state_and_node_selector() -> None:
    phases = {"a": Phase.RUNNING, "b": Phase.RUNNING, "c": Phase.STARTING, "d": Phase.SUCCEEDED}
    runs = [
        RunBuilder().metadata(name=name, uid=name).status(accepted(phase)).build() for name, phase in phases.items()
    ]
    store = a_store(*runs)
    seen = [(str(state_of(run)), observed) for key, run in store.runs.items() if (observed := store.observe(key))]
    sums = demand([each for each in seen if each[0] != "None"], lambda selector: selector or "none")
    mebi = 2**20
    assert sums == {
        ("running", ("team-a", "", "disk=ssd")): Sum(0.5, 512 * mebi, 2),
        ("starting", ("team-a", "", "disk=ssd")): Sum(0.25, 256 * mebi, 1),
    }


def test_what_nothing_asks_for_any_more_is_shown_as_nothing() -> None:
    metrics = Metrics()

    def pods(state: str, selector: str, namespace: str = "") -> float | None:
        labels = {"state": state, "node_selector": selector, "namespace": namespace, "queue": ""}
        return metrics.registry.get_sample_value("crewrun_demand_pods", labels)

    store = a_store(RunBuilder().status(accepted(Phase.RUNNING)).build())
    metrics.look(store, NOON)
    assert pods("running", "disk=ssd", "team-a") == 1
    assert pods("waiting", "") == 0, "who scales by it must not have to wait for a first run"
    store.put_run(RunBuilder().at(9).status(accepted(Phase.SUCCEEDED)).build())
    metrics.look(store, NOON)
    assert pods("running", "disk=ssd", "team-a") == 0


def test_node_selectors_are_bounded() -> None:
    def run(number: int) -> dict[str, Any]:
        own = RunBuilder().spec(pod={"nodeSelector": {"n": str(number)}}).metadata(name=f"r{number}", uid=f"u{number}")
        return own.status(accepted(Phase.QUEUED)).build()

    metrics = Metrics()
    metrics.look(a_store(*map(run, range(60))), NOON)
    (family,) = [each for each in metrics.registry.collect() if each.name == "crewrun_demand_pods"]
    waiting = {s.labels["node_selector"]: s.value for s in family.samples if s.labels["state"] == "waiting"}
    assert (len(waiting), waiting["other"], sum(waiting.values())) == (52, 10, 60)


def test_zeros_are_shown_of_the_newest_combinations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crewrun_operator.families.MOST_ZEROS", 2)
    metrics, store = Metrics(), Store(DEFAULTS)

    def shown(version: int, phase: Phase, *namespaces: str) -> set[str]:
        for name in namespaces:
            run = RunBuilder().at(version).metadata(namespace=name, uid=name, creationTimestamp="2026-03-01T12:00:00Z")
            store.put_run(run.status(accepted(phase)).build())
        metrics.look(store, NOON)
        (family,) = [each for each in metrics.registry.collect() if each.name == "crewrun_demand_pods"]
        return {sample.labels["namespace"] for sample in family.samples}

    assert shown(1, Phase.RUNNING, "a", "b", "c") == {"", "a", "b", "c"}, "what is asked for is always shown"
    assert len(shown(2, Phase.SUCCEEDED, "a", "b", "c")) == 2
    assert shown(3, Phase.RUNNING, "a") > {"a"}

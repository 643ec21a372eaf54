"""The store: the newest wins, what is gone stays gone, and only those who care are woken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewrun_api.reasons import Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator import paths
from crewrun_operator.observed import Observed, Refusal
from crewrun_operator.runs import Key
from crewrun_operator.status import settle
from crewrun_operator.store import Changed, Store
from tests.unit.builders import (
    DEFAULTS,
    NOON,
    RUN_UID,
    CrewBuilder,
    JobBuilder,
    PodBuilder,
    ProfileBuilder,
    RecordBuilder,
    RunBuilder,
    pod_uid,
)

KEY = ("team-a", "report")
RECORD = RecordBuilder().text()


def a_store(*, run: RunBuilder | None = None) -> Store:
    store = Store(DEFAULTS)
    store.put_run((run or RunBuilder()).build())
    return store


def seen(store: Store) -> Observed:
    observed = store.observe(KEY)
    assert observed is not None
    return observed


def ended_run(version: int = 50) -> dict[str, Any]:
    return RunBuilder().status(settle(RunStatus(), Phase.SUCCEEDED, "R", "m", NOON, 1)).at(version).build()


@given(st.permutations([3, 7, 9, 12]))
def test_the_newest_version_wins_in_any_order(versions: list[int]) -> None:
    store = Store(DEFAULTS)
    for version in versions:
        store.put_run(RunBuilder().spec(priority=version).at(version).build())
        store.put_job(JobBuilder(attempt=1).at(version).build())
        store.put_pod(PodBuilder().at(version).build())
        store.put_crew(CrewBuilder().spec(maxRPM=version).at(version).build())
    observed = seen(store)
    assert observed.run["spec"]["priority"] == 12
    assert observed.jobs[1].id.version == observed.pods[0].id.version == 12
    assert observed.crew is not None and observed.crew["spec"]["maxRPM"] == 12


def test_what_was_seen_before_wakes_nobody() -> None:
    store = a_store()
    assert store.put_run(RunBuilder().build()) == []
    assert store.put_job(JobBuilder().build()) == [KEY]
    assert store.put_job(JobBuilder().build()) == []
    assert store.put_pod(PodBuilder().build()) == [KEY]
    assert store.put_pod(PodBuilder().build()) == []


def test_a_newer_version_that_says_nothing_new_wakes_nobody() -> None:
    store = a_store()
    store.put_job(JobBuilder().build())
    store.put_pod(PodBuilder().build())
    assert store.put_job(JobBuilder().at(60).build()) == []
    assert store.put_pod(PodBuilder().at(60).build()) == []
    observed = seen(store)
    assert observed.jobs[1].id.version == observed.pods[0].id.version == 60, "it is known all the same"
    assert store.put_job(JobBuilder().failed().at(61).build()) == [KEY]
    assert store.put_pod(PodBuilder().running(NOON).at(61).build()) == [KEY]


@pytest.mark.parametrize(
    ("phase", "want"),
    [(None, 0), (Phase.QUEUED, 0), (Phase.STARTING, 1), (Phase.RUNNING, 1), (Phase.CANCELLING, 1),
     (Phase.BACKING_OFF, 0), (Phase.SUCCEEDED, 0)],
)  # fmt: skip
def test_the_runs_that_have_an_open_attempt_are_counted(phase: Phase | None, want: int) -> None:
    store = a_store(run=RunBuilder().status(settle(RunStatus(), Phase.RUNNING, "R", "m", NOON, 1)).at(4))
    store.put_run(run_called("another"))
    status = settle(RunStatus(), phase, "R", "m", NOON, 1) if phase else RunStatus()
    store.put_run(RunBuilder().status(status).at(5).build())
    assert (store.runs.going, seen(store).going) == (want, want)
    store.drop_run(RunBuilder().at(6).build())
    assert store.runs.going == 0


def test_a_deleted_run_does_not_come_back_by_an_older_list() -> None:
    store = a_store()
    store.put_job(JobBuilder().build())
    store.drop_run(RunBuilder().build())
    assert store.put_run(RunBuilder().at(99).build()) == []
    assert store.put_job(JobBuilder().at(99).build()) == []
    assert store.put_pod(PodBuilder().at(99).build()) == []
    assert store.observe(KEY) is None
    assert not store._states, "nothing of it is left in memory"


def test_a_run_made_again_under_its_name_meets_nothing_of_the_first() -> None:
    store = a_store()
    store.put_job(JobBuilder().build())
    store.put_pod(PodBuilder().ended(0, RECORD).build())
    store.put_run(RunBuilder().metadata(uid="another").at(99).build())
    observed = seen(store)
    assert (observed.run["metadata"]["uid"], observed.jobs, observed.pods) == ("another", {}, ())


def test_the_deletion_of_the_first_leaves_the_second() -> None:
    store = a_store()
    store.put_run(RunBuilder().metadata(uid="another").at(99).build())
    store.drop_run(RunBuilder().at(98).build())
    assert seen(store).run["metadata"]["uid"] == "another"


def test_a_deleted_job_does_not_come_back_and_may_be_made_again() -> None:
    store = a_store()
    store.put_job(JobBuilder().build())
    assert store.drop_job(JobBuilder().build()) == [KEY]
    assert store.put_job(JobBuilder().at(99).build()) == []
    assert seen(store).jobs == {}
    assert store.put_job(JobBuilder().metadata(uid="new").at(99).build()) == [KEY]


def test_the_late_deletion_of_an_earlier_job_leaves_the_new_one() -> None:
    store = a_store()
    store.put_job(JobBuilder().metadata(uid="new").at(99).build())
    store.drop_job(JobBuilder().build())
    assert seen(store).jobs[1].id.uid == "new"


def test_a_pod_that_is_gone_keeps_its_record() -> None:
    store = a_store()
    store.put_pod(PodBuilder().running().build())
    assert store.drop_pod(PodBuilder().ended(0, RECORD).at(31).build()) == [KEY]
    assert store.put_pod(PodBuilder().running().at(99).build()) == [], "it does not come back"
    (pod,) = seen(store).pods
    assert pod.gone and pod.terminated is not None and pod.terminated.message == RECORD


def test_a_record_is_forgotten_once_the_end_of_its_run_is_told() -> None:
    store = a_store()
    store.put_pod(PodBuilder().ended(0, RECORD).build())
    store.put_run(ended_run())
    store.put_pod(PodBuilder(execution=2).ended(0, RECORD).build())
    assert [pod.terminated and pod.terminated.message for pod in seen(store).pods] == ["", ""]


def test_payloads_and_managed_fields_are_not_kept() -> None:
    store = a_store(run=RunBuilder().metadata(managedFields=[{}], annotations={"a": "b"}))
    assert not {"managedFields", "annotations"} & seen(store).run["metadata"].keys()


def test_the_annotation_that_an_attempt_needs_is_kept() -> None:
    store = a_store(run=RunBuilder().metadata(annotations={"a": "b", "crewrun.dev/traceparent": "00-a-b-01"}))
    assert seen(store).run["metadata"]["annotations"] == {"crewrun.dev/traceparent": "00-a-b-01"}
    store.put_job(JobBuilder().build())
    assert "definition" not in repr(seen(store).jobs[1])


def test_a_job_that_exists_takes_its_refusal_away() -> None:
    store = a_store()
    store.refuse(RUN_UID, 1, Refusal(Reason.JOB_REJECTED, "quota", again=True))
    assert seen(store).refusals
    store.put_job(JobBuilder().build())
    assert not seen(store).refusals


# confirm


def test_a_live_look_shows_what_is_there() -> None:
    store = a_store()
    store.confirm(RUN_UID, 1, JobBuilder().at(40).build(), [PodBuilder().at(41).build()], 45)
    observed = seen(store)
    assert (observed.confirmed, observed.jobs[1].id.version, len(observed.pods)) == ({1: 40}, 40, 1)


def test_a_live_look_takes_away_what_is_not_there() -> None:
    store = a_store()
    store.put_job(JobBuilder().build())
    store.put_pod(PodBuilder().build())
    store.put_pod(PodBuilder(2).build())
    store.confirm(RUN_UID, 1, None, [], 45)
    observed = seen(store)
    assert (observed.confirmed, observed.jobs) == ({1: 0}, {})
    assert {pod.id.attempt: pod.gone for pod in observed.pods} == {1: True, 2: False}


def test_a_pod_that_is_newer_than_the_look_is_there() -> None:
    """Its event may come before the answer to the list that was too early to show it."""
    store = a_store()
    store.put_pod(PodBuilder().at(50).build())
    store.confirm(RUN_UID, 1, None, [], 45)
    assert [pod.gone for pod in seen(store).pods] == [False]


def test_a_job_that_goes_takes_its_confirmation_along() -> None:
    store = a_store()
    store.confirm(RUN_UID, 1, JobBuilder().build(), [], 45)
    store.drop_job(JobBuilder().build())
    assert seen(store).confirmed == {}


# sweep


def everything() -> Store:
    store = a_store()
    store.put_crew(CrewBuilder().build())
    store.put_profile(ProfileBuilder().build())
    store.put_job(JobBuilder().build())
    store.put_pod(PodBuilder().running().build())
    return store


def left(store: Store) -> set[str]:
    observed = store.observe(KEY)
    if observed is None:
        return set()
    there = {"crewruns": True, "crews": observed.crew, "crewprofiles": observed.profiles, "jobs": observed.jobs}
    there["pods"] = any(not pod.gone for pod in observed.pods)
    return {plural for plural, what in there.items() if what}


ALL = {paths.CREWRUNS, paths.CREWS, paths.PROFILES, paths.JOBS, paths.PODS}


@pytest.mark.parametrize("plural", sorted(ALL))
def test_a_list_sweeps_away_what_it_does_not_show(plural: str) -> None:
    store = everything()
    assert store.sweep(plural, None, set(), 100) is True
    if plural == paths.PODS:
        assert left(store) == ALL, "the event that it went, with its record, may be on the way"
        assert store.sweep(plural, None, set(), 101) is True
    want_left = set() if plural == paths.CREWRUNS else ALL - {plural}
    assert left(store) == want_left
    assert store.sweep(plural, None, set(), 100) is False, "nothing is missed twice"


@pytest.mark.parametrize(
    ("namespace", "uids", "version"),
    [
        pytest.param(None, {RUN_UID, "c0c0c0c0", "uid-of-production", "bbbbbbbb-0001", pod_uid(1)}, 100, id="shown"),
        pytest.param("team-b", set(), 100, id="another namespace"),
        pytest.param(None, set(), 0, id="made after the list"),
    ],
)
def test_a_list_leaves_what_it_shows_or_cannot_know(namespace: str | None, uids: set[str], version: int) -> None:
    store = everything()
    assert not any(store.sweep(plural, namespace, uids, version) for plural in ALL)
    assert left(store) == ALL


def test_a_pod_that_has_ended_is_in_no_list_and_missed_by_none() -> None:
    store = a_store()
    store.put_pod(PodBuilder().ended(0, RECORD).build())
    assert not any(store.sweep(paths.PODS, None, set(), version) for version in (100, 101))
    (pod,) = seen(store).pods
    assert not pod.gone and pod.terminated is not None and pod.terminated.message == RECORD


# who is woken


def run_called(name: str, crew: str = "research", *, begun: bool = False, namespace: str = "team-a") -> dict[str, Any]:
    run = RunBuilder().metadata(name=name, uid=f"uid-{name}", namespace=namespace).spec(crewRef={"name": crew})
    if begun:
        run.status(RunStatus(attempt_count=1))
    return run.build()


def a_crowd() -> Store:
    store = Store(DEFAULTS)
    for run in (
        run_called("waits"),
        run_called("waits-too"),
        run_called("other", crew="another"),
        run_called("begun", begun=True),
        run_called("elsewhere", namespace="team-b"),
    ):
        store.put_run(run)
    return store


def test_a_crew_wakes_only_the_runs_that_wait_for_it() -> None:
    store = a_crowd()
    want_keys = {("team-a", "waits"), ("team-a", "waits-too")}
    assert set(store.put_crew(CrewBuilder().build())) == want_keys
    assert store.put_crew(CrewBuilder().build()) == []
    assert set(store.drop_crew(CrewBuilder().build())) == want_keys


def test_a_profile_wakes_the_runs_of_its_namespace_that_have_not_begun() -> None:
    store = a_crowd()
    want_keys = {("team-a", "waits"), ("team-a", "waits-too"), ("team-a", "other")}
    assert set(store.put_profile(ProfileBuilder().build())) == want_keys
    assert set(store.drop_profile(ProfileBuilder().build())) == want_keys


@pytest.mark.parametrize(
    ("phase", "job", "want_woken"),
    [
        pytest.param(Phase.SUCCEEDED, JobBuilder().complete(), [], id="both have ended"),
        pytest.param(Phase.FAILED, JobBuilder().failed(), [], id="both have failed"),
        pytest.param(Phase.RUNNING, JobBuilder().complete(), [KEY], id="the run goes on"),
        pytest.param(Phase.SUCCEEDED, JobBuilder(), [KEY], id="the Job goes on"),
        pytest.param(Phase.SUCCEEDED, JobBuilder(attempt=0).complete(), [KEY], id="the Job of a webhook"),
    ],
)
def test_a_job_that_ends_after_its_run_wakes_nobody(phase: Phase, job: JobBuilder, want_woken: list[Key]) -> None:
    store = Store(DEFAULTS)
    store.put_run(RunBuilder().status(RunStatus(phase=phase)).build())
    assert store.put_job(job.build()) == want_woken


def test_a_job_or_pod_of_an_unknown_run_wakes_nobody_and_is_there_when_the_run_comes() -> None:
    store = Store(DEFAULTS)
    assert store.put_job(JobBuilder().build()) == []
    assert store.put_pod(PodBuilder().build()) == []
    store.put_run(RunBuilder().build())
    assert list(seen(store).jobs) == [1] and len(seen(store).pods) == 1


def test_an_inline_crew_needs_no_crew() -> None:
    run = RunBuilder().without("crewRef").spec(crew={"definition": {}})
    assert seen(a_store(run=run)).crew is None


def at(version: int) -> RunBuilder:
    return RunBuilder().at(version)


def listening() -> tuple[list[tuple[str, str]], Changed]:
    """The versions that a store tells of, and what to give it for that."""
    told: list[tuple[str, str]] = []
    return told, lambda before, after: told.append(
        (before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"])
    )


@pytest.mark.parametrize(
    ("put", "want_told"),
    [
        ([at(5)], []),
        ([at(5), at(7)], [("5", "7")]),
        ([at(7), at(5)], []),
        ([at(5), at(5)], []),
        ([at(5), at(7).metadata(uid="another")], []),
        ([at(5), at(7), at(9)], [("5", "7"), ("7", "9")]),
    ],
    ids=["the first", "a newer one", "an older one", "the same", "another run of the name", "two newer ones"],
)
def test_a_newer_version_of_a_run_is_told_with_the_one_before_it(
    put: list[RunBuilder], want_told: list[tuple[str, str]]
) -> None:
    told, changed = listening()
    store = Store(DEFAULTS, changed=changed)
    for run in put:
        store.put_run(run.build())
    assert told == want_told


@pytest.mark.parametrize(
    ("gone", "want_told"),
    [(at(7), [("5", "7")]), (at(5), []), (at(7).metadata(uid="another"), [])],
    ids=["with a write that nobody had seen", "as it was", "another run of the name"],
)
def test_the_last_version_of_a_deleted_run_is_told(gone: RunBuilder, want_told: list[tuple[str, str]]) -> None:
    told, changed = listening()
    store = Store(DEFAULTS, changed=changed)
    store.put_run(at(5).build())
    store.drop_run(gone.build())
    assert told == want_told

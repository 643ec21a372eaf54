"""Plans carried out against an API server in memory: the order, crashes at every write, adoption, refusals."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator import paths
from crewrun_operator.api import ApiError
from crewrun_operator.apply import Applier
from crewrun_operator.decide import decide
from crewrun_operator.metrics import Metrics
from crewrun_operator.observed import Notice, Observed, Plan, Stop
from crewrun_operator.status import settle
from crewrun_operator.store import Store
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
)
from tests.unit.fake_api import FakeApi, Lost

KEY = ("team-a", "report")
RUN = paths.custom(paths.CREWRUNS, *KEY)
STATUS = f"PATCH {RUN}/status"
JOBS = paths.jobs("team-a")
MAKE_JOB = f"POST {JOBS}"
JOB = f"{JOBS}/report-0f3ab-1"


class Operator:
    """One life of the operator: a store, an applier, and what a list at the start put in."""

    def __init__(self, api: FakeApi) -> None:
        self.api, self.metrics = api, Metrics()
        self.store = Store(DEFAULTS, changed=self.metrics.changed)
        self.applier = Applier(api, self.store)  # type: ignore[arg-type]
        self.now = NOON
        self.list()

    def list(self) -> None:
        for path, document in list(self.api.objects.items()):
            put = {"crewruns": self.store.put_run, "crews": self.store.put_crew, "jobs": self.store.put_job}
            put["pods"] = self.store.put_pod
            if (plural := path.split("/")[-2]) in put:
                put[plural](document)

    def observe(self) -> Observed:
        observed = self.store.observe(KEY)
        assert observed is not None
        return observed

    async def step(self) -> bool:
        observed = self.observe()
        return await self.applier.apply(observed.run, decide(observed, self.now), self.now)

    async def settle(self) -> None:
        for _ in range(10):
            if not await self.step():
                return
        raise AssertionError("the operator never comes to rest")


def cluster(*, run: RunBuilder | None = None) -> FakeApi:
    api = FakeApi()
    api.put(RUN, (run or RunBuilder()).build())
    api.put(paths.custom(paths.CREWS, "team-a", "research"), CrewBuilder().build())
    return api


def status_on(api: FakeApi) -> RunStatus:
    return RunStatus.model_validate(api.objects[RUN]["status"])


def jobs_on(api: FakeApi) -> list[str]:
    return [path for path in api.objects if path.startswith(f"{JOBS}/")]


def tell(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_the_attempt_stands_in_the_status_before_its_job_is_made() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        assert api.writes == [STATUS, MAKE_JOB]
        assert [attempt.job for attempt in status_on(api).attempts] == ["report-0f3ab-1"]
        assert jobs_on(api) == [JOB]
        assert operator.observe().jobs[1].owner_uid == RUN_UID, "the answer goes into the store"
        await operator.settle()
        assert len(api.writes) == 2, "nothing is written twice"

    tell(story)


def test_a_run_of_one_attempt_costs_three_writes() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        operator.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
        await operator.settle()
        assert api.writes == [STATUS, MAKE_JOB, STATUS]
        assert status_on(api).phase is Phase.SUCCEEDED
        labels = {"namespace": "team-a", "outcome": "Succeeded", "reason": "Completed"}
        assert operator.metrics.registry.get_sample_value("crewrun_attempts_total", labels) == 1

    tell(story)


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("write", [1, 2], ids=["at the status", "at the Job"])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
def test_a_crash_at_any_write_leaves_exactly_one_job(write: int, lost: str, restarts: bool) -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        (api.lose_request if lost == "request" else api.lose_answer)(write)
        with pytest.raises(Lost):
            await operator.settle()

        if restarts:
            operator = Operator(api)
        for _ in range(3):
            try:
                await operator.settle()
            except ApiError as error:
                assert error.code == 409, "the status is newer than the store: a watch brings it"
                operator.list()

        assert jobs_on(api) == [JOB]
        assert [attempt.number for attempt in status_on(api).attempts] == [1]
        assert operator.observe().jobs.keys() == {1}

    tell(story)


def test_an_end_whose_answer_is_lost_is_told_and_counted_once() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        pod = PodBuilder().ended(0, RecordBuilder().text()).build()
        operator.store.put_pod(pod)
        api.lose_answer(3)
        with pytest.raises(Lost):
            await operator.settle()
        with pytest.raises(ApiError, match="409"):
            await operator.settle()
        operator.list()
        await operator.settle()
        usage = status_on(api).usage
        assert usage is not None and usage.total_tokens == 100

    tell(story)


def test_a_status_that_changed_meanwhile_is_not_overwritten() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        changed = api.objects[RUN]
        changed["spec"]["cancel"] = True
        api.put(RUN, changed)
        with pytest.raises(ApiError) as caught:
            await operator.settle()
        assert (caught.value.code, caught.value.reason) == (409, "Conflict")
        assert jobs_on(api) == [], "no Job without its attempt in the status"
        operator.list()
        await operator.settle()
        assert (status_on(api).phase, jobs_on(api)) == (Phase.CANCELLED, [])

    tell(story)


@pytest.mark.parametrize("what", ["running", "refused"])
def test_progress_of_an_operator_that_was_replaced_does_not_bring_an_end_back(what: str) -> None:
    """Two operators at once, as in a rolling update: the old one is behind."""

    async def story() -> None:
        api = cluster()
        old = Operator(api)
        if what == "running":
            await old.settle()
        new = Operator(api)
        if what == "running":
            new.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
            old.store.put_pod(PodBuilder().running().build())
        else:
            old.store.drop_crew(CrewBuilder().build())
        await new.settle()
        before = status_on(api)
        old.now = new.now.replace(minute=1)
        with pytest.raises(ApiError, match="409"):
            await old.settle()
        assert status_on(api) == before

    tell(story)


def job_of(owner: str) -> dict[str, Any]:
    job = JobBuilder().build()
    job["metadata"]["ownerReferences"][0]["uid"] = owner
    return job


@pytest.mark.parametrize("owner", ["somebody-else", RUN_UID], ids=["another owner", "ours"])
def test_a_job_that_is_there_already_is_taken_only_from_the_very_same_run(owner: str) -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        api.put(JOB, job_of(owner))
        await operator.settle()
        if owner == RUN_UID:
            assert operator.observe().jobs.keys() == {1}
            assert status_on(api).phase is Phase.STARTING
            return
        assert status_on(api).phase is Phase.FAILED
        (attempt,) = status_on(api).attempts
        assert attempt.reason is Reason.JOB_REJECTED
        assert attempt.message and "does not belong to this CrewRun" in attempt.message
        assert api.objects[JOB]["metadata"]["ownerReferences"][0]["uid"] == owner, "it is left alone"

    tell(story)


def test_a_foreign_job_without_labels_is_not_taken_either() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        api.put(JOB, {"metadata": {"name": "report-0f3ab-1", "namespace": "team-a"}, "spec": {}})
        await operator.settle()
        assert status_on(api).phase is Phase.FAILED

    tell(story)


@pytest.mark.parametrize("code", [400, 422])
def test_a_job_that_the_api_server_refuses_ends_the_run_with_its_words(code: int) -> None:
    async def story() -> None:
        api = cluster()
        api.refuse[JOBS] = ApiError(code, "Invalid", "spec.template.spec.nodeName: Forbidden")
        await Operator(api).settle()
        status = status_on(api)
        assert (status.phase, status.attempts[0].reason) == (Phase.FAILED, Reason.JOB_REJECTED)
        assert "spec.template.spec.nodeName: Forbidden" in (status.attempts[0].message or "")
        events = [document for path, document in api.objects.items() if "/events/" in path]
        assert [(event["type"], event["reason"]) for event in events] == [("Warning", "JobRejected")]

    tell(story)


def test_a_quota_that_is_full_is_waited_for_and_told() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        api.refuse[JOBS] = ApiError(403, "Forbidden", "exceeded quota: jobs")
        for _ in range(2):
            with pytest.raises(ApiError, match="exceeded quota"):
                await operator.settle()
        status = status_on(api)
        assert (status.phase, status.attempt_count) == (Phase.STARTING, 1)
        assert {each.reason for each in status.conditions if each.type == "Succeeded"} == {"JobRejected"}
        del api.refuse[JOBS]
        await operator.settle()
        assert jobs_on(api) == [JOB]

    tell(story)


def test_a_later_attempt_copies_the_payload_of_the_job_before_it() -> None:
    async def story() -> None:
        api = cluster(run=RunBuilder().spec(retry={"backoff": {"initialSeconds": 0}}))
        operator = Operator(api)
        await operator.settle()
        ended = PodBuilder().ended(30, RecordBuilder().failed().text())
        operator.store.put_pod(ended.build())
        operator.store.put_crew(CrewBuilder().definition(inputs={"x": 1}).at(99999).build())
        await operator.settle()
        first, second = (api.objects[path]["spec"]["template"] for path in jobs_on(api))
        assert second["metadata"]["annotations"] == first["metadata"]["annotations"]

    tell(story)


def test_a_payload_that_went_with_its_job_fails_the_run_as_changed() -> None:
    async def story() -> None:
        api = cluster(run=RunBuilder().spec(retry={"backoff": {"initialSeconds": 0}}))
        operator = Operator(api)
        await operator.settle()
        operator.store.put_pod(PodBuilder().ended(30, RecordBuilder().failed().text()).build())
        operator.store.put_crew(CrewBuilder().definition(inputs={"x": 1}).at(99999).build())
        api.vanish(JOB)  # and no watch has told
        await operator.settle()
        assert status_on(api).phase is Phase.FAILED
        assert status_on(api).attempts[-1].reason is Reason.CREW_CHANGED

    tell(story)


def test_a_live_look_reads_one_job_and_the_pods_of_its_attempt() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        api.put(f"{paths.pods('team-a')}/one", PodBuilder(1).running().build())
        for number in (2, 3):
            api.put(f"{paths.pods('team-a')}/other-{number}", PodBuilder(number).running().build())
        operator = Operator(cluster())
        operator.applier._api = api  # type: ignore[assignment]
        assert await operator.applier.apply(operator.observe().run, Plan(confirm=1), NOON)
        assert api.reads[-2:] == [JOB, paths.pods("team-a")]
        observed = operator.observe()
        assert [pod.id.attempt for pod in observed.pods] == [1]
        assert observed.confirmed == {1: observed.jobs[1].id.version}

    tell(story)


def test_a_live_look_does_not_see_a_job_of_somebody_else() -> None:
    async def story() -> None:
        api = cluster()
        api.put(JOB, job_of("somebody-else"))
        operator = Operator(cluster())
        operator.applier._api = api  # type: ignore[assignment]
        await operator.applier.apply(operator.observe().run, Plan(confirm=1), NOON)
        assert (operator.observe().jobs, operator.observe().confirmed) == ({}, {1: 0})

    tell(story)


@pytest.mark.parametrize(
    ("stop", "want_write"),
    [
        (Stop("report-0f3ab-1", "pod-1", "uid-1"), f"DELETE {paths.pods('team-a', 'pod-1')}"),
        (Stop("report-0f3ab-1", None), f"DELETE {JOB}"),
    ],
    ids=["a Pod", "a Job without a Pod"],
)
@pytest.mark.parametrize("there", ["it", "nothing", "another"])
def test_an_execution_is_stopped_if_it_is_still_that_one(stop: Stop, want_write: str, there: str) -> None:
    async def story() -> None:
        api = cluster()
        path = want_write.removeprefix("DELETE ")
        if there != "nothing":
            uid = "uid-1" if there == "it" else "uid-2"
            api.put(path, {"metadata": {"name": "n", "uid": uid, "ownerReferences": []}})
        operator = Operator(cluster())
        operator.applier._api = api  # type: ignore[assignment]
        await operator.applier.apply(operator.observe().run, Plan(stop=stop), NOON)
        assert api.writes == [want_write]
        assert (path in api.objects) is (there == "another" and stop.pod is not None)

    tell(story)


def test_a_run_is_deleted_only_if_it_is_the_same() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        old = operator.observe().run
        api.put(RUN, RunBuilder().metadata(uid="made-again").build())
        await operator.applier.apply(old, Plan(delete_run=True), NOON)
        assert RUN in api.objects
        operator = Operator(api)
        await operator.applier.apply(operator.observe().run, Plan(delete_run=True), NOON)
        assert RUN not in api.objects

    tell(story)


def test_deleting_a_run_takes_its_jobs_along() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        await operator.applier.apply(operator.observe().run, Plan(delete_run=True), NOON)
        assert jobs_on(api) == []

    tell(story)


def test_an_event_that_cannot_be_posted_stops_nothing() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        api.refuse[paths.events("team-a")] = ApiError(403, "Forbidden", "no")
        notice = Notice("Warning", "AttemptFailed", "m")
        assert await operator.applier.apply(operator.observe().run, Plan(notices=(notice,), confirm=1), NOON)

    tell(story)


def test_the_same_event_has_the_same_name_and_a_valid_one() -> None:
    async def story() -> None:
        name = "r" * 253
        api = FakeApi()
        run = RunBuilder().metadata(name=name).build()
        operator = Operator(api)
        for message in ("one", "one", "m" * 3000):
            await operator.applier.apply(run, Plan(notices=(Notice("Warning", "AttemptFailed", message),)), NOON)
        events = list(api.objects.values())
        assert len(events) == 2
        assert all(len(event["metadata"]["name"]) <= 253 and len(event["message"]) <= 1024 for event in events)
        assert events[0]["involvedObject"]["uid"] == RUN_UID

    tell(story)


def test_fields_of_a_newer_release_stay_in_the_status() -> None:
    async def story() -> None:
        run = RunBuilder().build()
        run["status"]["lane"] = {"position": 3}
        api = cluster()
        api.put(RUN, run)
        await Operator(api).settle()
        assert api.objects[RUN]["status"]["lane"] == {"position": 3}
        assert status_on(api).phase is Phase.STARTING

    tell(story)


def test_a_plan_without_news_writes_nothing() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        status = settle(RunStatus(), Phase.PENDING, "R", "m", NOON, 1)
        await operator.applier.apply(operator.observe().run, Plan(status=status), NOON)
        await operator.applier.apply(operator.observe().run, Plan(status=status), NOON)
        assert api.writes == [STATUS]

    tell(story)


def test_a_profile_that_was_applied_before_its_run_and_is_seen_after_it_is_used() -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.put(RUN, RunBuilder().build())
        operator = Operator(api)
        api.put(paths.custom(paths.CREWS, "team-a", "research"), CrewBuilder().build())
        profile = ProfileBuilder("late").spec(default=True, maxRPM=7).build()
        api.put(paths.custom(paths.PROFILES, "team-a", "late"), profile)
        await operator.settle()
        assert operator.observe().run["status"]["profile"] == "late"
        assert '"maxRPM":7' in api.objects[JOB]["spec"]["template"]["metadata"]["annotations"]["crewrun.dev/spec"]

    asyncio.run(scenario())


def test_a_crew_and_a_profile_that_are_gone_are_not_used_though_no_watch_told_of_it() -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.put(RUN, RunBuilder().build())
        operator = Operator(api)
        operator.store.put_crew(CrewBuilder().build())
        operator.store.put_profile(ProfileBuilder("gone").spec(default=True).build())
        await operator.settle()
        (accepted,) = [c for c in operator.observe().run["status"]["conditions"] if c["type"] == "Accepted"]
        assert (accepted["status"], accepted["reason"]) == ("False", "CrewNotFound")
        assert operator.observe().profiles == {}

    asyncio.run(scenario())


def test_a_refused_run_reads_its_sources_again_only_when_one_of_them_changes() -> None:
    async def scenario() -> None:
        api = FakeApi()
        api.put(RUN, RunBuilder().build())
        operator = Operator(api)
        await operator.settle()
        reads = len(api.reads)
        await operator.settle()
        assert len(api.reads) == reads
        crew = api.put(paths.custom(paths.CREWS, "team-a", "research"), CrewBuilder().build())
        assert operator.store.put_crew(crew) == [KEY]
        await operator.settle()
        assert len(api.reads) == reads + 3
        assert operator.observe().run["status"]["phase"] == "Starting"

    asyncio.run(scenario())


def test_what_follows_from_our_own_write_is_found_though_no_watch_wakes_the_run() -> None:
    async def story() -> None:
        api = cluster(run=RunBuilder().spec(ttlSecondsAfterFinished=5))
        operator = Operator(api)
        await operator.settle()
        operator.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
        plan = decide(operator.observe(), operator.now)
        assert not await operator.step() and status_on(api).phase is Phase.SUCCEEDED
        assert plan.again_at == operator.now + timedelta(seconds=5), "the time to live is in the plan of the end"

    tell(story)


def test_a_field_that_an_older_crd_drops_is_not_written_for_ever() -> None:
    async def story() -> None:
        api = FakeApi()
        api.put(RUN, RunBuilder().build())  # its crew is missing: each decision says so anew
        patch = api.merge_patch

        async def pruning(path: str, body: dict[str, Any]) -> dict[str, Any]:
            for told in body["status"].get("conditions", []):
                told.pop("observedGeneration")
            return await patch(path, body)

        api.merge_patch = pruning  # type: ignore[method-assign]
        operator = Operator(api)
        await operator.settle()
        assert not await operator.step(), "what the API server does not keep is no news"

    tell(story)

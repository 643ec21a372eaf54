"""ConfigMaps as the API server has them: when they are read, for how long they are believed, what a restart finds."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.reasons import Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator import paths
from crewrun_operator.api import ApiError
from crewrun_operator.apply import Applier
from crewrun_operator.decide import decide
from crewrun_operator.observed import Observed, Plan
from crewrun_operator.status import as_document
from crewrun_operator.store import Store
from tests.unit.builders import DEFAULTS, NOON, CrewBuilder, PodBuilder, RecordBuilder, RunBuilder, classic_files
from tests.unit.fake_api import FakeApi, Lost

KEY = ("team-a", "report")
RUN = paths.custom(paths.CREWRUNS, *KEY)
CREW = paths.custom(paths.CREWS, "team-a", "research")
FILES = paths.config_maps("team-a", "files")
JOBS = paths.jobs("team-a")


class Operator:
    """One life of the operator."""

    def __init__(self, api: FakeApi, now: datetime = NOON) -> None:
        self.api, self.store, self.now = api, Store(DEFAULTS), now
        self.applier = Applier(api, self.store)  # type: ignore[arg-type]
        for path, document in list(api.objects.items()):
            put = {"crewruns": self.store.put_run, "crews": self.store.put_crew, "jobs": self.store.put_job}
            if (plural := path.split("/")[-2]) in put:
                put[plural](document)

    def observe(self) -> Observed:
        observed = self.store.observe(KEY)
        assert observed is not None
        return observed

    async def settle(self) -> Plan:
        for _ in range(12):
            observed = self.observe()
            plan = decide(observed, self.now)
            if not await self.applier.apply(observed.run, plan, self.now):
                return plan
        raise AssertionError("the operator never comes to rest")

    async def later(self, seconds: float) -> Plan:
        self.now += timedelta(seconds=seconds)
        return await self.settle()

    async def fails(self, attempt: int) -> None:
        """The runner of this attempt fails, and the next one starts after its backoff."""
        record = RecordBuilder(attempt).failed().text()
        self.store.put_pod(PodBuilder(attempt).ended(30, record, at=self.now).build())
        await self.settle()
        await self.later(60)


def cluster(files: dict[str, str] | None = None, **spec: Any) -> FakeApi:
    api = FakeApi()
    api.put(RUN, RunBuilder().spec(**spec).build())
    api.put(CREW, CrewBuilder().without("definition").spec(configMap={"name": "files"}).build())
    if files is not None:
        put_files(api, files)
    return api


def put_files(api: FakeApi, files: dict[str, str]) -> None:
    api.put(FILES, {"metadata": {"name": "files", "namespace": "team-a"}, "data": files})


def edited() -> dict[str, str]:
    return {**classic_files(), "crew.yaml": "verbose: true\n"}


def edit_run(operator: Operator, **spec: Any) -> None:
    run = operator.api.objects[RUN]
    run["metadata"]["generation"] += 1
    run["spec"].update(spec)
    operator.store.put_run(operator.api.put(RUN, run))


def status_on(api: FakeApi) -> RunStatus:
    return RunStatus.model_validate(api.objects[RUN]["status"])


def spec_of(api: FakeApi, attempt: int) -> str:
    template = api.objects[f"{JOBS}/report-0f3ab-{attempt}"]["spec"]["template"]
    text: str = template["metadata"]["annotations"][names.ANNOTATION_SPEC]
    return text


def reads(api: FakeApi) -> int:
    return api.reads.count(FILES)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_a_run_reads_its_config_map_once_and_forgets_it_with_its_job() -> None:
    async def story() -> None:
        api = cluster(classic_files())
        operator = Operator(api)
        await operator.settle()
        assert (reads(api), status_on(api).phase) == (1, Phase.STARTING)
        assert "Explain {topic}" in spec_of(api, 1)
        assert operator.observe().config_maps == {}, "its Job carries what it says"
        await operator.later(600)
        assert reads(api) == 1

    tell(story)


@pytest.mark.parametrize("before", [None, {"agents.yaml": "a: ["}], ids=["not there", "malformed"])
def test_a_run_that_waits_reads_again_and_starts_without_any_event(before: dict[str, str] | None) -> None:
    async def story() -> None:
        api = cluster(before)
        operator = Operator(api)
        plan = await operator.settle()
        assert (status_on(api).phase, plan.again_at) == (Phase.PENDING, NOON + timedelta(seconds=15))
        writes, read = len(api.writes), reads(api)
        await operator.later(14)
        assert reads(api) == read, "not before its time"
        await operator.later(1)
        assert (reads(api), len(api.writes)) == (read + 1, writes), "nothing new is written"
        put_files(api, classic_files())
        await operator.later(15)
        assert "Explain {topic}" in spec_of(api, 1)

    tell(story)


def test_a_run_that_waits_and_is_edited_reads_what_it_names_now() -> None:
    async def story() -> None:
        api = cluster()
        operator = Operator(api)
        await operator.settle()
        put_files(api, classic_files())
        api.put(paths.config_maps("team-a", "more"), {"metadata": {"name": "more"}, "data": {"topic": "ants"}})
        edit_run(operator, inputsFrom=[{"configMapRef": {"name": "more"}}])
        await operator.settle()
        assert status_on(api).phase is Phase.STARTING

    tell(story)


def test_a_config_map_that_may_not_be_read_is_told_like_one_that_is_not_there() -> None:
    async def story() -> None:
        api = cluster(classic_files())
        found = api.find

        async def forbidden(path: str) -> Any:
            if path == FILES:
                raise ApiError(403, "Forbidden", "no")
            return await found(path)

        api.find = forbidden  # type: ignore[method-assign]
        await Operator(api).settle()
        told = next(each for each in status_on(api).conditions if each.type == "Accepted")
        assert "there is no ConfigMap 'files' in this namespace that the operator may read" in told.message

    tell(story)


@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "restarts"])
@pytest.mark.parametrize("now_there", [edited(), None], ids=["changed", "gone"])
def test_a_later_attempt_runs_what_the_first_began_with(now_there: dict[str, str] | None, restarts: bool) -> None:
    async def story() -> None:
        api = cluster(classic_files())
        operator = Operator(api)
        await operator.settle()
        api.vanish(FILES)
        if now_there is not None:
            put_files(api, now_there)
        if restarts:
            operator = Operator(api)
        await operator.fails(1)
        assert spec_of(api, 2) == spec_of(api, 1)

    tell(story)


def test_rerun_reads_again() -> None:
    async def story() -> None:
        api = cluster(classic_files())
        operator = Operator(api)
        await operator.settle()
        operator.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
        await operator.settle()
        put_files(api, edited())
        edit_run(operator, rerun="again")
        await operator.settle()
        assert '"verbose":true' in spec_of(api, 2)
        assert '"verbose":true' not in spec_of(api, 1)

    tell(story)


@pytest.mark.parametrize(
    ("now_there", "want_job"),
    [
        pytest.param(classic_files(), True, id="the same"),
        pytest.param(edited(), False, id="changed"),
        pytest.param(None, False, id="gone"),
    ],
)
@pytest.mark.parametrize("timeout", [None, 30], ids=["without a time limit", "with one"])
def test_an_operator_that_restarts_before_the_job_is_made_finds_what_was_accepted(
    now_there: dict[str, str] | None, want_job: bool, timeout: int | None
) -> None:
    async def story() -> None:
        api = cluster(classic_files(), **({"timeoutSeconds": timeout} if timeout else {}))
        api.lose_request(2)  # the Job
        with pytest.raises(Lost):
            await Operator(api).settle()
        api.vanish(FILES)
        if now_there is not None:
            put_files(api, now_there)
        operator = Operator(api, NOON + timedelta(seconds=5))
        await operator.settle()
        if want_job:
            assert "Explain {topic}" in spec_of(api, 1)
        else:
            (attempt,) = status_on(api).attempts
            assert (status_on(api).phase, attempt.reason) == (Phase.FAILED, Reason.CREW_CHANGED)

    tell(story)


def test_settings_are_known_to_an_operator_that_restarts_before_the_job_is_made() -> None:
    """The time limit stands in the Crew, which cannot be accepted before its ConfigMap is read."""

    async def story() -> None:
        api = cluster(classic_files())
        crew = api.objects[CREW]
        crew["spec"]["timeoutSeconds"] = 30
        api.put(CREW, crew)
        api.lose_request(2)
        with pytest.raises(Lost):
            await Operator(api).settle()
        await Operator(api, NOON + timedelta(seconds=31)).settle()
        assert status_on(api).attempts[0].reason == Reason.TIMED_OUT

    tell(story)


def test_a_run_that_ended_keeps_nothing_in_memory() -> None:
    async def story() -> None:
        api = cluster(classic_files())
        operator = Operator(api)
        await operator.settle()
        operator.store.put_pod(PodBuilder().ended(0, RecordBuilder().text()).build())
        await operator.settle()
        edit_run(operator, ttlSecondsAfterFinished=600)
        await operator.settle()
        assert as_document(status_on(api))["observedGeneration"] == 2
        assert all(each.type != "SpecChanged" for each in status_on(api).conditions)
        assert operator.observe().config_maps == {}

    tell(story)

"""The controller: workers, errors, delays and the resync, on a clock that jumps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import structlog

from crewrun_api.reasons import Phase
from crewrun_api.run import RunStatus
from crewrun_operator import clock, paths
from crewrun_operator.api import ApiError
from crewrun_operator.controller import Controller
from crewrun_operator.metrics import Metrics
from crewrun_operator.settings import OperatorSettings
from crewrun_operator.store import Store
from tests.unit.builders import DEFAULTS, NOON, CrewBuilder, PodBuilder, RecordBuilder, RunBuilder
from tests.unit.fake_api import FakeApi, Lost
from tests.unit.fake_clock import run_at_once

NAMESPACE = "team-a"
POD = f"{paths.pods(NAMESPACE)}/pod"


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class Rig:
    """A controller at work on a cluster in memory; there are no watches but those a story plays."""

    def __init__(self, api: FakeApi) -> None:
        self.api, self.store, self.metrics = api, Store(DEFAULTS), Metrics()
        settings = OperatorSettings(runner_image="runner:1", workers=4, resync_seconds=300)
        self.controller = Controller(settings, api, self.store, self.metrics)  # type: ignore[arg-type]

    async def for_(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self.controller.run()

    def watch(self) -> None:
        """Watches that live and have nothing to tell."""
        for plural in (paths.CREWRUNS, paths.JOBS, paths.PODS):
            self.controller.seen(plural, [])
        asyncio.get_running_loop().call_later(20, self.watch)

    def status(self, name: str = "report") -> RunStatus:
        return RunStatus.model_validate(self.api.objects[run_path(name)]["status"])


def run_path(name: str = "report") -> str:
    return paths.custom(paths.CREWRUNS, NAMESPACE, name)


def cluster(*names: str) -> FakeApi:
    api = FakeApi()
    for name in names or ("report",):
        api.put(run_path(name), RunBuilder().metadata(name=name, uid=f"{name}-uid-of-36").build())
    api.put(paths.custom(paths.CREWS, NAMESPACE, "research"), CrewBuilder().build())
    return api


def tell(api: FakeApi, story: Callable[[Rig], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(seconds=loop.time() - begun))
        await story(Rig(api))

    run_at_once(told())


def test_everything_is_listed_before_anything_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster("one", "two", "three")

    async def story(rig: Rig) -> None:
        assert not rig.controller.synced
        with pytest.raises(TimeoutError):
            await rig.for_(60)
        assert rig.controller.synced
        want_lists = ["/apis/crewrun.dev/v1alpha1/crews", "/apis/crewrun.dev/v1alpha1/crewprofiles",
                      "/apis/crewrun.dev/v1alpha1/crewqueues", "/apis/crewrun.dev/v1alpha1/crewruns",
                      "/apis/batch/v1/jobs", "/api/v1/pods"]  # fmt: skip
        assert api.reads[:6] == want_lists
        assert {rig.status(name).phase for name in ("one", "two", "three")} == {Phase.STARTING}
        assert sum(write.startswith("POST") for write in api.writes) == 3

    tell(api, story, monkeypatch)


def test_what_is_deleted_while_everything_is_listed_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster("one", "two")
    everything = api.everything

    async def streamed(path: str, **query: str) -> AsyncIterator[list[dict[str, Any]]]:
        async for events in everything(path, **query):
            if path.endswith("/crewruns") and events[-1]["type"] == "BOOKMARK":
                yield [{"type": "DELETED", "object": api.objects.pop(run_path("one"))}]
            yield events

    async def story(rig: Rig) -> None:
        monkeypatch.setattr(api, "everything", streamed)
        with pytest.raises(TimeoutError):
            await rig.for_(60)
        assert [*rig.store.runs] == [(NAMESPACE, "two")]

    tell(api, story, monkeypatch)


def test_a_run_that_waits_is_not_decided_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time that has passed must never be the time of the next decision."""
    api = cluster()

    async def story(rig: Rig) -> None:
        with pytest.raises(TimeoutError):
            await rig.for_(5)
        rig.watch()
        run = RunBuilder().metadata(uid=api.objects[run_path()]["metadata"]["uid"]).build()
        pod = PodBuilder(run=run).waiting("ContainerCreating").deleting()
        rig.store.put_pod(pod.at(10**6).build())  # its node is lost: it will neither start nor go
        with pytest.raises(TimeoutError):
            await rig.for_(3000)
        decided = next(s.value for s in rig.metrics.reconcile.collect()[0].samples if s.name.endswith("_count"))
        assert decided < 40

    tell(api, story, monkeypatch)


@pytest.mark.parametrize("fault", ["lost", "500"])
def test_an_error_is_tried_again_ever_later_and_other_runs_go_on(
    fault: str, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = cluster("bad", "good")
    error = Lost() if fault == "lost" else ApiError(500, "InternalError", "etcd")
    create, at = api.create, []

    async def failing(path: str, body: dict) -> dict:  # type: ignore[type-arg]
        if "bad" in body["metadata"]["name"]:
            at.append(asyncio.get_running_loop().time())
            raise error
        return await create(path, body)

    monkeypatch.setattr(api, "create", failing)

    async def story(rig: Rig) -> None:
        with pytest.raises(TimeoutError):
            await rig.for_(200)
        assert f"{paths.jobs(NAMESPACE)}/good-good--1" in api.objects
        pauses = [later - earlier for earlier, later in pairwise(at)]
        assert pauses == pytest.approx(sorted(pauses)) and pytest.approx(pauses[-1], abs=0.1) == 60
        assert 5 < len(at) < 15
        assert rig.metrics.reconcile_errors._value.get() == len(at)

    tell(api, story, monkeypatch)
    told = [(line["event"], line["run"]) for line in logs if line["log_level"] != "info"]
    assert set(told) == {("trying again", "bad")} | ({("decision failed", "bad")} if fault == "lost" else set())


def test_a_conflict_is_no_error_and_is_decided_again(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster()

    async def story(rig: Rig) -> None:
        await rig.controller.resync()
        changed = api.put(run_path(), api.objects[run_path()])  # somebody was faster; the watch tells later
        asyncio.get_running_loop().call_later(0.5, lambda: rig.controller.seen("crewruns", rig.store.put_run(changed)))
        monkeypatch.setattr(rig.controller, "resync", lambda: asyncio.sleep(0))
        with pytest.raises(TimeoutError):
            await rig.for_(30)
        assert rig.metrics.reconcile_errors._value.get() == 0
        assert rig.status().phase is Phase.STARTING

    tell(api, story, monkeypatch)


def test_a_missed_event_costs_time_and_never_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster()

    async def story(rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        uid = api.objects[run_path()]["metadata"]["uid"]
        run = RunBuilder().metadata(uid=uid).build()
        pod = PodBuilder(run=run).ended(0, RecordBuilder(run_uid=uid).text()).metadata(
            labels={"crewrun.dev/run-uid": uid, "crewrun.dev/attempt": "1", "app.kubernetes.io/managed-by": "crewrun",
                    "app.kubernetes.io/component": "runner"})  # fmt: skip
        loop.call_later(20, lambda: api.put(POD, pod.build()))
        rig.watch()
        with pytest.raises(TimeoutError):
            await rig.for_(500)
        assert rig.status().phase is Phase.SUCCEEDED
        assert rig.status().completion_time == "2026-03-01T12:05:00Z"

    tell(api, story, monkeypatch)


def test_a_watch_that_is_dead_ends_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster()

    async def story(rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(20, lambda: api.put(run_path("late"), RunBuilder().metadata(name="late", uid="late").build()))
        with pytest.raises(ExceptionGroup) as caught:
            await rig.for_(1000)
        (error,) = caught.value.exceptions
        assert "the watches of crewruns are dead" in str(error)

    tell(api, story, monkeypatch)


def test_many_decisions_without_news_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while len(rig.controller.queue):
                turns += 1
                await asyncio.sleep(0)

        for number in range(100):
            rig.controller.queue.add((NAMESPACE, f"gone-{number}"))
        workers = [asyncio.create_task(rig.controller._work()) for _ in range(4)]
        await others()
        assert turns >= 100 / len(workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    tell(cluster(), story, monkeypatch)


def test_a_run_that_vanishes_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster()

    async def story(rig: Rig) -> None:
        with pytest.raises(TimeoutError):
            await rig.for_(5)
        rig.controller.queue.add_after((NAMESPACE, "report"), 1000)
        rig.controller.seen("crewruns", rig.store.drop_run(api.objects[run_path()]))
        monkeypatch.setattr(rig.controller, "resync", lambda: asyncio.sleep(0))
        with pytest.raises(TimeoutError):
            await rig.for_(2000)
        assert not rig.controller.queue._timers

    tell(api, story, monkeypatch)


def test_settings_of_the_operator_are_the_weakest_layer() -> None:
    assert OperatorSettings(runner_image="r:2").defaults == {"pod": {"image": "r:2", "imagePullPolicy": "IfNotPresent"}}


def test_the_age_of_lists_and_watches_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(rig: Rig) -> None:
        def shown() -> tuple[float | None, ...]:
            value = rig.metrics.registry.get_sample_value
            ages = [value("crewrun_watch_age_seconds", {"resource": plural}) for plural in (paths.JOBS, paths.PODS)]
            return value("crewrun_list_age_seconds"), *ages

        await asyncio.sleep(30)
        assert shown() == (30, 30, 30), "since the process began"
        rig.controller.seen(paths.JOBS, [])
        await rig.controller.resync()
        await asyncio.sleep(5)
        assert shown() == (5, 5, 35)

    tell(cluster(), story, monkeypatch)

"""Reports from outside: taken, kept before they are acknowledged, answered by what the run is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crewrun_api.reasons import Reason
from crewrun_api.report import Action, Lease, Paced
from crewrun_operator import clock
from crewrun_operator import inbox as inbox_module
from crewrun_operator.inbox import Inbox
from crewrun_operator.runs import Key
from crewrun_operator.sharing import LEASE_SECONDS, Word
from crewrun_operator.workqueue import WorkQueue
from tests.unit.builders import PodBuilder, RecordBuilder, ReportBuilder, RunBuilder, Scene, pod_uid

KEY = ("team-a", "report")


def running(**spec: Any) -> Scene:
    scene = Scene(RunBuilder().spec(**spec).build())
    scene.carry_out(scene.decide()).later(5)
    scene.pod(PodBuilder().running()).settle()
    return scene


def with_inbox(scene: Scene, story: Callable[[Inbox, WorkQueue[Key]], Awaitable[None]], patch: Any) -> None:
    patch.setattr(clock, "now", lambda: scene.now)

    async def told() -> None:
        queue: WorkQueue[Key] = WorkQueue()
        await story(Inbox(scene.store, queue, tick=lambda: scene.now.timestamp()), queue)

    asyncio.run(told())


def answers(scene: Scene, report: ReportBuilder, patch: Any) -> tuple[int, Action, Reason | None]:
    """The answer to a report that nothing has to be kept of."""
    found: list[Any] = []

    async def story(inbox: Inbox, _: WorkQueue[Key]) -> None:
        found.extend(await inbox.take(KEY, report.build(), scene.now))

    with_inbox(scene, story, patch)
    code, answer = found
    return code, answer.action, answer.reason


def test_progress_is_answered_at_once_and_wakes_the_run(monkeypatch: Any) -> None:
    scene = running()

    async def story(inbox: Inbox, queue: WorkQueue[Key]) -> None:
        code, answer = await inbox.take(KEY, ReportBuilder().build(), scene.now)
        assert (code, answer.action, answer.interval_seconds) == (200, Action.CONTINUE, 2)
        assert await queue.get() == KEY

    with_inbox(scene, story, monkeypatch)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(ReportBuilder().checkpoint(), id="checkpoint"),
        pytest.param(ReportBuilder().outcome(RecordBuilder()), id="outcome"),
        pytest.param(ReportBuilder().outcome(RecordBuilder().failed()), id="failure"),
        pytest.param(ReportBuilder().checkpoint().outcome(RecordBuilder().stopped()), id="checkpoint of a stop"),
    ],
)
def test_what_must_not_be_lost_is_acknowledged_only_when_it_is_stored(report: ReportBuilder, monkeypatch: Any) -> None:
    scene = running()

    async def story(inbox: Inbox, queue: WorkQueue[Key]) -> None:
        taking = asyncio.ensure_future(inbox.take(KEY, report.build(), scene.now))
        assert await queue.get() == KEY
        inbox.worked(KEY)  # the write has failed: nothing is stored
        await asyncio.sleep(0)
        assert not taking.done()
        scene.settle()
        inbox.worked(KEY)
        code, _ = await taking
        assert code == 200

    with_inbox(scene, story, monkeypatch)


def test_what_is_not_stored_in_time_is_asked_for_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(inbox_module, "_KEEP_SECONDS", 0.01)
    code, action, _ = answers(running(), ReportBuilder().checkpoint(), monkeypatch)
    assert (code, action) == (503, Action.CONTINUE)


def test_a_checkpoint_that_the_api_server_does_not_take_is_not_waited_for(monkeypatch: Any) -> None:
    scene = running()

    async def story(inbox: Inbox, queue: WorkQueue[Key]) -> None:
        report = ReportBuilder(sequence=3).checkpoint().build()
        taking = asyncio.ensure_future(inbox.take(KEY, report, scene.now))
        assert await queue.get() == KEY
        scene.store.not_saved(report.snapshot.run_uid, "report-0f3ab-checkpoint", (pod_uid(1), 3))
        inbox.worked(KEY)
        code, answer = await taking
        assert (code, answer.action) == (422, Action.CONTINUE)
        assert scene.decide().save is None

    with_inbox(scene, story, monkeypatch)


def test_a_report_that_is_sent_again_is_answered_again(monkeypatch: Any) -> None:
    scene = running()
    for _ in range(2):
        assert answers(scene, ReportBuilder(sequence=5), monkeypatch)[0] == 200
    assert answers(scene, ReportBuilder(sequence=4).checkpoint(), monkeypatch)[:2] == (409, Action.CONTINUE)
    scene.settle()
    assert not scene.saved, "of an older report nothing is taken"


@pytest.mark.parametrize(
    ("edit", "want_reason"),
    [({"cancel": True}, Reason.CANCELLED), ({"suspend": True}, Reason.SUSPENDED)],
    ids=["cancel", "suspend"],
)
def test_a_stop_is_the_answer_to_the_next_report(edit: dict[str, Any], want_reason: Reason, monkeypatch: Any) -> None:
    scene = running().edit(**edit)
    assert answers(scene, ReportBuilder(), monkeypatch) == (200, Action.STOP, want_reason)


def test_a_run_out_of_time_is_stopped_by_the_answer(monkeypatch: Any) -> None:
    scene = running(timeoutSeconds=60).later(60)
    assert answers(scene, ReportBuilder(), monkeypatch) == (200, Action.STOP, Reason.TIMED_OUT)


def _ended(scene: Scene) -> Scene:
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)).settle()
    return scene


@pytest.mark.parametrize(
    ("scene", "report", "want_code"),
    [
        pytest.param(running, ReportBuilder(execution=2), 409, id="another Pod of the attempt"),
        pytest.param(lambda: _ended(running()), ReportBuilder(), 409, id="the attempt is over"),
        pytest.param(
            lambda: _ended(running()), ReportBuilder().outcome(RecordBuilder()), 200, id="its end was known already"
        ),
        pytest.param(running, ReportBuilder().with_(run_uid="another"), 404, id="a run of that name before this one"),
        pytest.param(lambda: Scene(RunBuilder().metadata(name="x").build()), ReportBuilder(), 404, id="no such run"),
        pytest.param(lambda: Scene(RunBuilder().deleting().build()), ReportBuilder(), 404, id="the run is going"),
    ],
)
def test_an_execution_that_no_longer_counts_is_told_to_stop(
    scene: Callable[[], Scene], report: ReportBuilder, want_code: int, monkeypatch: Any
) -> None:
    assert answers(scene(), report, monkeypatch)[:2] == (want_code, Action.STOP)


def test_many_runners_report_less_often_each(monkeypatch: Any) -> None:
    scene = running()
    for number in range(1000):
        scene.other(f"r-{number}", {"phase": "Running"})

    async def story(inbox: Inbox, _: WorkQueue[Key]) -> None:
        _, answer = await inbox.take(KEY, ReportBuilder().build(), scene.now)
        assert answer.interval_seconds == pytest.approx(4, rel=0.01)

    with_inbox(scene, story, monkeypatch)


def in_queue(**spec: Any) -> Scene:
    """A run that is running in the queue `lane`."""
    scene = Scene().queue(**spec)
    scene.settle()
    scene.later(5).pod(PodBuilder().running()).settle()
    assert scene.status.queue == "lane"
    return scene


def test_a_run_in_a_queue_with_a_rate_has_a_lease_with_each_answer_to_go_on(monkeypatch: Any) -> None:
    scene = in_queue(requestsPerMinute=60, tokensPerMinute=90_000)

    async def story(inbox: Inbox, _: WorkQueue[Key]) -> None:
        for sequence in (1, 2):
            _, answer = await inbox.take(KEY, ReportBuilder(sequence=sequence).build(), scene.now)
            assert answer.lease == Lease(requests_per_minute=60, tokens_per_minute=90_000, seconds=LEASE_SECONDS)
        _, answer = await inbox.take(KEY, ReportBuilder(sequence=1).build(), scene.now)
        assert answer.lease is None, "an older report"
        scene.queue(requestsPerMinute=10)
        _, answer = await inbox.take(KEY, ReportBuilder(sequence=3).build(), scene.now)
        assert answer.lease == Lease(requests_per_minute=10, seconds=LEASE_SECONDS)
        scene.queue()
        _, answer = await inbox.take(KEY, ReportBuilder(sequence=4).build(), scene.now)
        assert answer.lease is None, "no rate any more"
        scene.queue(requestsPerMinute=10).edit(cancel=True)
        _, answer = await inbox.take(KEY, ReportBuilder(sequence=5).build(), scene.now)
        assert (answer.action, answer.lease) == (Action.STOP, None)

    with_inbox(scene, story, monkeypatch)


def test_a_run_outside_of_queues_has_no_lease(monkeypatch: Any) -> None:
    scene = running()

    async def story(inbox: Inbox, _: WorkQueue[Key]) -> None:
        _, answer = await inbox.take(KEY, ReportBuilder().build(), scene.now)
        assert answer.lease is None

    with_inbox(scene, story, monkeypatch)


#: How a run ends.
ENDS: dict[str, Callable[[Scene], object]] = {
    "its Pod ended": lambda scene: scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)),
    "its Pod is gone": lambda scene: scene.pod_gone(PodBuilder().running()),
    "it was deleted": lambda scene: scene.store.drop_run(scene.run),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_ends_gives_back_its_part_at_once(end: str, monkeypatch: Any) -> None:
    scene = in_queue(requestsPerMinute=60)

    async def story(inbox: Inbox, _: WorkQueue[Key]) -> None:
        await inbox.take(KEY, ReportBuilder().build(), scene.now)
        inbox.worked(KEY)
        rate = inbox._leases._queues["team-a", "lane"].requests
        assert rate is not None and rate.renew("another", Word(waited=True), scene.now.timestamp()) == 0
        ENDS[end](scene)
        inbox.worked(KEY)
        assert rate.renew("another", Word(waited=True), scene.now.timestamp()) == 60

    with_inbox(scene, story, monkeypatch)


def test_a_run_that_reports_its_end_gives_back_what_it_does_not_owe(monkeypatch: Any) -> None:
    scene = in_queue(requestsPerMinute=60)

    async def story(inbox: Inbox, queue: WorkQueue[Key]) -> None:
        await inbox.take(KEY, ReportBuilder().build(), scene.now)
        rate = inbox._leases._queues["team-a", "lane"].requests
        assert rate is not None
        report = ReportBuilder(sequence=2).outcome(RecordBuilder()).build()
        owes = Paced(requests_per_minute=60, seconds=20, requests_owed=0.5)
        assert await queue.get() == KEY
        queue.done(KEY)
        taking = asyncio.ensure_future(inbox.take(KEY, report.model_copy(update={"paced": owes}), scene.now))
        assert await queue.get() == KEY
        scene.settle()
        inbox.worked(KEY)
        assert (await taking)[0] == 200
        parts = [rate.renew("another", Word(waited=True), scene.now.timestamp() + seconds) for seconds in (0, 0.4, 0.6)]
        assert parts == [0, 0, 60]

    with_inbox(scene, story, monkeypatch)


def test_a_pod_is_known_when_the_watch_has_told_of_it() -> None:
    scene = running()
    inbox = Inbox(scene.store, WorkQueue.__new__(WorkQueue))
    execution = inbox.known(pod_uid(1))
    assert execution is not None
    assert (execution.namespace, execution.run, execution.attempt) == ("team-a", "report", 1)
    assert inbox.known("another") is None
    assert Inbox(scene.store, WorkQueue.__new__(WorkQueue), lambda: False).known(pod_uid(1)) is None, "not listed yet"
    scene.store.drop_run(scene.run)
    assert inbox.known(pod_uid(1)) is None

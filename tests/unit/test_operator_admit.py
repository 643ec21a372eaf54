"""A run and its queue: what it says while it waits, and what it costs."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.queue import QueueStatus
from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason
from crewrun_api.run import Condition
from crewrun_operator.queue_object import queue_object
from crewrun_operator.queue_status import queue_status
from crewrun_operator.queues import Queues
from crewrun_operator.status import condition
from crewrun_operator.times import stamp
from tests.unit.builders import (
    NAMESPACE,
    NOON,
    PodBuilder,
    QueueBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    a_usage,
)

RUNS: dict[str, Any] = {"phase": "Running", "attempts": [{"number": 1}]}
WAITS: dict[str, Any] = {"phase": "Queued"}
ENDED: dict[str, Any] = {"phase": "Succeeded", "attempts": [{"number": 1, "outcome": "Succeeded"}]}


def full(**spec: Any) -> Scene:
    """A queue whose one place is held, and a run that comes to it."""
    scene = Scene(RunBuilder().spec(**spec).build()).queue(maxConcurrentRuns=1).other("first", RUNS)
    scene.settle()
    return scene


def admitted(scene: Scene) -> tuple[str, str]:
    found = condition(scene.status, ConditionType.ADMITTED)
    return (found.status, found.reason) if found else ("", "")


def ends(scene: Scene, exit_code: int, record: RecordBuilder) -> Scene:
    """The runner of the first attempt has ended."""
    scene.pod(PodBuilder().ended(exit_code, record.text(), at=scene.now)).settle()
    return scene


def test_a_run_with_a_free_place_begins_in_one_write_and_says_who_admitted_it() -> None:
    scene = Scene().queue(maxConcurrentRuns=1)
    written = 0
    for _ in range(3):
        plan = scene.decide()
        written += plan.status is not None
        scene.carry_out(plan)
    assert (written, len(scene.made)) == (1, 1)
    assert (scene.status.phase, scene.status.queue, admitted(scene)) == (Phase.STARTING, "lane", ("True", "Admitted"))
    assert scene.status.queue_time is None and scene.status.queue_position is None


def test_without_a_queue_nothing_is_said_of_one() -> None:
    scene = Scene().queue(default=False, maxConcurrentRuns=1)
    scene.settle()
    assert (scene.status.phase, scene.status.queue, admitted(scene)) == (Phase.STARTING, None, ("True", "NoQueue"))


def test_a_run_that_waits_says_where_and_for_what() -> None:
    scene = full()
    status = scene.status
    assert (status.phase, status.queue, status.queue_position) == (Phase.QUEUED, "lane", 1)
    assert (status.queue_time, status.attempt_count, status.crew) == (stamp(NOON), 0, None)
    assert admitted(scene) == ("False", "QueueFull")
    told = condition(status, ConditionType.SUCCEEDED)
    want = "position 1: all 1 places of CrewQueue lane are held (spec.maxConcurrentRuns)"
    assert told is not None and (told.status, told.reason, told.message) == ("Unknown", "QueueFull", want)
    accepted = condition(status, ConditionType.ACCEPTED)
    assert accepted is not None and accepted.status == "True"


def test_it_begins_when_a_place_is_free() -> None:
    scene = full().later(30).other("first", ENDED)
    scene.settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.STARTING, ("True", "Admitted"))
    assert scene.status.queue_time is None and scene.status.start_time == stamp(scene.now)


REASONS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "held": ({"stopPolicy": "Hold"}, ("QueueStopped", "admits nothing (spec.stopPolicy: Hold)")),
    "drained": ({"stopPolicy": "HoldAndDrain"}, ("QueueStopped", "admits nothing (spec.stopPolicy: HoldAndDrain)")),
    "spent": (
        {"budget": {"window": "Day", "maxTokens": 5}},
        ("BudgetSpent", "spent its budget (spec.budget); the next window begins at 2026-03-02T00:00:00Z"),
    ),
    "of a newer release": ({"new": 1}, ("QueueInvalid", "admits nothing: spec.new: Extra inputs are not permitted")),
}


@pytest.mark.parametrize("name", REASONS)
def test_it_says_what_it_waits_for_when_its_queue_is(name: str) -> None:
    spec, (want_reason, want_message) = REASONS[name]
    scene = full(queue="lane")
    window = {"start": "2026-03-01T00:00:00Z", "totalTokens": 5}
    scene.queue(**spec).other("second", {**ENDED, "window": window})
    scene.settle()
    told = condition(scene.status, ConditionType.ADMITTED)
    assert told is not None and (told.reason, told.status) == (want_reason, "False")
    assert want_message in told.message


def test_a_queue_that_is_named_and_missing_is_told_and_waited_for() -> None:
    scene = Scene(RunBuilder().spec(queue="lane").build())
    scene.settle()
    told = condition(scene.status, ConditionType.ACCEPTED)
    assert told is not None and (told.reason, scene.status.phase) == ("QueueNotFound", Phase.PENDING)
    assert told.message.startswith("spec.queue: there is no CrewQueue 'lane' in this namespace")
    scene.queue()
    scene.settle()
    assert scene.status.phase is Phase.STARTING


def test_a_queue_that_goes_is_told_to_those_who_wait_for_it() -> None:
    scene = full(queue="lane")
    scene.store.drop_queue(QueueBuilder().at(10_000).build())
    scene.settle()
    told = condition(scene.status, ConditionType.ACCEPTED)
    assert told is not None and (told.reason, scene.status.phase) == ("QueueNotFound", Phase.PENDING)
    assert (scene.status.queue, scene.status.queue_time) == (None, None)
    scene = begun(queue="lane")
    scene.store.drop_queue(QueueBuilder().at(10_000).build())
    ends(scene, 30, RecordBuilder().failed()).later(5).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "QueueNotFound"))


def test_the_end_of_a_queue_that_was_made_again_is_told_too_late() -> None:
    scene = full()
    scene.store.put_queue(QueueBuilder(maxConcurrentRuns=2).metadata(uid="new").at(900).build())
    assert scene.store.drop_queue(QueueBuilder().at(899).build()) == []
    scene.settle()
    assert scene.status.phase is Phase.STARTING


def test_who_waits_in_the_default_queue_moves_with_it() -> None:
    scene = full()
    scene.queue("other").store.drop_queue(QueueBuilder().at(10_000).build())
    scene.settle()
    assert (scene.status.phase, scene.status.queue) == (Phase.STARTING, "other")


def test_a_run_that_has_begun_stays_in_its_queue() -> None:
    scene = begun().queue("newer")
    scene.store.put_queue(
        QueueBuilder("newest").metadata(creationTimestamp=stamp(NOON + timedelta(days=1)), generation=9).at(99).build()
    )
    ends(scene, 30, RecordBuilder().failed())
    scene.later(5).settle()
    assert (scene.status.queue, scene.status.attempt_count) == ("lane", 2)


def begun(**spec: Any) -> Scene:
    """A run in a queue of two places, whose first attempt runs."""
    scene = Scene(RunBuilder().spec(**spec).build()).queue(maxConcurrentRuns=2)
    scene.settle()
    scene.pod(PodBuilder().running()).later(2).settle()
    assert scene.status.phase is Phase.RUNNING
    return scene


def test_a_run_that_backs_off_gives_its_place_back_and_waits_for_another() -> None:
    scene = begun(timeoutSeconds=100).queue(maxConcurrentRuns=1)
    ends(scene, 30, RecordBuilder().failed())
    assert (scene.status.phase, admitted(scene)) == (Phase.BACKING_OFF, ("False", "NotWaiting"))
    scene.other("second", RUNS).later(5).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "QueueFull"))
    assert scene.status.crew is not None, "what runs stays fixed"
    scene.later(3600)
    assert scene.settle().status is None and scene.status.phase is Phase.QUEUED, "no time is counted while it waits"
    scene.other("second", ENDED).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 2)
    assert scene.status.suspended_seconds == 3600


def test_a_run_that_goes_on_is_at_the_back_of_its_queue() -> None:
    scene = full().edit(suspend=True)
    scene.settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.SUSPENDED, ("False", "NotWaiting"))
    scene.later(60).other("second", WAITS).edit(suspend=False)
    scene.settle()
    assert (scene.status.phase, scene.status.queue_position) == (Phase.QUEUED, 2)
    assert scene.status.order_time == stamp(scene.now)


def test_a_rerun_waits_at_the_back_too() -> None:
    scene = begun()
    ends(scene, 0, RecordBuilder())
    assert (scene.status.phase, admitted(scene)) == (Phase.SUCCEEDED, ("True", "Admitted"))
    scene.queue(maxConcurrentRuns=1).other("first", RUNS).other("second", WAITS).later(60).edit(rerun="again")
    scene.settle()
    assert (scene.status.phase, scene.status.queue_position, scene.status.rerun) == (Phase.QUEUED, 2, "again")
    assert scene.settle().status is None
    scene.other("first", ENDED).other("second", ENDED).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 2)


def test_a_cancelled_run_waits_no_longer() -> None:
    scene = full().edit(cancel=True)
    scene.settle()
    assert (scene.status.phase, scene.status.queue_time) == (Phase.CANCELLED, None)


def test_a_crew_that_changes_while_a_run_waits_is_the_one_that_runs() -> None:
    scene = full().edit_crew().other("first", ENDED)
    scene.settle()
    assert scene.status.phase is Phase.STARTING


def test_a_run_that_is_wrong_when_its_turn_comes_gives_its_place_to_the_next() -> None:
    scene = full().other("second", WAITS)
    scene.edit(inputs={}).other("first", ENDED)
    scene.settle()
    told = condition(scene.status, ConditionType.ACCEPTED)
    assert told is not None and (told.reason, scene.status.phase) == ("InvalidInputs", Phase.PENDING)
    place = scene.store.queues.place("uid-of-second")
    scene.observe()
    place = scene.store.queues.place("uid-of-second")
    assert place is not None and place.granted


def test_a_drained_queue_stops_what_runs_which_goes_on_when_it_admits_again() -> None:
    scene = begun().report(ReportBuilder())
    scene.queue(maxConcurrentRuns=2, stopPolicy="HoldAndDrain")
    scene.settle()
    assert (scene.status.phase, scene.status.attempts[0].reason) == (Phase.RUNNING, Reason.QUEUE_STOPPED)
    ends(scene, 50, RecordBuilder().stopped(Reason.QUEUE_STOPPED))
    status = scene.status
    assert (status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "QueueStopped"))
    assert [(each.outcome, each.reason) for each in status.attempts] == [(Outcome.STOPPED, Reason.QUEUE_STOPPED)]
    assert (status.counted_attempts, status.disruptions, status.queue_time) == (0, 0, stamp(scene.now))
    scene.later(50).queue(maxConcurrentRuns=2).settle()
    assert (scene.status.phase, scene.status.attempt_count, scene.status.suspended_seconds) == (Phase.STARTING, 2, 50)


def test_a_drained_queue_that_admits_again_before_the_runner_has_stopped_costs_no_attempt() -> None:
    scene = begun().report(ReportBuilder())
    scene.queue(maxConcurrentRuns=2, stopPolicy="HoldAndDrain").settle()
    scene.queue(maxConcurrentRuns=2)
    ends(scene, 50, RecordBuilder().stopped(Reason.QUEUE_STOPPED))
    assert (scene.status.attempt_count, scene.status.counted_attempts, scene.status.disruptions) == (2, 0, 0)


def test_a_position_is_told_again_when_it_has_halved_and_a_minute_has_passed() -> None:
    scene = Scene().queue(maxConcurrentRuns=1).other("first", RUNS)
    for number in range(9):
        scene.other(f"before-{number}", {**WAITS, "orderTime": stamp(NOON - timedelta(seconds=9 - number))})
    scene.settle()
    assert scene.status.queue_position == 10
    for number in range(4):
        scene.other(f"before-{number}", ENDED)
    scene.later(120).settle()
    assert scene.status.queue_position == 10, "6 is more than half"
    scene.other("before-4", ENDED)
    written = scene.settle()
    assert (scene.status.queue_position, written.again_at) == (5, scene.now + timedelta(minutes=1))
    scene.other("before-5", ENDED).other("before-6", ENDED).other("before-7", ENDED).settle()
    assert scene.status.queue_position == 5, "a moment ago"
    scene.later(61).settle()
    assert scene.status.queue_position == 2


def test_what_a_run_spends_is_counted_in_the_window_of_its_time() -> None:
    budget = {"window": "Hour", "maxCostUSD": "9"}
    scene = Scene().queue(budget=budget)
    scene.settle()
    scene.pod(PodBuilder().running()).later(2).report(ReportBuilder(sequence=1).with_(usage=a_usage(100)))
    scene.settle()
    assert scene.status.window is not None
    assert (scene.status.window.start, scene.status.window.total_tokens) == ("2026-03-01T12:00:00Z", 100)
    scene.later(3600).report(ReportBuilder(sequence=2).with_(usage=a_usage(160))).settle()
    assert (scene.status.window.start, scene.status.window.total_tokens) == ("2026-03-01T13:00:00Z", 60)
    ends(scene, 0, RecordBuilder().with_(usage=a_usage(175)))
    assert scene.status.window.total_tokens == 75
    assert scene.status.usage is not None and scene.status.usage.total_tokens == 175


def lane(*statuses: dict[str, Any], told: QueueStatus | None = None, **spec: Any) -> QueueStatus | None:
    """What is written of a queue at noon."""
    queues = Queues()
    document = QueueBuilder(**spec).build()
    if told is not None:
        document["status"] = told.model_dump(mode="json", by_alias=True)
    queues.put_object(queue_object(document))
    for number, status in enumerate(statuses):
        run = RunBuilder().metadata(uid=f"uid-{number}", creationTimestamp=stamp(NOON - timedelta(seconds=90))).build()
        queues.put_run({**run, "status": {"queue": "lane", **status}})
    queues.admit(NOON)
    queue = queues.get((NAMESPACE, "lane"))
    assert queue is not None
    return queue_status(queue, NOON)


def test_a_queue_says_who_waits_and_runs_and_whether_it_admits() -> None:
    status = lane(RUNS, WAITS, {**WAITS, "queueTime": stamp(NOON - timedelta(seconds=5))}, maxConcurrentRuns=1)
    assert status is not None
    assert (status.pending, status.running, status.oldest_wait_seconds) == (2, 1, 90)
    assert [(each.type, each.status, each.reason) for each in status.conditions] == [("Active", "True", "Ready")]
    stopped = lane(stopPolicy="Hold")
    assert stopped is not None and stopped.conditions[0].reason == "Stopped"
    spent = lane(
        {**ENDED, "window": {"start": stamp(NOON), "totalTokens": 7}}, budget={"window": "Hour", "maxTokens": 7}
    )
    assert spent is not None and (spent.conditions[0].reason, spent.spent_tokens) == ("BudgetSpent", 7)
    assert spent.window_start == stamp(NOON)


def at(seconds: int, **values: Any) -> QueueStatus:
    """A status that was written so long ago."""
    active = Condition(type="Active", status="True", reason="Ready", message="it admits runs",
                       last_transition_time=stamp(NOON), observed_generation=1)  # fmt: skip
    update = stamp(NOON - timedelta(seconds=seconds))
    return QueueStatus(observed_generation=1, update_time=update, conditions=[active], **values)


TOLD: dict[str, tuple[QueueStatus | None, list[dict[str, Any]], dict[str, Any], bool]] = {
    "never": (None, [], {}, True),
    "nothing is new": (at(500), [], {}, False),
    "a moment ago": (at(4), [RUNS], {}, False),
    "five seconds ago": (at(5), [RUNS], {}, True),
    "a moment ago, and it is stopped now": (at(1), [], {"stopPolicy": "Hold"}, True),
    "runs wait": (at(59, pending=1), [WAITS], {"stopPolicy": "None", "maxConcurrentRuns": None}, True),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_status_of_a_queue_is_written_when(name: str) -> None:
    told, statuses, spec, want_written = TOLD[name]
    assert (lane(*statuses, told=told, **spec) is not None) == want_written


@pytest.mark.parametrize(
    ("spec", "want"), [({}, False), ({"requestsPerMinute": 60}, True), ({"tokensPerMinute": 90_000}, True)]
)
def test_an_attempt_in_a_queue_with_a_rate_is_paced(spec: dict[str, Any], want: bool) -> None:
    scene = Scene().queue(**spec)
    while (plan := scene.decide()).start is None:
        scene.carry_out(plan)
    assert plan.start.paced is want

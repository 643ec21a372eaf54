"""Decisions about whole runs, from the first sight to the end, step by step."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import ConditionType, ExitCode, Outcome, Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator.observed import Plan
from crewrun_operator.status import condition
from crewrun_operator.times import parse, stamp
from tests.unit.builders import (
    NOON,
    CrewBuilder,
    PodBuilder,
    RecordBuilder,
    RunBuilder,
    Scene,
    as_it_was,
    pod_uid,
)

SUCCESS = RecordBuilder().text()


def failure(reason: Reason = Reason.TASK_FAILED, attempt: int = 1, **values: Any) -> str:
    return RecordBuilder(attempt).failed(reason, **values).text()


def started(scene: Scene | None = None) -> Scene:
    """A scene whose first attempt has its Job."""
    scene = scene or Scene()
    return scene.carry_out(scene.decide())


def running(**spec: Any) -> Scene:
    scene = started(Scene(RunBuilder().spec(**spec).build())).later(5)
    scene.pod(PodBuilder().running()).settle()
    return scene


def reason_of(status: RunStatus, type_: ConditionType = ConditionType.SUCCEEDED) -> tuple[str, str]:
    found = condition(status, type_)
    assert found is not None
    return found.status, found.reason


def attempts(scene: Scene) -> list[tuple[int, str | None, str | None]]:
    return [(each.number, each.outcome, each.reason) for each in scene.status.attempts]


def fail(scene: Scene, attempt: int, reason: Reason = Reason.TASK_FAILED) -> Plan:
    """The runner of this attempt fails now."""
    scene.pod(PodBuilder(attempt).ended(30, failure(reason, attempt), at=scene.now))
    plan = scene.decide()
    scene.carry_out(plan)
    return plan


# the way to success


def test_a_good_run_is_accepted_and_started_in_one_plan() -> None:
    plan = Scene().decide()
    assert plan.status is not None and plan.start is not None
    assert (plan.start.number, plan.start.like) == (1, None)
    status = plan.status
    assert (status.phase, status.attempt_count, status.progress) == (Phase.STARTING, 1, "0/2")
    assert (status.start_time, status.attempts[0].start_time) == (stamp(NOON), stamp(NOON))
    assert status.attempts[0].job == "report-0f3ab-1"
    assert status.crew is not None and plan.start.payload is not None
    assert status.crew.digest == plan.start.payload.digest
    assert reason_of(status, ConditionType.ACCEPTED) == ("True", "Valid")
    assert reason_of(status, ConditionType.ADMITTED) == ("True", "NoQueue")
    assert reason_of(status) == ("Unknown", "Starting")


def test_a_run_that_succeeds_takes_three_writes() -> None:
    """The status with the attempt, its Job, the status with the end: being seen on the way costs none."""
    scene = started()
    scene.pod(PodBuilder())
    assert scene.decide().status in (None, scene.status)
    scene.pod(PodBuilder().running())
    assert scene.decide().status in (None, scene.status)
    scene.pod(PodBuilder().ended(0, SUCCESS))
    plan = scene.decide()
    assert plan.status is not None and plan.status.phase is Phase.SUCCEEDED
    assert plan.again_at is None and plan.start is None and plan.notices == ()


def test_a_success_stands_on_the_resource() -> None:
    scene = running().later(60)
    scene.pod(PodBuilder().ended(0, SUCCESS, at=scene.now)).settle()
    status = scene.status
    assert reason_of(status) == ("True", "Completed")
    assert (status.progress, status.completion_time) == ("2/2", stamp(scene.now))
    assert status.output is not None and status.output.value == "Bees fly."
    assert status.usage is not None and (status.usage.total_tokens, status.usage.incomplete) == (100, False)
    (attempt,) = status.attempts
    assert (attempt.pod, attempt.exit_code, attempt.usage) == ("report-0f3ab-1-x0001", 0, status.usage)


def test_a_runner_that_runs_for_a_while_is_shown() -> None:
    scene = started().pod(PodBuilder().running())
    early = scene.decide()
    assert early.status is None and early.again_at == NOON + timedelta(seconds=1)
    scene.later(1).settle()
    assert scene.status.phase is Phase.RUNNING
    assert (scene.status.attempts[0].pod, scene.status.attempts[0].running_time) == (
        "report-0f3ab-1-x0001",
        stamp(NOON),
    )


def test_a_runner_that_was_started_late_and_is_over_in_a_moment_is_not_shown() -> None:
    scene = started().later(60)
    plan = scene.pod(PodBuilder().running(scene.now)).decide()
    assert (plan.status, plan.again_at) == (None, scene.now + timedelta(seconds=1))
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now))
    plan = scene.decide()
    assert plan.status is not None and plan.status.phase is Phase.SUCCEEDED


def test_many_runs_share_what_showing_progress_may_cost() -> None:
    scene = started().pod(PodBuilder().running())
    for number in range(99):
        scene.other(f"r-{number}", {"phase": "Running"})
    plan = scene.later(9).decide()
    assert (plan.status, plan.again_at) == (None, NOON + timedelta(seconds=10)), "ten writes a second for a hundred"
    plan = scene.later(1).decide()
    assert plan.status is not None and plan.status.phase is Phase.RUNNING


# refusals


def test_a_refused_run_waits_and_starts_when_it_is_mended() -> None:
    scene = Scene()
    scene.store.drop_crew(CrewBuilder().build())
    plan = scene.decide()
    assert plan.start is None and plan.status is not None and plan.status.attempt_count == 0
    assert [(each.type, each.reason) for each in plan.notices] == [("Warning", "NotAccepted")]
    scene.carry_out(plan)
    assert scene.status.phase is Phase.PENDING
    assert reason_of(scene.status, ConditionType.ACCEPTED) == ("False", "CrewNotFound")
    assert reason_of(scene.status, ConditionType.ADMITTED) == ("False", "NotAccepted")

    again = scene.later(60).decide()
    assert (again.status, again.notices) == (scene.status, ()), "it is told once"

    assert scene.store.put_crew(CrewBuilder().build()) == [scene.key]
    assert scene.carry_out(scene.decide()).made == ["report-0f3ab-1"]
    assert reason_of(scene.status, ConditionType.ACCEPTED) == ("True", "Valid")


def test_a_refusal_for_another_reason_is_told_again() -> None:
    scene = Scene()
    scene.store.drop_crew(CrewBuilder().build())
    scene.carry_out(scene.decide())
    scene.store.put_crew(CrewBuilder().definition(agents={}).build())
    assert [each.reason for each in scene.decide().notices] == ["NotAccepted"]


# retries


def test_a_failed_attempt_is_followed_by_another_in_its_time() -> None:
    scene = running().later(3)
    plan = fail(scene, 1, Reason.LLM_UNAVAILABLE)
    assert [(each.type, each.reason) for each in plan.notices] == [("Warning", "AttemptFailed")]
    assert scene.status.phase is Phase.BACKING_OFF
    assert scene.status.next_attempt_time is not None
    due = parse(scene.status.next_attempt_time)
    assert timedelta(seconds=1) <= due - scene.now <= timedelta(seconds=2)
    assert plan.again_at == due
    assert reason_of(scene.status) == ("Unknown", "LLMUnavailable")

    waiting = scene.decide()
    assert (waiting.status, waiting.start, waiting.again_at) == (None, None, due)
    scene.now = due
    scene.carry_out(scene.decide())
    assert scene.made == ["report-0f3ab-1", "report-0f3ab-2"]
    assert (scene.status.phase, scene.status.next_attempt_time) == (Phase.STARTING, None)

    scene.pod(PodBuilder(2).ended(0, RecordBuilder(2).text())).settle()
    assert attempts(scene) == [(1, "Failed", "LLMUnavailable"), (2, "Succeeded", "Completed")]
    assert scene.status.usage is not None and scene.status.usage.total_tokens == 200
    assert scene.status.start_time == stamp(NOON), "the run's, not the attempt's"


def test_a_run_that_always_fails_ends_after_its_attempts() -> None:
    scene = running(retry={"maxAttempts": 3, "backoff": {"initialSeconds": 0}})
    for number in (1, 2, 3):
        plan = fail(scene, number)
        scene.settle()
    assert [(each.type, each.reason) for each in plan.notices] == [("Warning", "TaskFailed")]
    assert len(scene.made) == 3
    assert scene.status.phase is Phase.FAILED
    assert reason_of(scene.status) == ("False", "TaskFailed")
    assert reason_of(scene.status, ConditionType.STALLED) == ("True", "TaskFailed")
    told = condition(scene.status, ConditionType.SUCCEEDED)
    want_message = "attempt 3 was the last of 3 attempts: TaskFailed: task facts raised"
    assert told is not None and told.message == want_message
    assert scene.decide() == Plan(), "nothing more to do"


def test_the_provider_may_ask_for_a_longer_wait() -> None:
    scene = running()
    record = RecordBuilder().failed(Reason.LLM_RATE_LIMITED, exit_code=ExitCode.LLM_RETRYABLE, retry_after_seconds=90)
    scene.pod(PodBuilder().ended(20, record.text(), at=scene.now)).settle()
    assert scene.status.next_attempt_time == stamp(scene.now + timedelta(seconds=90))


@pytest.mark.parametrize("reason", ["LLMAuthentication", "InvalidCrew", "InputRequired", "BudgetExceeded"])
def test_a_reason_that_no_retry_mends_ends_the_run(reason: str) -> None:
    scene = running()
    fail(scene, 1, Reason(reason))
    assert (scene.status.phase, scene.status.next_attempt_time) == (Phase.FAILED, None)
    assert reason_of(scene.status) == ("False", reason)


def test_disruptions_are_counted_apart_from_attempts() -> None:
    scene = running(retry={"maxAttempts": 1, "maxDisruptions": 2, "backoff": {"initialSeconds": 0}})
    for number in (1, 2):
        scene.pod(PodBuilder(number).running().disrupted("EvictionByEvictionAPI").deleting().ended(137)).settle()
    assert (scene.status.disruptions, scene.status.attempt_count, scene.status.phase) == (2, 3, Phase.STARTING)
    fail(scene, 3)
    assert scene.status.phase is Phase.FAILED
    assert scene.status.usage is not None and scene.status.usage.incomplete, "what the first two spent is not known"


def test_too_many_disruptions_end_the_run() -> None:
    scene = running(retry={"maxDisruptions": 1, "backoff": {"initialSeconds": 0}})
    for number in (1, 2):
        scene.pod_gone(PodBuilder(number).running()).settle()
    assert (scene.status.phase, scene.status.disruptions) == (Phase.FAILED, 2)
    assert reason_of(scene.status) == ("False", "PodDeleted")


def test_a_runner_that_exits_0_without_a_record_is_no_success() -> None:
    scene = running()
    scene.pod(PodBuilder().ended(0, at=scene.now)).settle()
    assert attempts(scene) == [(1, "Failed", "RunnerLost")]
    assert scene.status.phase is Phase.BACKING_OFF


def test_a_node_whose_clock_is_ahead_delays_nothing() -> None:
    scene = running()
    scene.pod(PodBuilder().ended(30, failure(), at=scene.now + timedelta(hours=1))).settle()
    assert scene.status.attempts[0].completion_time == stamp(scene.now)
    assert scene.status.next_attempt_time is not None
    assert parse(scene.status.next_attempt_time) - scene.now <= timedelta(seconds=2)


def test_a_restart_finds_the_same_time_for_the_next_attempt() -> None:
    def due(after: float) -> str | None:
        scene = running()
        scene.pod(PodBuilder().ended(30, failure(), at=scene.now))
        plan = scene.restart().later(after).decide()
        return plan.status and plan.status.next_attempt_time

    assert due(0) == due(0.4)


# cancel


def cancelled_by(scene: Scene) -> Plan:
    return scene.edit(cancel=True).settle()


@pytest.mark.parametrize("phase", ["unseen", "pending", "backing off"])
def test_a_run_without_an_open_attempt_is_cancelled_at_once(phase: str) -> None:
    scene = Scene()
    if phase == "pending":
        scene.store.drop_crew(CrewBuilder().build())
        scene.settle()
    if phase == "backing off":
        scene = running()
        fail(scene, 1)
    cancelled_by(scene)
    assert (scene.status.phase, scene.status.next_attempt_time) == (Phase.CANCELLED, None)
    assert reason_of(scene.status) == ("False", "Cancelled")
    assert reason_of(scene.status, ConditionType.STALLED) == ("False", "Cancelled")
    assert scene.status.observed_generation == 2


def test_a_run_whose_job_has_no_pod_yet_is_cancelled_by_its_job() -> None:
    scene = started()
    plan = cancelled_by(scene)
    assert (scene.status.phase, plan.stop and plan.stop.job, plan.stop and plan.stop.pod) == (
        Phase.CANCELLING,
        "report-0f3ab-1",
        None,
    )
    scene.job_gone(1).settle()
    assert scene.status.phase is Phase.CANCELLED
    assert attempts(scene) == [(1, "Stopped", "Cancelled")]
    assert scene.status.usage is None, "nothing ran"


def test_a_running_run_is_cancelled_by_its_pod_and_keeps_what_its_record_says() -> None:
    scene = running()
    plan = cancelled_by(scene)
    assert scene.status.phase is Phase.CANCELLING
    assert plan.stop is not None and plan.stop.pod == "report-0f3ab-1-x0001" and plan.stop.pod_uid
    scene.pod(PodBuilder().running().deleting())
    assert scene.decide().stop is None, "it is told once"
    scene.pod(PodBuilder().deleting().ended(50, RecordBuilder().stopped().text())).settle()
    assert scene.status.phase is Phase.CANCELLED
    assert scene.status.usage is not None and scene.status.usage.total_tokens == 100
    assert len(scene.made) == 1


def test_a_success_is_stronger_than_a_cancel_that_came_too_late() -> None:
    scene = running()
    cancelled_by(scene)
    scene.pod(PodBuilder().deleting().ended(0, SUCCESS)).settle()
    assert scene.status.phase is Phase.SUCCEEDED


def test_a_failure_while_cancelling_is_a_cancel() -> None:
    scene = running()
    cancelled_by(scene)
    fail(scene, 1)
    assert scene.status.phase is Phase.CANCELLED
    assert attempts(scene) == [(1, "Failed", "TaskFailed")]


@pytest.mark.parametrize("text", [SUCCESS, failure(Reason.INVALID_CREW)], ids=["succeeded", "failed"])
def test_an_ended_run_is_not_cancelled(text: str) -> None:
    scene = running()
    scene.pod(PodBuilder().ended(0, text)).settle()
    before = scene.status
    cancelled_by(scene)
    assert as_it_was(scene.status) == as_it_was(before)
    assert scene.status.observed_generation == 2, "the edit was seen, which is all"


# time


def test_a_run_out_of_time_is_stopped_and_fails() -> None:
    scene = running(timeoutSeconds=60)
    assert scene.decide().again_at == NOON + timedelta(seconds=60)
    scene.later(60).settle()
    assert scene.status.phase is Phase.CANCELLING
    scene.pod_gone(PodBuilder().ended(50, RecordBuilder().stopped().text())).settle()
    assert reason_of(scene.status) == ("False", "TimedOut")
    assert scene.status.phase is Phase.FAILED


def test_a_pod_that_its_job_ended_at_the_deadline_was_not_deleted_by_somebody_though_the_job_is_seen_later() -> None:
    scene = running()
    scene._jobs[1] = scene._job(1).condition("FailureTarget", "DeadlineExceeded").build()  # nothing tells the operator
    scene.pod_gone(PodBuilder().deleting().ended(143, at=scene.now)).settle()
    assert attempts(scene) == [(1, "Failed", "AttemptTimedOut")]
    assert (scene.status.disruptions, scene.status.counted_attempts) == (0, 1)


def test_a_run_out_of_time_while_it_backs_off_fails_at_once() -> None:
    scene = running(timeoutSeconds=60, retry={"backoff": {"initialSeconds": 300}})
    fail(scene, 1)
    assert scene.decide().again_at == NOON + timedelta(seconds=60), "the limit comes before the next attempt"
    scene.later(60).settle()
    assert (scene.status.phase, len(scene.made)) == (Phase.FAILED, 1)
    assert reason_of(scene.status) == ("False", "TimedOut")


@pytest.mark.parametrize(
    ("pod", "want_reason"),
    [
        pytest.param(PodBuilder().unschedulable(), "Unschedulable", id="no node"),
        pytest.param(PodBuilder().waiting("ImagePullBackOff"), "ImageUnavailable", id="no image"),
        pytest.param(PodBuilder().waiting("CreateContainerConfigError"), "MissingSecret", id="no Secret"),
    ],
)
def test_an_attempt_that_cannot_start_waits_and_then_fails(pod: PodBuilder, want_reason: str) -> None:
    scene = started(Scene(RunBuilder().spec(startDeadlineSeconds=120).build()))
    plan = scene.pod(pod).settle()
    assert scene.status.phase is Phase.STARTING
    assert reason_of(scene.status) == ("Unknown", want_reason), "told at once, since somebody may act on it"
    assert plan.again_at is not None and plan.again_at <= NOON + timedelta(seconds=120)

    scene.later(120).settle()
    assert scene.deleted[-1] == "report-0f3ab-1-x0001"
    scene.pod_gone(pod).settle()
    assert scene.status.phase is Phase.FAILED
    assert reason_of(scene.status) == ("False", want_reason)


@pytest.mark.parametrize("pod", [None, PodBuilder().waiting("ContainerCreating")], ids=["no Pod", "being created"])
def test_an_attempt_that_nobody_knows_the_fault_of_fails_at_the_same_deadline(pod: PodBuilder | None) -> None:
    scene = started()
    if pod:
        scene.pod(pod)
    assert scene.later(1).settle().again_at == NOON + timedelta(seconds=10)
    assert scene.later(9).settle().again_at == NOON + timedelta(seconds=600)
    scene.later(590).settle()
    assert scene.status.phase is Phase.CANCELLING
    assert scene.deleted


def test_where_many_runs_start_slowly_each_of_them_says_so_later() -> None:
    scene = started().pod(PodBuilder().waiting("ContainerCreating"))
    for number in range(99):
        scene.other(f"r-{number}", {"phase": "Starting"})
    plan = scene.later(99).decide()
    assert (plan.status, plan.again_at) == (scene.status, NOON + timedelta(seconds=100))
    scene.later(1).settle()
    told = condition(scene.status, ConditionType.SUCCEEDED)
    assert told is not None and "is being created; if this lasts" in told.message


def test_a_pod_that_goes_no_longer_says_what_it_lacked_and_the_run_still_does() -> None:
    scene = started(Scene(RunBuilder().spec(startDeadlineSeconds=60).build())).later(60)
    scene.pod(PodBuilder().waiting("ErrImagePull", "connection refused")).settle()
    scene.later(1).pod(PodBuilder().waiting("ContainerCreating").deleting()).settle()
    scene.job_gone(1).pod_gone(PodBuilder().waiting("ContainerCreating").deleting()).settle()
    assert scene.status.phase is Phase.FAILED
    assert reason_of(scene.status) == ("False", "ImageUnavailable")
    assert "connection refused" in (scene.status.attempts[0].message or "")


def test_a_secret_that_appears_lets_the_attempt_go_on() -> None:
    scene = started().pod(PodBuilder().waiting("CreateContainerConfigError"))
    scene.settle()
    scene.later(300).pod(PodBuilder().running(scene.now)).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.RUNNING, 1)
    assert scene.later(600).settle().stop is None, "the start deadline is behind it"


@pytest.mark.parametrize(
    ("run_ttl", "profile_ttl", "want_after"),
    [(60, None, 60), (0, 600, 0), (None, 60, 60), (None, None, None)],
    ids=["the run's", "the run's 0 over the crew's", "the crew's", "none"],
)
def test_an_ended_run_is_deleted_after_its_time_to_live(
    run_ttl: int | None, profile_ttl: int | None, want_after: int | None
) -> None:
    spec = {} if run_ttl is None else {"ttlSecondsAfterFinished": run_ttl}
    crew = CrewBuilder() if profile_ttl is None else CrewBuilder().spec(ttlSecondsAfterFinished=profile_ttl)
    scene = started(Scene(RunBuilder().spec(**spec).build(), crew.build()))
    scene.pod(PodBuilder().ended(0, SUCCESS))
    scene.carry_out(scene.decide())
    if want_after is None:
        assert scene.later(10**8).decide() == Plan()
        return
    if want_after:
        assert scene.decide() == Plan(again_at=NOON + timedelta(seconds=want_after))
    assert scene.later(want_after).decide() == Plan(delete_run=True)


@pytest.mark.parametrize("seconds", [0, 5])
def test_the_time_to_live_may_be_changed_after_the_end(seconds: int) -> None:
    scene = started(Scene(RunBuilder().spec(ttlSecondsAfterFinished=600).build())).pod(PodBuilder().ended(0, SUCCESS))
    scene.settle()
    scene.edit(ttlSecondsAfterFinished=seconds)
    assert scene.later(seconds).decide().delete_run


def test_nothing_is_started_for_a_run_that_is_being_deleted() -> None:
    assert Scene(RunBuilder().deleting().build()).decide() == Plan()
    scene = running()
    run = RunBuilder().status(scene.status).deleting().at(9999).build()
    scene.store.put_run(run)
    scene.pod_gone(PodBuilder().running())
    assert scene.decide() == Plan()


# crashes, and what people delete


def test_a_crash_between_status_and_job_is_made_up_for_after_a_live_look() -> None:
    scene = Scene()
    scene.carry_out(scene.decide(), without_job=True)
    assert scene.restart().decide() == Plan(confirm=1), "absence is never believed from the store alone"
    scene.confirm(1)
    plan = scene.decide()
    assert plan.start is not None and (plan.start.number, plan.status) == (1, None)


def test_a_job_that_is_found_again_is_not_made_again() -> None:
    scene = started().restart()
    assert scene.settle().start is None
    assert scene.made == ["report-0f3ab-1"]


def test_a_job_that_was_deleted_with_its_runner_is_a_disruption() -> None:
    scene = running()
    scene.job_gone(1).pod_gone(PodBuilder().running()).settle()
    assert attempts(scene) == [(1, "Failed", "JobDeleted")]
    assert scene.status.disruptions == 1


def test_a_job_that_was_deleted_while_nobody_looked_is_a_disruption() -> None:
    scene = running()
    scene.job_gone(1).pod_gone(PodBuilder().running()).restart()
    assert scene.decide() == Plan(confirm=1)
    scene.settle()
    assert attempts(scene) == [(1, "Failed", "JobDeleted")]
    assert (scene.status.phase, scene.status.disruptions) == (Phase.BACKING_OFF, 1)


def test_a_record_in_a_deleted_event_still_counts() -> None:
    scene = running()
    scene.job_gone(1).pod_gone(PodBuilder().ended(0, SUCCESS)).settle()
    assert scene.status.phase is Phase.SUCCEEDED


def test_a_job_that_ended_without_a_pod_is_looked_up_before_anything_is_concluded() -> None:
    scene = running().restart()
    state = scene.store._states[scene.run["metadata"]["uid"]]
    state.pods.clear()
    scene.job_ends(1)
    assert scene.decide() == Plan(confirm=1)
    scene.settle()
    assert attempts(scene) == [(1, "Failed", "RunnerLost")]


def test_a_job_that_ends_before_its_pod_is_seen_to_waits_for_the_pod() -> None:
    scene = running()
    scene.job_ends(1)
    scene.settle()
    assert attempts(scene) == [(1, None, None)], "an attempt is over when its Pod is"
    scene.pod(PodBuilder().ended(0, SUCCESS)).settle()
    assert scene.status.phase is Phase.SUCCEEDED


def test_another_pod_of_the_attempt_does_not_speak_for_the_recorded_one() -> None:
    scene = running()
    scene.pod(PodBuilder(1, execution=2).ended(0, RecordBuilder(1, 2).text()))
    scene.settle()
    assert attempts(scene) == [(1, None, None)]


@pytest.mark.parametrize("job_gone", [False, True], ids=["with its Job", "its Job gone"])
def test_a_crew_that_changes_between_attempts_changes_nothing_that_runs(job_gone: bool) -> None:
    scene = running(retry={"backoff": {"initialSeconds": 0}})
    scene.pod(PodBuilder().ended(30, failure(), at=scene.now))
    scene.carry_out(scene.decide()).edit_crew()
    if job_gone:
        scene.job_gone(1)
    plan = scene.decide()
    if not job_gone:
        assert plan.start is not None
        assert (plan.start.number, plan.start.payload, plan.start.like) == (2, None, "report-0f3ab-1")
        return
    assert plan.start is None
    scene.carry_out(plan)
    assert scene.status.phase is Phase.FAILED
    assert reason_of(scene.status) == ("False", "CrewChanged")
    assert attempts(scene) == [(1, "Failed", "TaskFailed"), (2, "Failed", "CrewChanged")]


def test_settings_that_change_while_a_run_lives_change_nothing() -> None:
    scene = started(Scene(crew=CrewBuilder().spec(retry={"maxAttempts": 1}).build()))
    scene.store.put_crew(CrewBuilder().spec(retry={"maxAttempts": 9}).at(999).build())
    scene.later(5)
    fail(scene, 1)
    assert scene.status.phase is Phase.FAILED


def test_a_job_that_the_api_server_refuses_ends_the_run() -> None:
    scene = Scene()
    scene.carry_out(scene.decide(), without_job=True).refuse(1, Reason.JOB_REJECTED, "spec.image: Invalid value")
    scene.settle()
    assert reason_of(scene.status) == ("False", "JobRejected")
    told = condition(scene.status, ConditionType.SUCCEEDED)
    assert told is not None and "spec.image: Invalid value" in told.message
    assert scene.status.usage is None


def test_a_job_that_a_quota_holds_back_is_tried_again() -> None:
    scene = Scene()
    scene.carry_out(scene.decide(), without_job=True).refuse(1, Reason.JOB_REJECTED, "exceeded quota", again=True)
    scene.carry_out(scene.decide())
    plan = scene.decide()
    assert plan.start is not None and plan.status is not None
    assert reason_of(plan.status) == ("Unknown", "JobRejected")
    assert plan.status.attempts[0].outcome is None


def test_an_attempt_that_ended_is_counted_once_however_often_it_is_seen() -> None:
    scene = running()
    ended = PodBuilder().ended(0, SUCCESS)
    scene.pod(ended).settle()
    before = scene.status
    scene.pod(ended).settle()
    scene.pod_gone(ended).settle()
    assert scene.status == before


def test_a_pod_that_outlives_its_attempt_loses_its_job() -> None:
    scene = running()
    fail(scene, 1)
    scene.pod(PodBuilder(1, execution=2).running())
    plan = scene.decide()
    assert plan.stop is not None and (plan.stop.job, plan.stop.pod) == ("report-0f3ab-1", None)
    assert plan.status is None


def test_an_outcome_that_says_stopped_by_nobody_is_a_disruption() -> None:
    scene = running()
    scene.pod(PodBuilder().ended(50, RecordBuilder().stopped().text(), at=scene.now)).settle()
    assert attempts(scene) == [(1, Outcome.STOPPED, Reason.CANCELLED)]
    assert (scene.status.phase, scene.status.disruptions) == (Phase.BACKING_OFF, 1)


def test_a_status_of_many_attempts_stays_under_10_kb() -> None:
    scene = running(retry={"maxAttempts": 12, "backoff": {"initialSeconds": 0}})
    for number in range(1, 13):
        text = failure(attempt=number, message="task facts: " + "e" * 2000)
        scene.pod(PodBuilder(number).ended(30, text, at=scene.now)).settle()
    assert scene.status.phase is Phase.FAILED
    assert len(scene.status.attempts) == 10
    assert len(scene.status.model_dump_json(by_alias=True, exclude_none=True)) <= 10_000


def test_an_attempt_that_is_over_at_once_names_its_pod_too() -> None:
    scene = started()
    scene.pod(PodBuilder().ended(0, SUCCESS)).settle()
    (attempt,) = scene.status.attempts
    assert (attempt.pod, attempt.pod_uid, attempt.running_time is None) == ("report-0f3ab-1-x0001", pod_uid(1), False)


def test_a_stray_whose_job_is_gone_is_ended_itself() -> None:
    scene = running()
    fail(scene, 1)
    scene.pod(PodBuilder(1, execution=2).running()).job_gone(1)
    plan = scene.decide()
    assert plan.stop is not None and plan.stop.pod_uid == pod_uid(1, 2)


def test_a_pod_that_took_the_place_of_the_recorded_one_does_not_speak_for_the_attempt() -> None:
    scene = running().pod_gone(PodBuilder().running()).restart()
    scene.pod(PodBuilder(1, execution=2).ended(0, RecordBuilder(execution=2).text()))
    assert scene.decide() == Plan(confirm=1)
    scene.settle()
    assert attempts(scene) == [(1, "Failed", "PodDeleted")]
    assert scene.status.phase is Phase.BACKING_OFF


def test_a_run_that_is_cancelled_while_its_pod_is_killed_was_stopped_and_not_disrupted() -> None:
    scene = running()
    cancelled_by(scene)
    scene.pod(PodBuilder().deleting().ended(137)).settle()
    assert attempts(scene) == [(1, "Stopped", "Cancelled")]
    assert scene.status.disruptions == 0
    assert scene.status.usage is not None and scene.status.usage.incomplete


def test_a_quota_that_holds_a_job_back_too_long_is_what_the_run_fails_for() -> None:
    scene = Scene()
    scene.carry_out(scene.decide(), without_job=True).refuse(1, Reason.JOB_REJECTED, "exceeded quota", again=True)
    scene.later(601).settle()
    assert reason_of(scene.status) == ("False", "JobRejected")
    told = condition(scene.status, ConditionType.SUCCEEDED)
    assert told is not None and "exceeded quota" in told.message


def test_a_runner_that_the_runtime_cannot_start_fails_with_the_runtime_s_words() -> None:
    scene = started()
    words = 'exec: "python3": executable file not found'
    scene.pod(PodBuilder().ended(128, words, reason="StartError")).settle()
    assert attempts(scene) == [(1, "Failed", "RunnerCrashed")]
    assert words in (scene.status.attempts[0].message or "")


def test_a_later_attempt_takes_its_payload_from_the_newest_job_that_is_left() -> None:
    scene = running(retry={"maxAttempts": 5, "backoff": {"initialSeconds": 0}})
    fail(scene, 1)
    scene.settle()
    fail(scene, 2)
    scene.edit_crew().job_gone(2)
    plan = scene.later(5).decide()
    assert plan.start is not None and (plan.start.number, plan.start.like) == (3, "report-0f3ab-1")

"""What people change while a run lives, and after: suspend, go on, rerun, edit."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason
from crewrun_operator.status import condition
from crewrun_operator.times import stamp
from tests.unit.builders import (
    CrewBuilder,
    PodBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    as_it_was,
)


def running(**spec: Any) -> Scene:
    scene = Scene(RunBuilder().spec(**spec).build())
    scene.carry_out(scene.decide()).later(5)
    scene.pod(PodBuilder().running()).settle()
    return scene.later(5)


def succeeded(**spec: Any) -> Scene:
    scene = running(**spec)
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)).settle()
    return scene


def failed(**spec: Any) -> Scene:
    scene = running(retry={"maxAttempts": 1}, **spec)
    scene.pod(PodBuilder().ended(30, RecordBuilder().failed().text(), at=scene.now)).settle()
    return scene


def suspended(**spec: Any) -> Scene:
    """A run whose runner was told to stop, and did."""
    scene = running(**spec).report(ReportBuilder())
    scene.edit(suspend=True).settle()
    scene.report(ReportBuilder(sequence=2).outcome(RecordBuilder().stopped(Reason.SUSPENDED)))
    scene.settle()
    scene.pod(PodBuilder().ended(50, RecordBuilder().stopped(Reason.SUSPENDED).text(), at=scene.now)).settle()
    return scene


def value_of(scene: Scene, type_: ConditionType) -> tuple[str, str] | None:
    found = condition(scene.status, type_)
    return (found.status, found.reason) if found else None


# suspend


def test_a_run_that_is_suspended_before_it_begins_waits() -> None:
    scene = Scene(RunBuilder().spec(suspend=True).build())
    plan = scene.settle()
    assert (scene.status.phase, scene.status.attempt_count, plan.start) == (Phase.SUSPENDED, 0, None)
    assert value_of(scene, ConditionType.RECONCILING) == ("False", "Suspended")
    scene.edit(suspend=False).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 1)


def test_what_is_wrong_with_a_suspended_run_is_told_before_it_goes_on() -> None:
    scene = Scene(RunBuilder().spec(suspend=True, inputs={}).build())
    scene.settle()
    assert (scene.status.phase, value_of(scene, ConditionType.ACCEPTED)) == (Phase.PENDING, ("False", "InvalidInputs"))
    scene.edit(inputs={"topic": "bees"}).settle()
    assert (scene.status.phase, value_of(scene, ConditionType.ACCEPTED)) == (Phase.SUSPENDED, ("True", "Valid"))


def test_a_suspended_run_that_has_not_begun_takes_its_crew_as_it_is_when_it_goes_on() -> None:
    scene = Scene(RunBuilder().spec(suspend=True).build())
    scene.settle()
    scene.edit_crew().edit(suspend=False).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 1)


def test_a_running_run_is_told_to_stop_and_is_suspended_when_it_has() -> None:
    scene = running().report(ReportBuilder())
    scene.edit(suspend=True).settle()
    assert (scene.status.phase, scene.deleted) == (Phase.RUNNING, [])
    assert value_of(scene, ConditionType.SUCCEEDED) == ("Unknown", "Suspended")
    scene = suspended()
    status = scene.status
    assert (status.phase, status.suspend_time) == (Phase.SUSPENDED, stamp(scene.now))
    assert [(each.outcome, each.reason) for each in status.attempts] == [(Outcome.STOPPED, Reason.SUSPENDED)]
    assert (status.counted_attempts, status.disruptions) == (0, 0), "counted as neither"


def test_a_suspended_run_goes_on_as_a_new_attempt_from_the_checkpoint() -> None:
    scene = suspended().later(600)
    scene.edit(suspend=False)
    scene.carry_out(scene.decide())
    assert (scene.status.suspended_seconds, scene.status.suspend_time) == (600, None)
    plan = scene.decide()
    assert plan.start is not None and (plan.start.number, plan.start.checkpoint_since) == (2, 1)


def test_suspended_time_is_not_counted_for_the_time_limit() -> None:
    scene = suspended(timeoutSeconds=100).later(3600)
    assert scene.settle().again_at is None and scene.status.phase is Phase.SUSPENDED
    scene.edit(suspend=False).settle()
    assert scene.status.phase is Phase.STARTING
    scene.later(80)
    assert scene.settle().status is None or scene.status.phase is not Phase.FAILED
    scene.later(20).settle()
    assert value_of(scene, ConditionType.SUCCEEDED) == ("Unknown", "TimedOut")


def test_a_run_that_backs_off_keeps_its_time_while_it_is_suspended() -> None:
    scene = running(retry={"backoff": {"initialSeconds": 300}})
    scene.pod(PodBuilder().ended(30, RecordBuilder().failed().text(), at=scene.now)).settle()
    due = scene.status.next_attempt_time
    scene.edit(suspend=True).settle()
    assert (scene.status.phase, scene.status.next_attempt_time) == (Phase.SUSPENDED, due)
    scene.later(10).edit(suspend=False).settle()
    assert (scene.status.phase, scene.status.next_attempt_time) == (Phase.BACKING_OFF, due)


def test_a_failure_while_it_is_told_to_stop_is_a_failure() -> None:
    scene = running().report(ReportBuilder())
    scene.edit(suspend=True).settle()
    scene.pod(PodBuilder().ended(20, RecordBuilder().failed(Reason.LLM_UNAVAILABLE).text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.counted_attempts) == (Phase.SUSPENDED, 1)
    assert scene.status.next_attempt_time is not None
    scene = running(retry={"maxAttempts": 1})
    scene.edit(suspend=True).settle()
    scene.pod(PodBuilder().ended(20, RecordBuilder().failed(Reason.LLM_UNAVAILABLE).text(), at=scene.now)).settle()
    assert scene.status.phase is Phase.FAILED


def test_a_wish_that_is_taken_back_before_the_runner_has_stopped_costs_no_attempt() -> None:
    scene = running().report(ReportBuilder())
    scene.edit(suspend=True).settle()
    scene.edit(suspend=False).settle()
    scene.pod(PodBuilder().ended(50, RecordBuilder().stopped(Reason.SUSPENDED).text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 2)
    assert (scene.status.counted_attempts, scene.status.disruptions) == (0, 0)


def test_a_wish_that_is_taken_back_before_the_runner_was_told_leaves_no_trace() -> None:
    scene = running().report(ReportBuilder())
    scene.edit(suspend=True).settle()
    assert scene.status.attempts[0].stop_time == stamp(scene.now)
    scene.later(2).edit(suspend=False).report(ReportBuilder(sequence=2)).settle()
    (attempt,) = scene.status.attempts
    assert (attempt.stop_time, attempt.reason, attempt.message) == (None, None, None)
    scene.later(100).report(ReportBuilder(sequence=3)).edit(cancel=True).settle()
    assert scene.deleted == [], "a later wish has a grace period of its own"


@pytest.mark.parametrize("change", [{"cancel": True}, {"suspend": True}], ids=["cancel", "suspend"])
def test_a_success_is_stronger_than_a_wish_that_came_too_late(change: dict[str, bool]) -> None:
    scene = running().report(ReportBuilder())
    scene.edit(**change).settle()
    scene.report(ReportBuilder(sequence=2).outcome(RecordBuilder())).settle()
    assert scene.status.phase is Phase.SUCCEEDED


def test_a_suspended_run_can_be_cancelled() -> None:
    scene = suspended()
    scene.edit(cancel=True).settle()
    assert scene.status.phase is Phase.CANCELLED


# rerun


def test_a_run_that_failed_starts_again_and_goes_on_from_its_checkpoint() -> None:
    scene = failed()
    used = scene.status.usage
    scene.later(60).edit(rerun="1")
    plan = scene.decide()
    assert plan.start is not None and plan.status is not None
    assert (plan.start.number, plan.start.checkpoint_since) == (2, 1)
    status = plan.status
    assert (status.phase, status.rerun, status.counted_attempts) == (Phase.STARTING, "1", 0)
    assert (status.start_time, status.completion_time, status.output) == (stamp(scene.now), None, None)
    assert status.usage == used, "what was spent stays"
    assert value_of(scene.carry_out(plan), ConditionType.SUCCEEDED) == ("Unknown", "Starting")


def test_a_run_that_succeeded_starts_again_from_scratch_and_never_takes_the_old_outputs() -> None:
    scene = succeeded().edit(rerun="again")
    plan = scene.decide()
    assert plan.start is not None and plan.status is not None
    assert (plan.start.number, plan.start.checkpoint_since) == (2, None)
    assert (plan.status.output, plan.status.tasks, plan.status.progress) == (None, [], "0/2")
    scene.carry_out(plan)
    scene.pod(PodBuilder(2).ended(30, RecordBuilder(2).failed().text(), at=scene.now)).settle()
    third = scene.later(60).decide()
    assert third.start is not None and (third.start.number, third.start.checkpoint_since) == (3, 2)


def test_a_rerun_takes_crew_and_profile_as_they_are_then() -> None:
    scene = failed()
    digest = scene.status.crew and scene.status.crew.digest
    scene.edit_crew().edit(rerun="1").settle()
    assert scene.status.crew is not None and scene.status.crew.digest != digest
    assert scene.status.attempt_count == 2


def test_a_rerun_of_a_crew_that_no_longer_fits_waits_until_it_is_mended() -> None:
    scene = failed()
    scene.store.put_crew(CrewBuilder().definition(agents={}).at(500).build())
    scene.edit(rerun="1").settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.PENDING, 1)
    assert value_of(scene, ConditionType.ACCEPTED) == ("False", "InvalidCrew")
    scene.store.put_crew(CrewBuilder().at(600).build())
    scene.settle()
    assert scene.status.attempt_count == 2


@pytest.mark.parametrize("made_with", ["1", None])
def test_a_value_that_was_there_while_the_run_lived_starts_nothing(made_with: str | None) -> None:
    scene = running(rerun=made_with)
    if made_with is None:
        scene.edit(rerun="1").settle()
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.rerun) == (Phase.SUCCEEDED, "1")
    scene.later(60).settle()
    assert scene.status.attempt_count == 1
    scene.edit(rerun="2").settle()
    assert scene.status.attempt_count == 2


@pytest.mark.parametrize("value", ["", None])
def test_no_value_is_no_new_value(value: str | None) -> None:
    scene = succeeded(rerun="1")
    before = scene.status
    scene.edit(rerun=value).settle()
    assert as_it_was(scene.status) == as_it_was(before)


def test_a_rerun_waits_for_the_execution_before_to_be_gone() -> None:
    scene = running().report(ReportBuilder().outcome(RecordBuilder()))
    scene.settle()
    scene.edit(rerun="1").settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.SUCCEEDED, 1)
    scene.pod(PodBuilder().ended(0, RecordBuilder().text(), at=scene.now)).settle()
    assert (scene.status.phase, scene.status.attempt_count) == (Phase.STARTING, 2)


def test_a_rerun_of_a_run_that_is_still_cancelled_is_cancelled() -> None:
    scene = running().edit(cancel=True)
    scene.pod(PodBuilder().ended(50, RecordBuilder().stopped().text(), at=scene.now)).settle()
    scene.edit(rerun="1").settle()
    assert (scene.status.phase, scene.status.attempt_count, scene.status.rerun) == (Phase.CANCELLED, 1, "1")


def test_the_time_limit_counts_anew_after_a_rerun() -> None:
    scene = failed(timeoutSeconds=100).later(1000)
    scene.edit(rerun="1")
    scene.carry_out(scene.decide())
    plan = scene.settle()
    assert scene.status.phase is Phase.STARTING
    assert plan.again_at is not None and plan.again_at <= scene.now + timedelta(seconds=100)


# edits


@pytest.mark.parametrize(
    ("edit", "want_condition"),
    [
        pytest.param({"inputs": {"topic": "wasps"}}, ("True", "WaitsForRerun"), id="what runs"),
        pytest.param({"ttlSecondsAfterFinished": 60}, None, id="the time to live"),
        pytest.param({"suspend": False}, None, id="nothing"),
    ],
)
@pytest.mark.parametrize("scene", [running, succeeded], ids=["lives", "ended"])
def test_an_edit_of_what_runs_says_that_it_waits(scene: Any, edit: dict[str, Any], want_condition: Any) -> None:
    its: Scene = scene()
    before = its.status
    its.edit(**edit).settle()
    assert value_of(its, ConditionType.SPEC_CHANGED) == want_condition
    assert its.status.observed_generation == 2, "who waits for the edit to be seen goes on"
    assert as_it_was(its.status) == as_it_was(before)


def test_an_edit_that_is_taken_back_is_as_accepted() -> None:
    scene = running()
    scene.edit(inputs={"topic": "wasps"}).settle()
    scene.later(2).edit(inputs={"topic": "bees"}).settle()
    assert value_of(scene, ConditionType.SPEC_CHANGED) == ("False", "AsAccepted")


def test_a_rerun_takes_the_edits_that_waited() -> None:
    scene = failed()
    scene.edit(inputs={"topic": "wasps"}).settle()
    assert value_of(scene, ConditionType.SPEC_CHANGED) == ("True", "WaitsForRerun")
    scene.edit(rerun="1").settle()
    assert value_of(scene, ConditionType.SPEC_CHANGED) is None

"""Runs whose Jobs Kueue admits: what their Jobs carry, how they wait, and how they lose their place."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason
from crewrun_operator.demand import WAITING, state_of
from crewrun_operator.job import build_job
from crewrun_operator.status import condition
from crewrun_operator.times import stamp
from crewrun_operator.views import job_view
from tests.unit.builders import (
    NOON,
    JobBuilder,
    PodBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    a_payload,
    pod_uid,
)

LABELS = {names.LABEL_KUEUE_QUEUE: "gpu", names.LABEL_KUEUE_PRIORITY: "low", "team": "a"}


def scene_of(**spec: Any) -> Scene:
    """A run whose first Job waits for Kueue."""
    scene = Scene(RunBuilder().metadata(labels=LABELS).spec(**spec).build())
    scene.settle()
    return scene


def running(**spec: Any) -> Scene:
    """A run whose Job Kueue let go at once, and whose runner runs."""
    scene = scene_of(**spec).job_goes(1).pod(PodBuilder().running()).later(2)
    scene.settle()
    return scene


def admitted(scene: Scene) -> tuple[str, str]:
    found = condition(scene.status, ConditionType.ADMITTED)
    return (found.status, found.reason) if found else ("", "")


def ended(scene: Scene) -> tuple[Outcome | None, Reason | None]:
    attempt = scene.status.attempts[-1]
    return attempt.outcome, attempt.reason


@pytest.mark.parametrize(
    ("labels", "status", "want_labels", "want_suspend"),
    [
        (LABELS, {}, {names.LABEL_KUEUE_QUEUE: "gpu", names.LABEL_KUEUE_PRIORITY: "low"}, True),
        ({names.LABEL_KUEUE_QUEUE: "gpu"}, {}, {names.LABEL_KUEUE_QUEUE: "gpu"}, True),
        ({names.LABEL_KUEUE_QUEUE: ""}, {}, {}, None),
        ({names.LABEL_KUEUE_PRIORITY: "low"}, {}, {}, None),
        ({}, {}, {}, None),
        (LABELS, {"queue": "lane"}, {}, None),  # it began in a CrewQueue, before it had the label
    ],
)
def test_the_job_of_an_attempt_carries_the_labels_for_kueue_and_begins_suspended(
    labels: dict[str, str], status: dict[str, Any], want_labels: dict[str, str], want_suspend: bool | None
) -> None:
    job = build_job({**RunBuilder().metadata(labels=labels).build(), "status": status}, 1, a_payload())
    found = {key: value for key, value in job["metadata"]["labels"].items() if "kueue" in key}
    assert (found, job["spec"].get("suspend")) == (want_labels, want_suspend)
    assert not any("kueue" in key for key in job["spec"]["template"]["metadata"]["labels"])


def test_the_start_of_a_job_counts_when_its_controller_has_seen_that_it_was_let_go() -> None:
    def seen(labels: dict[str, str], **suspended: str) -> tuple[bool, datetime | None]:
        conditions = [{"type": "Suspended", **suspended}] if suspended else []
        builder = JobBuilder(RunBuilder().metadata(labels=labels).build()).suspend(False)
        builder._document["status"] = {"startTime": stamp(NOON), "conditions": conditions}
        view = job_view(builder.build())
        assert view is not None
        return view.suspended, view.started_at

    assert seen(LABELS) == seen(LABELS, status="False") == seen({}, status="False") == (False, NOON)
    assert seen(LABELS, status="True") == seen({}, status="True") == (True, None)
    assert seen({}) == (False, None)  # it was never held, and nobody is to be woken by its start


def test_a_run_waits_for_kueue_and_one_write_says_so() -> None:
    scene = Scene(RunBuilder().metadata(labels=LABELS).build())
    written = 0
    for _ in range(4):
        plan = scene.decide()
        written += plan.status is not None and plan.status != scene.status
        scene.carry_out(plan)
    assert (written, len(scene.made)) == (1, 1)
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "WaitsForKueue"))
    told = condition(scene.status, ConditionType.ADMITTED)
    assert told is not None and "LocalQueue gpu" in told.message
    assert scene.status.queue is None and state_of(scene.run) == WAITING


def test_a_default_queue_does_not_take_a_run_that_kueue_admits() -> None:
    scene = Scene(RunBuilder().metadata(labels=LABELS).build()).queue(maxConcurrentRuns=1)
    scene.settle()
    assert (scene.status.queue, admitted(scene)) == (None, ("False", "WaitsForKueue"))


def test_both_kinds_of_queue_are_refused_with_the_path_of_the_label() -> None:
    scene = Scene(RunBuilder().metadata(labels=LABELS).spec(queue="lane").build()).queue()
    scene.settle()
    refused = condition(scene.status, ConditionType.ACCEPTED)
    assert refused is not None and (refused.status, refused.reason) == ("False", "InvalidSpec")
    assert refused.message.startswith("metadata.labels[kueue.x-k8s.io/queue-name]: ")
    assert scene.made == []


def test_no_limit_counts_while_kueue_lets_a_run_wait() -> None:
    scene = scene_of(timeoutSeconds=60, startDeadlineSeconds=30).later(3600)
    scene.settle()
    assert scene.status.phase is Phase.QUEUED and scene.deleted == []
    scene.job_goes(1).later(1).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.STARTING, ("True", "AdmittedByKueue"))
    assert (scene.status.suspended_seconds, scene.status.queue_time) == (3600, None)
    scene.pod(PodBuilder().unschedulable()).later(28).settle()
    assert scene.deleted == []
    scene.later(2).settle()
    assert set(scene.deleted) == {scene.made[0]}
    assert scene.status.attempts[-1].reason is Reason.UNSCHEDULABLE


def test_a_job_that_was_let_go_and_is_not_started_yet_meets_no_deadline() -> None:
    scene = scene_of(startDeadlineSeconds=30).later(3600)
    scene._jobs[1] = scene._job(1).suspend(False).build()
    scene.store.put_job(scene._jobs[1])
    scene.settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.STARTING, ("True", "AdmittedByKueue"))
    assert scene.deleted == []


def test_the_time_that_a_run_may_take_goes_on_once_it_runs() -> None:
    scene = scene_of(timeoutSeconds=60).later(3600).job_goes(1).pod(PodBuilder().running(NOON)).later(59)
    scene.settle()
    assert scene.status.phase is Phase.RUNNING and scene.deleted == []
    scene.later(1).settle()
    assert scene.status.attempts[-1].reason is Reason.TIMED_OUT and set(scene.deleted) == {scene.made[0]}


def test_a_run_that_was_admitted_and_ended_unseen_still_says_who_admitted_it() -> None:
    scene = scene_of().later(100).job_goes(1).pod(PodBuilder().ended(0, RecordBuilder().text()))
    scene.settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.SUCCEEDED, ("True", "AdmittedByKueue"))
    assert scene.status.suspended_seconds == 100


@pytest.mark.parametrize(
    ("begins", "want_phase"),
    [
        (lambda scene: scene.pod(PodBuilder().running(scene.now)), Phase.RUNNING),
        (lambda scene: scene.pod(PodBuilder()).report(ReportBuilder()), Phase.RUNNING),
        (lambda scene: scene.pod(ended_after_5_seconds(scene, 0)), Phase.SUCCEEDED),
        (lambda scene: scene.pod(ended_after_5_seconds(scene, 1)), Phase.FAILED),
    ],
    ids=["it runs", "it reports", "it succeeded", "it failed"],
)
def test_a_runner_that_is_seen_before_its_job_says_that_kueue_let_it_go(
    begins: Callable[[Scene], Scene], want_phase: Phase
) -> None:
    scene = begins(scene_of(retry={"maxAttempts": 1}).later(100)).later(5)
    scene.settle()
    scene.job_goes(1).settle()
    assert (scene.status.phase, admitted(scene)) == (want_phase, ("True", "AdmittedByKueue"))
    assert (scene.status.suspended_seconds, scene.status.queue_time) == (100, None)


def ended_after_5_seconds(scene: Scene, code: int) -> PodBuilder:
    record = "" if code else RecordBuilder().text()
    return PodBuilder().ended(code, record, at=scene.now + timedelta(seconds=5))


@pytest.mark.parametrize(
    ("spec", "want_phase"), [({"cancel": True}, Phase.CANCELLED), ({"suspend": True}, Phase.SUSPENDED)]
)
def test_a_run_that_waits_for_kueue_is_stopped_by_deleting_its_job(spec: dict[str, Any], want_phase: Phase) -> None:
    scene = scene_of(timeoutSeconds=60).later(100).edit(**spec)
    scene.settle()
    assert set(scene.deleted) == {scene.made[0]}
    scene.job_gone(1).settle()
    assert scene.status.phase is want_phase and ended(scene)[0] is Outcome.STOPPED
    want_admitted = "NotWaiting" if want_phase is Phase.SUSPENDED else "WaitsForKueue"
    assert admitted(scene) == ("False", want_admitted)
    assert scene.status.suspended_seconds == 100


def test_a_run_goes_on_in_a_new_suspended_job_when_it_is_not_suspended_any_more() -> None:
    scene = scene_of().edit(suspend=True)
    scene.settle()
    scene.job_gone(1).settle()
    scene.edit(suspend=False).settle()
    assert len(scene.made) == 2 and scene.observe().jobs[2].suspended
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "WaitsForKueue"))


def test_a_runner_that_reports_is_told_to_stop_and_then_its_job_is_deleted() -> None:
    scene = running(pod={"terminationGracePeriodSeconds": 30}).report(ReportBuilder()).edit(cancel=True)
    scene.settle()
    assert scene.status.phase is Phase.CANCELLING and scene.deleted == []
    scene.later(31).settle()
    assert set(scene.deleted) == {scene.made[0]}  # and not its Pod


def test_the_job_that_somebody_deletes_while_it_waits_is_made_again() -> None:
    scene = scene_of().job_gone(1)
    scene.settle()
    assert scene.made == [scene.made[0]] * 2 and scene.status.phase is Phase.QUEUED


def record(outcome: str) -> str:
    return {"": "", "success": RecordBuilder().text(), "stopped": RecordBuilder().stopped().text()}[outcome]


@pytest.mark.parametrize(
    ("code", "outcome", "want_end", "want_phase"),
    [
        (143, "", (Outcome.FAILED, Reason.PREEMPTED), Phase.BACKING_OFF),
        (50, "stopped", (Outcome.STOPPED, Reason.PREEMPTED), Phase.BACKING_OFF),
        (0, "success", (Outcome.SUCCEEDED, Reason.COMPLETED), Phase.SUCCEEDED),
    ],
)
def test_a_runner_whose_job_is_suspended_was_preempted_unless_its_record_says_more(
    code: int, outcome: str, want_end: tuple[Outcome, Reason], want_phase: Phase
) -> None:
    scene = running().job_waits(1).pod_gone(PodBuilder().deleting().ended(code, record(outcome)))
    scene.settle()
    assert (ended(scene), scene.status.phase) == (want_end, want_phase)
    assert scene.deleted[-1] == scene.made[0]  # else Kueue would let it go again


def preempted() -> Scene:
    scene = running().job_waits(1).pod_gone(PodBuilder().deleting().ended(143))
    scene.settle()
    return scene


def test_what_was_preempted_waits_again_in_a_job_of_its_own_and_counts_as_a_disruption() -> None:
    scene = preempted()
    assert (scene.status.disruptions, scene.status.counted_attempts) == (1, 0)
    assert admitted(scene) == ("False", "NotWaiting")
    scene.job_gone(1).later(3600).settle()
    assert len(scene.made) == 2 and scene.observe().jobs[2].suspended
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "WaitsForKueue"))
    start = scene.decide()
    assert start.start is None and start.stop is None


def test_a_preempted_run_whose_crew_has_changed_keeps_the_job_that_says_what_runs() -> None:
    scene = running().edit_crew().job_waits(1)
    scene.pod_gone(PodBuilder().deleting().ended(143, at=scene.now)).settle()
    assert (ended(scene)[1], scene.deleted) == (Reason.PREEMPTED, [])
    scene.later(3600).settle()
    assert len(scene.made) == 2 and scene.deleted[-1] == scene.made[0]


def test_an_end_of_a_pod_that_is_seen_before_its_job_is_looked_up_live() -> None:
    scene = running()
    scene._jobs[1] = scene._job(1).suspend().build()  # nothing tells the operator
    scene.pod_gone(PodBuilder().deleting().ended(143))
    assert scene.decide().confirm == 1
    scene.settle()
    assert ended(scene) == (Outcome.FAILED, Reason.PREEMPTED)


def test_after_a_restart_a_pod_that_is_gone_with_its_record_was_preempted() -> None:
    scene = running().job_waits(1).pod_gone(PodBuilder().deleting()).restart()
    scene.settle()
    assert ended(scene) == (Outcome.FAILED, Reason.PREEMPTED)


def gone(pod: PodBuilder) -> Callable[[Scene], Scene]:
    return lambda scene: scene.pod_gone(pod.deleting())


@pytest.mark.parametrize(
    "takes_back",
    [lambda scene: scene, gone(PodBuilder()), lambda scene: scene.pod(PodBuilder().deleting())],
    ids=["no Pod yet", "its Pod is gone", "its Pod goes"],
)
def test_a_job_that_is_taken_back_before_its_runner_began_is_the_same_attempt(
    takes_back: Callable[[Scene], Scene],
) -> None:
    scene = scene_of().job_goes(1).pod(PodBuilder())
    scene.settle()
    assert admitted(scene) == ("True", "AdmittedByKueue")
    takes_back(scene.later(5).job_waits(1)).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "WaitsForKueue"))
    scene.later(100).job_goes(1).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.STARTING, ("True", "AdmittedByKueue"))
    scene.pod_gone(PodBuilder()).pod(PodBuilder(execution=2).running(scene.now)).later(5).settle()
    assert scene.status.phase is Phase.RUNNING and scene.status.attempts[-1].pod_uid == pod_uid(1, 2)
    assert (len(scene.made), scene.deleted, scene.status.suspended_seconds) == (1, [], 100)


def test_a_label_that_kueue_itself_gives_a_job_counts_like_one_of_the_run() -> None:
    """Kueue may suspend Jobs that ask for no queue, or give them a default one."""
    scene = Scene()
    scene.carry_out(scene.decide())
    scene._jobs[1]["metadata"]["labels"][names.LABEL_KUEUE_QUEUE] = "default"
    scene.job_waits(1).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.QUEUED, ("False", "WaitsForKueue"))
    scene.later(100).job_goes(1).settle()
    assert (scene.status.phase, admitted(scene)) == (Phase.STARTING, ("True", "AdmittedByKueue"))


def test_what_was_preempted_goes_on_from_its_checkpoint() -> None:
    scene = running().report(ReportBuilder().checkpoint())
    scene.settle()
    assert scene.saved
    scene.job_waits(1).pod_gone(PodBuilder().deleting().ended(143, at=scene.now)).settle()
    start = scene.job_gone(1).later(3600).decide().start
    assert start is not None and (start.number, start.checkpoint_since) == (2, 1)


def test_a_run_that_holds_the_place_of_a_crew_queue_does_not_wait_for_ever_in_a_suspended_job() -> None:
    scene = Scene(RunBuilder().spec(startDeadlineSeconds=30).build()).queue(maxConcurrentRuns=1)
    scene.settle()
    scene.job_waits(1).later(29).settle()
    assert (scene.status.phase, scene.status.queue, scene.deleted) == (Phase.STARTING, "lane", [])
    scene.later(1).settle()
    assert set(scene.deleted) == {scene.made[0]}

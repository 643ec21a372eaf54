"""What reports do to a run: progress, checkpoints, ends that are told at once, stops by answer, lost runners."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.outcome import OutputRecord, TaskRecord, Usage
from crewrun_api.reasons import Outcome, Phase, Reason, TaskState
from crewrun_api.report import OutputFile, Snapshot, Upload, encode_snapshot
from crewrun_operator.observed import Plan
from crewrun_operator.times import stamp
from tests.unit.builders import (
    NOON,
    RUN_UID,
    PodBuilder,
    RecordBuilder,
    ReportBuilder,
    RunBuilder,
    Scene,
    a_usage,
    pod_uid,
)


def running(**spec: Any) -> Scene:
    scene = Scene(RunBuilder().spec(**spec).build())
    scene.carry_out(scene.decide()).later(5)
    scene.pod(PodBuilder().running()).settle()
    return scene.later(5)


def open_call(tokens: int, reserved: int) -> Usage:
    return a_usage(tokens).model_copy(update={"incomplete": True, "reserved_tokens": reserved})


def snapshot(**values: Any) -> Snapshot:
    return ReportBuilder(sequence=7).with_(**values).build().snapshot


def ends(scene: Scene, attempt: int = 1, **how: Any) -> Scene:
    scene.pod(PodBuilder(attempt).ended(at=scene.now, **how)).settle()
    return scene


# progress


def test_progress_is_shown_at_most_once_a_second() -> None:
    scene = running()
    done = TaskRecord(name="facts", agent="Writer", state=TaskState.SUCCEEDED, total_tokens=90, preview="Bees fly.")
    scene.report(ReportBuilder().with_(usage=a_usage(40)))
    scene.settle()
    assert (scene.status.progress, scene.status.usage and scene.status.usage.total_tokens) == ("0/2", 40)
    assert [(task.name, task.state) for task in scene.status.tasks] == [("facts", TaskState.RUNNING)]

    scene.report(ReportBuilder(sequence=2).with_(tasks=[done], tasks_succeeded=1, usage=open_call(90, 500)))
    soon = scene.decide()
    assert soon.status is None and soon.again_at == scene.now + timedelta(seconds=1)
    scene.later(1).settle()
    status = scene.status
    assert (status.progress, status.phase, status.tasks[0].preview) == ("1/2", Phase.RUNNING, "Bees fly.")
    assert status.usage == a_usage(90), "a call of a runner that goes on is no gap"


def test_usage_of_an_attempt_that_reported_is_counted_once_when_it_ends() -> None:
    scene = running().report(ReportBuilder().with_(usage=a_usage(40)))
    scene.settle()
    ends(scene, message=RecordBuilder().with_(usage=a_usage(100)).text())
    assert scene.status.usage == a_usage(100)


def test_who_reports_runs_whatever_the_watch_has_told_of_so_far() -> None:
    scene = Scene()
    scene.carry_out(scene.decide()).later(5)
    scene.pod(PodBuilder()).report(ReportBuilder()).settle()
    assert scene.status.phase is Phase.RUNNING
    assert (scene.status.attempts[0].pod_uid, scene.status.attempts[0].running_time) == (pod_uid(1), stamp(scene.now))


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(ReportBuilder(execution=2), id="another Pod"),
        pytest.param(ReportBuilder().with_(attempt=2), id="another attempt"),
        pytest.param(ReportBuilder(attempt=2), id="a Pod of an attempt that is not made"),
    ],
)
def test_what_another_execution_says_is_not_believed(report: ReportBuilder) -> None:
    scene = running()
    before = scene.status
    scene.report(report.checkpoint().outcome(RecordBuilder())).later(5).settle()
    assert scene.status == before and not scene.saved


# checkpoints


def test_a_checkpoint_is_kept_before_anything_else_and_once() -> None:
    scene = running().report(ReportBuilder(sequence=3).checkpoint(b"facts"))
    plan = scene.decide()
    assert plan.save is not None and plan.status is None
    assert plan.save.checkpoint_of == (pod_uid(1), 3)
    kept = plan.save.manifest
    assert kept["metadata"]["name"] == "report-0f3ab-checkpoint"
    assert kept["metadata"]["ownerReferences"][0]["uid"] == RUN_UID
    assert kept["metadata"]["annotations"] == {
        names.ANNOTATION_ATTEMPT: "1",
        names.ANNOTATION_POD_UID: pod_uid(1),
        names.ANNOTATION_SEQUENCE: "3",
        names.ANNOTATION_SHA256: Upload.of(b"facts").sha256,
    }
    assert base64.b64decode(kept["binaryData"]["checkpoint"]) == b"facts"
    scene.settle()
    assert len(scene.saved) == 1
    scene.report(ReportBuilder(sequence=4)).settle()
    assert len(scene.saved) == 1


@pytest.mark.parametrize(("resume", "want_since"), [(None, 1), ("FromCheckpoint", 1), ("FromScratch", None)])
def test_a_retry_goes_on_from_the_checkpoint_unless_the_user_wants_otherwise(
    resume: str | None, want_since: int | None
) -> None:
    scene = running(retry={"resume": resume} if resume else {})
    ends(scene, code=20, message=RecordBuilder().failed(Reason.LLM_UNAVAILABLE).text())
    plan = scene.later(60).decide()
    assert plan.start is not None and plan.start.checkpoint_since == want_since


def test_the_first_attempt_has_no_checkpoint_to_go_on_from() -> None:
    plan = Scene().decide()
    assert plan.start is not None and plan.start.checkpoint_since is None


def test_a_checkpoint_that_cannot_be_used_is_told_once() -> None:
    scene = running().report(ReportBuilder().with_(checkpoint_refused="it cannot be read; starting from scratch"))
    plan = scene.decide()
    assert [(notice.reason, notice.type) for notice in plan.notices] == [("CheckpointRefused", "Warning")]
    scene.carry_out(plan)
    assert scene.status.attempts[0].checkpoint_refused == "it cannot be read; starting from scratch"
    later = scene.later(5).report(ReportBuilder(sequence=2).with_(checkpoint_refused="it cannot be read; x")).decide()
    assert later.notices == ()


def test_what_a_runner_warns_of_is_an_event_once_and_stays_at_its_attempt() -> None:
    scene = running().report(ReportBuilder().with_(warning="it uses 480 MiB of 512"))
    plan = scene.decide()
    assert [(notice.reason, notice.type) for notice in plan.notices] == [("RunnerWarning", "Warning")]
    assert plan.notices[0].message == "attempt 1: it uses 480 MiB of 512"
    scene.settle()
    assert scene.status.attempts[0].warning == "it uses 480 MiB of 512"
    assert (
        scene.later(5).report(ReportBuilder(sequence=2).with_(warning="it uses 490 MiB of 512")).decide().notices == ()
    )


def test_an_attempt_says_where_it_went_on() -> None:
    record = RecordBuilder().with_(
        resumed_from_task="report",
        tasks=[
            TaskRecord(name="facts", agent="Writer", state=TaskState.SUCCEEDED, attempt=4, total_tokens=9),
            TaskRecord(name="report", agent="Writer", state=TaskState.SUCCEEDED),
        ],
    )
    scene = ends(running(), message=record.text())
    assert scene.status.attempts[0].resumed_from_task == "report"
    assert [(task.name, task.attempt) for task in scene.status.tasks] == [("facts", 4), ("report", 1)]


# ends


def test_a_success_that_is_reported_decides_at_once() -> None:
    scene = running().report(ReportBuilder().outcome(RecordBuilder()))
    plan = scene.decide()
    assert plan.status is not None and plan.status.phase is Phase.SUCCEEDED and plan.save is None
    assert plan.status.output is not None and plan.status.output.value == "Bees fly."
    scene.settle()
    ends(scene, code=137)
    assert scene.status.phase is Phase.SUCCEEDED


def test_a_failure_that_is_reported_waits_for_the_end_of_its_runner_before_the_next_attempt() -> None:
    scene = running().report(ReportBuilder().outcome(RecordBuilder().failed(Reason.LLM_UNAVAILABLE)))
    scene.settle()
    assert (scene.status.phase, scene.status.counted_attempts) == (Phase.BACKING_OFF, 1)
    waits = scene.later(20).decide()
    assert waits.start is None and waits.stop is None and waits.again_at is not None
    ends(scene, code=20, message=RecordBuilder().failed(Reason.LLM_UNAVAILABLE).text())
    assert scene.status.attempt_count == 2


def test_a_runner_that_reported_its_end_and_does_not_go_is_ended_after_its_grace_period() -> None:
    scene = running().report(ReportBuilder().outcome(RecordBuilder()))
    plan = scene.settle()
    assert plan.again_at == scene.now + timedelta(seconds=30)
    scene.later(30).settle()
    assert scene.deleted == ["report-0f3ab-1"]


def test_who_was_stopped_by_somebody_else_waits_for_the_pod_to_say_by_whom() -> None:
    scene = running().report(ReportBuilder().outcome(RecordBuilder().stopped()))
    scene.settle()
    assert scene.status.phase is Phase.RUNNING
    stopped = PodBuilder().disrupted("EvictionByEvictionAPI").ended(50, RecordBuilder().stopped().text(), at=scene.now)
    scene.pod(stopped).settle()
    assert [(each.outcome, each.reason) for each in scene.status.attempts[:1]] == [(Outcome.STOPPED, Reason.EVICTED)]
    assert scene.status.disruptions == 1


@pytest.mark.parametrize(
    ("output", "files", "want_config_map", "want_truncated"),
    [
        pytest.param("short", {}, False, False, id="inline"),
        pytest.param("€" * 1365, {}, False, False, id="just inline"),
        pytest.param("€" * 1366, {}, True, False, id="larger"),
        pytest.param("x" * 50_000, {}, True, False, id="50 kB"),
        pytest.param("x" * 2_000_000, {}, True, True, id="more than a ConfigMap holds"),
        pytest.param("short", {"out/report.md": b"# Bees"}, True, False, id="with a file"),
        pytest.param("short", {"out/report.md": None}, False, False, id="with a file that is not kept"),
    ],
)
def test_an_output_is_kept_whole_where_there_is_room(
    output: str, files: dict[str, bytes | None], want_config_map: bool, want_truncated: bool
) -> None:
    record = RecordBuilder().with_(output=OutputRecord.of(output))
    sent = [
        OutputFile(name=name, bytes=len(data or b"12345"), upload=Upload.of(data) if data else None)
        for name, data in files.items()
    ]
    scene = running().report(ReportBuilder().outcome(record, *sent))
    scene.settle()
    shown = scene.status.output
    assert shown is not None
    assert len(shown.value.encode()) <= 4096 and output.startswith(shown.value)
    assert (shown.truncated, shown.bytes, shown.sha256) == (
        want_truncated,
        len(output.encode()),
        OutputRecord.of(output).sha256,
    )
    assert shown.config_map == ("report-0f3ab-output" if want_config_map else None)
    assert [(file.name, file.key) for file in shown.files] == [
        (name, "out-report.md" if data else None) for name, data in files.items()
    ]
    if want_config_map:
        (kept,) = scene.saved
        assert kept["data"]["output"] == (output if not want_truncated else "x" * len(kept["data"]["output"]))
        assert sum(len(value.encode()) for value in kept["data"].values()) <= 1024 * 1024 - 1024
        assert not files or kept["data"]["out-report.md"] == "# Bees"


def test_files_have_keys_of_their_own_and_binary_ones_stay_binary() -> None:
    data = {"a/b.md": b"1", "a b.md": b"2", "a-b.md": b"\xff\x00", "output": b"3", "...": b"4"}
    sent = [OutputFile(name=name, bytes=len(content), upload=Upload.of(content)) for name, content in data.items()]
    scene = running().report(ReportBuilder().outcome(RecordBuilder(), *sent))
    scene.settle()
    (kept,) = scene.saved
    assert scene.status.output is not None
    keys = [file.key for file in scene.status.output.files]
    assert keys == ["a-b.md", "a-b.md-2", "a-b.md-3", "output-2", "file"]
    assert kept["data"]["output"] == "Bees fly." and kept["data"]["output-2"] == "3"
    assert base64.b64decode(kept["binaryData"]["a-b.md-3"]) == b"\xff\x00"


# lost runners


@pytest.mark.parametrize(
    ("message", "reported", "want_usage"),
    [
        pytest.param("", None, Usage(incomplete=True), id="nothing is known"),
        pytest.param(snapshot(usage=a_usage(70)), None, a_usage(70), id="between two calls, by its message"),
        pytest.param(snapshot(usage=open_call(70, 900)), None, open_call(70, 900), id="in a call, by its message"),
        pytest.param(snapshot(usage=open_call(70, 900)), a_usage(30), open_call(70, 900), id="by the newer of both"),
        pytest.param("", open_call(30, 500), open_call(30, 500), id="by its last report"),
        pytest.param(
            "", a_usage(30), a_usage(30).model_copy(update={"incomplete": True}), id="what came after it is not known"
        ),
        pytest.param(snapshot(usage=a_usage(70), pod_uid="x"), None, Usage(incomplete=True), id="another Pod's words"),
    ],
)
def test_of_a_runner_that_is_lost_the_last_words_count(
    message: Snapshot | str, reported: Usage | None, want_usage: Usage
) -> None:
    scene = running()
    if reported:
        scene.report(ReportBuilder().with_(usage=reported))
        scene.settle()
    text = encode_snapshot(message).decode() if isinstance(message, Snapshot) else message
    scene.pod(PodBuilder().ended(137, text + "   \n", "OOMKilled", scene.now)).settle()
    assert scene.status.attempts[0].reason is Reason.OUT_OF_MEMORY
    assert scene.status.usage == scene.status.attempts[0].usage == want_usage
    assert all(task.state is not TaskState.RUNNING for task in scene.status.tasks), "nothing runs any more"


def test_a_node_that_is_lost_is_given_up_and_its_runner_no_longer_speaks() -> None:
    scene = running(nodeLostSeconds=100)
    lost = PodBuilder().running().condition("ContainersReady").condition("Ready", "False")
    lost._status["conditions"][-1]["lastTransitionTime"] = stamp(scene.now)
    scene.pod(lost)
    assert scene.settle().again_at == scene.now + timedelta(seconds=100)
    scene.later(100).settle()
    assert [(each.reason, each.outcome) for each in scene.status.attempts] == [(Reason.NODE_LOST, Outcome.FAILED)]
    assert scene.status.disruptions == 1
    assert scene.deleted and set(scene.deleted) == {"report-0f3ab-1"}
    scene.job_gone(1).pod(lost.deleting()).later(10).settle()
    assert scene.status.attempt_count == 2, "it is not waited for"
    scene.report(ReportBuilder(sequence=9).outcome(RecordBuilder())).settle()
    assert scene.status.phase is not Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("conditions", "reports"),
    [
        pytest.param([("ContainersReady", "False"), ("Ready", "False")], False, id="a sidecar is not ready"),
        pytest.param([("ContainersReady", "True"), ("Ready", "True")], False, id="ready"),
        pytest.param([("ContainersReady", "True"), ("Ready", "False")], True, id="it reports"),
    ],
)
def test_a_runner_that_lives_is_not_given_up(conditions: list[tuple[str, str]], reports: bool) -> None:
    scene = running(nodeLostSeconds=100)
    pod = PodBuilder().running()
    for type_, value in conditions:
        pod.condition(type_, value)
        pod._status["conditions"][-1]["lastTransitionTime"] = stamp(NOON)
    scene.later(90).pod(pod)
    if reports:
        scene.report(ReportBuilder())
    scene.later(50).settle()
    assert scene.status.phase is Phase.RUNNING


# stops


def stopping(scene: Scene, **spec: Any) -> Plan:
    scene.edit(**spec)
    return scene.settle()


def test_a_runner_that_reports_is_told_and_its_pod_is_deleted_only_after_the_grace_period() -> None:
    scene = running().report(ReportBuilder())
    plan = stopping(scene, cancel=True)
    assert (scene.status.phase, scene.deleted) == (Phase.CANCELLING, [])
    assert scene.status.attempts[0].stop_time == stamp(scene.now)
    assert plan.again_at == scene.now + timedelta(seconds=30)
    scene.later(30).settle()
    assert scene.deleted[0] == "report-0f3ab-1-x0001"


@pytest.mark.parametrize("silence", [None, 11], ids=["never", "not for a while"])
def test_a_runner_that_does_not_report_is_stopped_by_its_pod_at_once(silence: int | None) -> None:
    scene = running()
    if silence:
        scene.report(ReportBuilder()).later(silence)
    stopping(scene, cancel=True)
    assert scene.deleted[0] == "report-0f3ab-1-x0001"


def test_a_stop_that_is_reported_ends_the_run_at_once() -> None:
    scene = running().report(ReportBuilder())
    stopping(scene, cancel=True)
    scene.report(ReportBuilder(sequence=2).outcome(RecordBuilder().stopped().with_(usage=a_usage(55))))
    scene.settle()
    assert (scene.status.phase, scene.status.usage) == (Phase.CANCELLED, a_usage(55))

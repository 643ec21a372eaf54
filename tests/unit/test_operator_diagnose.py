"""Diagnosis: Pods and Jobs as Kubernetes writes them in; the end of an attempt, or why it waits, out."""

from datetime import timedelta
from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_operator.diagnose import diagnose, waiting
from crewrun_operator.views import identity, job_view, pod_view
from tests.unit.builders import NOON, RUN_UID, JobBuilder, PodBuilder, RecordBuilder

SUCCESS = RecordBuilder().text()
FAILURE = RecordBuilder().failed(Reason.LLM_UNAVAILABLE, exit_code=ExitCode.LLM_RETRYABLE).text()
STOPPED = RecordBuilder().stopped().text()


def a_pod() -> PodBuilder:
    return PodBuilder()


def verdict_of(pod: PodBuilder | None, job: JobBuilder | None = None, *, gone: bool = False) -> Any:
    pod_seen = pod_view(pod.build()) if pod else None
    if pod_seen and gone:
        pod_seen = pod_seen.as_gone()
    job = job or (JobBuilder() if pod else None)  # while nobody says otherwise a Pod has its Job
    return diagnose(pod_seen, job_view(job.build()) if job else None, RUN_UID)


@pytest.mark.parametrize("job", [None, JobBuilder().deleting()], ids=["gone", "going"])
def test_a_pod_that_goes_with_its_job_says_so(job: JobBuilder | None) -> None:
    pod = pod_view(a_pod().deleting().ended(50, RecordBuilder().stopped().text()).build())
    verdict = diagnose(pod, job_view(job.build()) if job else None, RUN_UID)
    assert verdict is not None and verdict.reason is Reason.JOB_DELETED


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(a_pod(), id="new"),
        pytest.param(a_pod().waiting("ContainerCreating"), id="being created"),
        pytest.param(a_pod().waiting("ImagePullBackOff"), id="waiting for its image"),
        pytest.param(a_pod().unschedulable(), id="unschedulable"),
        pytest.param(a_pod().running(), id="running"),
        pytest.param(a_pod().running().deleting(), id="told to end"),
        pytest.param(a_pod().running().disrupted("EvictionByEvictionAPI").deleting(), id="being evicted"),
    ],
)
@pytest.mark.parametrize("job", [None, JobBuilder(), JobBuilder().failed("DeadlineExceeded")], ids=["", "job", "ended"])
def test_an_attempt_is_not_over_before_its_pod_is(pod: PodBuilder, job: JobBuilder | None) -> None:
    assert verdict_of(pod, job) is None


@pytest.mark.parametrize(
    ("pod", "want_outcome", "want_reason"),
    [
        pytest.param(a_pod().ended(0, SUCCESS), "Succeeded", "Completed", id="success"),
        pytest.param(a_pod().ended(1, SUCCESS), "Succeeded", "Completed", id="success is stronger than an exit code"),
        pytest.param(a_pod().ended(137, SUCCESS, "OOMKilled"), "Succeeded", "Completed", id="than an OOM kill"),
        pytest.param(a_pod().ended(0, SUCCESS).disrupted("EvictionByEvictionAPI").deleting(), "Succeeded", "Completed",
                     id="than a disruption"),
        pytest.param(a_pod().ended(20, FAILURE), "Failed", "LLMUnavailable", id="failure"),
        pytest.param(a_pod().ended(0, FAILURE), "Failed", "LLMUnavailable", id="failure although it exits 0"),
        pytest.param(a_pod().ended(20, FAILURE).disrupted("EvictionByEvictionAPI"), "Failed", "LLMUnavailable",
                     id="failure before an eviction"),
        pytest.param(a_pod().ended(50, STOPPED), "Stopped", "Cancelled", id="stopped"),
        pytest.param(a_pod().ended(50, STOPPED).deleting(), "Stopped", "PodDeleted", id="stopped by a deletion"),
        pytest.param(a_pod().ended(50, STOPPED).disrupted("PreemptionByScheduler"), "Stopped", "Preempted",
                     id="stopped by preemption"),
        pytest.param(a_pod().ended(50, STOPPED).disrupted("TerminationByKubelet").deleting(), "Stopped", "Evicted",
                     id="stopped by a node that shuts down"),
    ],
)  # fmt: skip
def test_a_valid_record_decides(pod: PodBuilder, want_outcome: str, want_reason: str) -> None:
    verdict = verdict_of(pod)
    assert (verdict.outcome, verdict.reason) == (Outcome(want_outcome), Reason(want_reason))
    assert verdict.record is not None


def test_a_record_that_only_the_deleted_event_carries_decides() -> None:
    assert verdict_of(a_pod().ended(0, SUCCESS), gone=True).outcome is Outcome.SUCCEEDED


def test_a_verdict_carries_the_containers_own_end_and_code() -> None:
    verdict = verdict_of(a_pod().ended(20, FAILURE, at=NOON + timedelta(seconds=3)))
    assert (verdict.exit_code, verdict.at, verdict.message) == (20, NOON + timedelta(seconds=3), "task facts raised")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(RecordBuilder(run_uid="another").text(), id="another run"),
        pytest.param(RecordBuilder(attempt=2).text(), id="another attempt"),
        pytest.param(RecordBuilder(execution=2).text(), id="another Pod"),
        pytest.param(RecordBuilder().text().replace('"version":1', '"version":2'), id="another version"),
        pytest.param(SUCCESS[:-1], id="half a record"),
        pytest.param("ok", id="a word"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_record_that_is_not_its_own_is_not_believed(record: str) -> None:
    verdict = verdict_of(a_pod().ended(0, record))
    assert (verdict.outcome, verdict.reason, verdict.record) == (Outcome.FAILED, Reason.RUNNER_LOST, None)


OVERDUE = JobBuilder().failed("DeadlineExceeded")
FAILING = JobBuilder().condition("FailureTarget", "DeadlineExceeded")


@pytest.mark.parametrize(
    ("pod", "job", "want_reason", "want_words"),
    [
        pytest.param(a_pod().ended(0), None, "RunnerLost", "exited 0 without an outcome record", id="exit 0"),
        pytest.param(a_pod().ended(30), None, "RunnerLost", "exited 30 without", id="a code of its own, no record"),
        pytest.param(a_pod().ended(50), None, "RunnerLost", "exited 50 without", id="stopped, no record"),
        pytest.param(a_pod().ended(1), None, "RunnerCrashed", "exited 1, which is no code of its own", id="exit 1"),
        pytest.param(a_pod().ended(128), None, "RunnerCrashed", "exited 128", id="exit 128"),
        pytest.param(a_pod().ended(137), None, "RunnerCrashed", "ended by signal 9", id="SIGKILL"),
        pytest.param(a_pod().ended(139), None, "RunnerCrashed", "ended by signal 11", id="SIGSEGV"),
        pytest.param(a_pod().ended(137, reason="OOMKilled"), None, "OutOfMemory", "memory limit", id="OOM"),
        pytest.param(a_pod().ended(137, reason="OOMKilled").deleting(), None, "OutOfMemory", "memory limit",
                     id="OOM, and deleted later"),
        pytest.param(a_pod().running().phase("Failed", "Evicted", "low on memory"), None, "Evicted",
                     "was evicted: low on memory", id="evicted by kubelet"),
        pytest.param(a_pod().ended(137).disrupted("EvictionByEvictionAPI"), None, "Evicted", "the node is drained",
                     id="drained"),
        pytest.param(a_pod().ended(137).disrupted("TerminationByKubelet"), None, "Evicted", "", id="node shutdown"),
        pytest.param(a_pod().ended(143).disrupted("PreemptionByScheduler"), None, "Preempted", "", id="preempted"),
        pytest.param(a_pod().phase("Failed").disrupted("DeletionByTaintManager"), None, "NodeLost", "", id="tainted"),
        pytest.param(a_pod().phase("Failed").disrupted("DeletionByPodGC"), None, "NodeLost", "", id="collected"),
        pytest.param(a_pod().phase("Failed").disrupted("SomethingNew"), None, "Evicted", "SomethingNew",
                     id="a disruption of tomorrow"),
        pytest.param(a_pod().ended(137).deleting(), None, "PodDeleted", "was deleted", id="deleted, killed"),
        pytest.param(a_pod().ended(143).deleting(), None, "PodDeleted", "was deleted", id="deleted, ended by SIGTERM"),
        pytest.param(a_pod().ended(50).deleting(), None, "PodDeleted", "was deleted", id="deleted, stopped"),
        pytest.param(a_pod().ended(1).deleting(), None, "RunnerCrashed", "exited 1", id="crashed, then deleted"),
        pytest.param(a_pod().ended(0).deleting(), None, "RunnerLost", "exited 0", id="exit 0, then deleted"),
        pytest.param(a_pod().ended(137), OVERDUE, "AttemptTimedOut", "at its deadline", id="Job deadline"),
        pytest.param(a_pod().ended(137).deleting(), OVERDUE, "AttemptTimedOut", "at its deadline",
                     id="Job deadline, its Pod deleted for it"),
        pytest.param(a_pod().ended(137).deleting(), FAILING, "AttemptTimedOut", "at its deadline",
                     id="Job deadline, told before the Job is Failed"),
        pytest.param(a_pod().ended(50, STOPPED).deleting(), FAILING, "AttemptTimedOut", "at its deadline",
                     id="Job deadline, the runner stopped in time"),
        pytest.param(a_pod().ended(137), JobBuilder().failed(), "RunnerCrashed", "signal 9", id="a failed Job"),
        pytest.param(a_pod().phase("Failed", "OutOfcpu", "node is full"), None, "RunnerLost",
                     "ended as Failed without its runner: OutOfcpu: node is full", id="refused by its node"),
        pytest.param(a_pod().phase("Failed"), None, "RunnerLost", "no reason given", id="failed in silence"),
    ],
)  # fmt: skip
def test_without_a_record_the_pod_and_the_job_say_what_happened(
    pod: PodBuilder, job: JobBuilder | None, want_reason: str, want_words: str
) -> None:
    verdict = verdict_of(pod, job)
    assert verdict.reason == Reason(want_reason)
    assert verdict.outcome is not Outcome.SUCCEEDED
    assert want_words in verdict.message


@pytest.mark.parametrize(
    ("pod", "want_reason", "want_ran"),
    [
        pytest.param(a_pod(), "PodDeleted", False, id="before it began"),
        pytest.param(a_pod().waiting("ImagePullBackOff"), "PodDeleted", False, id="while it waited"),
        pytest.param(a_pod().running(), "PodDeleted", True, id="while it ran"),
        pytest.param(a_pod().running().disrupted("EvictionByEvictionAPI"), "Evicted", True, id="evicted"),
        pytest.param(a_pod().ended(30), "RunnerLost", True, id="after it ended"),
        pytest.param(a_pod().phase("Unknown").running(), "PodDeleted", True, id="of a node that was lost"),
    ],
)
def test_a_pod_that_is_gone_is_over(pod: PodBuilder, want_reason: str, want_ran: bool) -> None:
    verdict = verdict_of(pod, gone=True)
    assert (verdict.reason, verdict.ran) == (Reason(want_reason), want_ran)


@pytest.mark.parametrize(
    ("job", "want_reason"),
    [
        pytest.param(None, None, id="no Job"),
        pytest.param(JobBuilder(), None, id="a Job without its Pod yet"),
        pytest.param(JobBuilder().condition("FailureTarget", "DeadlineExceeded"), None, id="a Job about to fail"),
        pytest.param(JobBuilder().failed(), "RunnerLost", id="failed"),
        pytest.param(JobBuilder().complete(), "RunnerLost", id="complete, nobody can say how"),
        pytest.param(JobBuilder().failed("DeadlineExceeded"), "AttemptTimedOut", id="overdue"),
    ],
)
def test_without_a_pod_only_a_finished_job_ends_the_attempt(job: JobBuilder | None, want_reason: str | None) -> None:
    verdict = verdict_of(None, job)
    assert (verdict and verdict.reason) == (want_reason and Reason(want_reason))


@pytest.mark.parametrize(
    ("pod", "want_reason", "want_known", "want_words"),
    [
        pytest.param(None, "AttemptTimedOut", False, "the Job controller has made no Pod yet", id="no Pod yet"),
        pytest.param(a_pod(), "AttemptTimedOut", False, "is being created", id="new"),
        pytest.param(a_pod().waiting("ContainerCreating"), "AttemptTimedOut", False, "a Secret or volume",
                     id="being created, perhaps without a Secret that it mounts"),
        pytest.param(a_pod().waiting("PodInitializing"), "AttemptTimedOut", False, "is being created",
                     id="initialising"),
        pytest.param(a_pod().condition("PodScheduled", "False", "SchedulingGated", "gate"), "AttemptTimedOut", False,
                     "is being created", id="gated"),
        pytest.param(a_pod().waiting("CreateContainerError", "no space"), "RunnerCrashed", True,
                     "CreateContainerError: no space", id="something else"),
        pytest.param(a_pod().unschedulable(), "Unschedulable", True,
                     "no node fits Pod report-0f3ab-1-x0001: 0/3 nodes", id="unschedulable"),
        *[
            pytest.param(a_pod().waiting(reason, "no such tag"), "ImageUnavailable", True,
                         "cannot be pulled: no such tag", id=reason)
            for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
                           "ImageInspectError")
        ],
        pytest.param(a_pod().waiting("CreateContainerConfigError", 'secret "llm-keys" not found'), "MissingSecret",
                     True, 'secret "llm-keys" not found; it starts when that exists', id="secret missing"),
    ],
)  # fmt: skip
def test_an_attempt_that_does_not_run_says_what_it_waits_for(
    pod: PodBuilder | None, want_reason: str, want_known: bool, want_words: str
) -> None:
    got = waiting(pod_view(pod.build()) if pod else None)
    assert got is not None
    assert (got.reason, got.known) == (Reason(want_reason), want_known)
    assert want_words in got.message


@pytest.mark.parametrize("pod", [a_pod().running(), a_pod().ended(0)], ids=["running", "ended"])
def test_a_runner_that_runs_waits_for_nothing(pod: PodBuilder) -> None:
    assert waiting(pod_view(pod.build())) is None


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"labels": {}}, id="no label"),
        pytest.param({"labels": None, "annotations": None}, id="null"),
        pytest.param({"annotations": {}}, id="no annotation"),
        pytest.param({"labels": {"crewrun.dev/attempt": "x", "crewrun.dev/run-uid": "u"}}, id="attempt of no kind"),
        pytest.param({"labels": {"crewrun.dev/attempt": "-1", "crewrun.dev/run-uid": "u"}}, id="negative attempt"),
    ],
)
def test_what_is_not_ours_is_not_looked_at(metadata: dict[str, Any]) -> None:
    stranger = PodBuilder().metadata(**metadata).build()
    assert (identity(stranger), pod_view(stranger), job_view(stranger)) == (None, None, None)


def test_only_the_runners_container_counts() -> None:
    pod = PodBuilder().build()
    pod["status"]["containerStatuses"] = [{"name": "proxy", "state": {"terminated": {"exitCode": 0}}}, {"name": "b"}]
    view = pod_view(pod)
    assert view is not None and not view.over and not view.ran


def test_a_job_belongs_to_its_controlling_owner() -> None:
    job = JobBuilder().build()
    job["metadata"]["ownerReferences"].insert(0, {"uid": "someone", "controller": False})
    view = job_view(job)
    assert view is not None and view.owner_uid == RUN_UID

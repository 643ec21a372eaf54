"""Diagnosis: what a Pod, a Job and an outcome record say about an attempt.

Purely computational. The exit code alone is never believed: only a record that names this run, this attempt
and this Pod may say that an attempt succeeded. The diagnosers read as a list; the first that knows decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from crewrun_api import outcome
from crewrun_api.outcome import OutcomeRecord
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_operator.views import JobView, PodView

_DISRUPTIONS = {
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
    "PreemptionByScheduler": Reason.PREEMPTED,
    "PreemptionByKubeScheduler": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
}
_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_SIGKILL = 128 + 9


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended."""

    outcome: Outcome
    reason: Reason
    message: str
    exit_code: int | None = None
    at: datetime | None = None
    record: OutcomeRecord | None = None
    ran: bool = True  # whether the runner may have made LLM calls


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why an attempt does not run yet. `reason` is None while nothing is known to be wrong."""

    reason: Reason | None
    message: str


def diagnose(pod: PodView | None, job: JobView | None, run_uid: str) -> Verdict | None:
    """The end of the attempt; None while it is not over, or while nobody can know."""
    if pod is None:
        return _by_job(job) if job is not None and job.finished else None
    if not pod.over:
        return None
    for diagnoser in _DIAGNOSERS:
        if verdict := diagnoser(pod, job, run_uid):
            return verdict
    raise AssertionError("the last diagnoser always knows")


def waiting(pod: PodView | None) -> Waiting:
    """Why the runner of an attempt that is not over does not run yet."""
    if pod is None:
        return Waiting(None, "waiting for the Job controller to make the Pod")
    if pod.unschedulable is not None:
        return Waiting(Reason.UNSCHEDULABLE, f"no node fits Pod {pod.id.name}: {pod.unschedulable}")
    reason, message = pod.waiting or ("", "")
    if reason in _IMAGE_REASONS:
        return Waiting(Reason.IMAGE_UNAVAILABLE, f"the image of Pod {pod.id.name} cannot be pulled: {message}")
    if reason == "CreateContainerConfigError":
        return Waiting(Reason.MISSING_SECRET, f"Pod {pod.id.name} waits: {message}; it starts when that exists")
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        return Waiting(None, f"Pod {pod.id.name} waits: {reason}: {message}")
    return Waiting(None, f"Pod {pod.id.name} is being started")


def _by_record(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    record = outcome.parse(pod.terminated.message) if pod.terminated else None
    if record is None or pod.terminated is None:
        return None
    if (record.run_uid, record.attempt, record.pod_uid) != (run_uid, pod.id.attempt, pod.id.uid):
        return None
    reason, message = record.reason, record.message
    if record.outcome is Outcome.STOPPED and (disruption := _disruption(pod)):
        reason, message = disruption
    return Verdict(
        outcome=record.outcome,
        reason=reason,
        message=message,
        exit_code=pod.terminated.exit_code,
        at=pod.terminated.finished_at,
        record=record,
    )


def _by_disruption(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if not (disruption := _disruption(pod)):
        return None
    return _failed(pod, *disruption)


def _by_memory(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if pod.terminated is None or pod.terminated.reason != "OOMKilled":
        return None
    return _failed(pod, Reason.OUT_OF_MEMORY, "the runner was killed at its memory limit; raise spec.pod.resources")


def _by_deadline(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if job is None or job.finished != "DeadlineExceeded":
        return None
    return _failed(pod, Reason.ATTEMPT_TIMED_OUT, "the attempt was stopped at its deadline by its Job")


def _by_exit(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if pod.terminated is None:
        return None
    code = pod.terminated.exit_code
    look = f"see `kubectl logs {pod.id.name} -n {pod.id.namespace}`"
    if code == ExitCode.SUCCEEDED:
        return _failed(pod, Reason.RUNNER_LOST, f"the runner exited 0 without an outcome record; {look}")
    if code > 128:
        return _failed(pod, Reason.RUNNER_CRASHED, f"the runner was ended by signal {code - 128}; {look}")
    if code in {known.value for known in ExitCode}:
        return _failed(pod, Reason.RUNNER_LOST, f"the runner exited {code} without an outcome record; {look}")
    return _failed(pod, Reason.RUNNER_CRASHED, f"the runner exited {code}, which is no code of its own; {look}")


def _by_phase(pod: PodView, job: JobView | None, run_uid: str) -> Verdict:
    if pod.gone:
        return _failed(pod, Reason.POD_DELETED, f"Pod {pod.id.name} was deleted")
    detail = ": ".join(part for part in (pod.reason, pod.message) if part) or "no reason given"
    return _failed(pod, Reason.RUNNER_LOST, f"Pod {pod.id.name} ended as {pod.phase} without its runner: {detail}")


_DIAGNOSERS: tuple[Callable[[PodView, JobView | None, str], Verdict | None], ...] = (
    _by_record,
    _by_disruption,
    _by_memory,
    _by_deadline,
    _by_exit,
    _by_phase,
)


def _by_job(job: JobView) -> Verdict:
    """A Job that finished, and no Pod of it is left to ask."""
    deadline = job.finished == "DeadlineExceeded"
    return Verdict(
        outcome=Outcome.FAILED,
        reason=Reason.ATTEMPT_TIMED_OUT if deadline else Reason.RUNNER_LOST,
        message=f"Job {job.id.name} ended ({job.finished}) and its Pod is gone with the outcome record",
    )


def _disruption(pod: PodView) -> tuple[Reason, str] | None:
    """Who interrupted the runner, if somebody did."""
    if pod.disruption is not None:
        reason, message = pod.disruption
        return _DISRUPTIONS.get(reason, Reason.EVICTED), f"Pod {pod.id.name} was interrupted ({reason}): {message}"
    if pod.reason in ("Evicted", "Preempting"):
        return Reason.EVICTED, f"Pod {pod.id.name} was evicted: {pod.message}"
    killed = pod.terminated is None or pod.terminated.exit_code in (ExitCode.STOPPED, _SIGKILL)
    if (pod.deleting or pod.gone) and killed:
        return Reason.POD_DELETED, f"Pod {pod.id.name} was deleted"
    return None


def _failed(pod: PodView, reason: Reason, message: str) -> Verdict:
    ended = pod.terminated
    return Verdict(
        outcome=Outcome.FAILED,
        reason=reason,
        message=message,
        exit_code=ended.exit_code if ended else None,
        at=ended.finished_at if ended else None,
        ran=pod.ran,
    )

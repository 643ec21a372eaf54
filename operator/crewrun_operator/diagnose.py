"""Diagnosis: what a Pod, a Job and an outcome record say about an attempt.

Purely computational. The exit code alone is never believed: only a record that names this run, this attempt
and this Pod may say that an attempt succeeded. The diagnosers read as a list; the first that knows decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
_START_ERRORS = frozenset({"StartError", "ContainerCannotRun"})
_KILLED = frozenset({ExitCode.STOPPED, 128 + 9, 128 + 15})  # how a runner ends whose Pod is deleted


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
    """Why an attempt does not run yet, and the reason it fails for when it has waited too long."""

    reason: Reason
    message: str
    known: bool = True  # whether something is known to be wrong; a Pod that just takes its time is not


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


def waiting(pod: PodView | None) -> Waiting | None:
    """Why the runner of an attempt that is not over does not run yet; None when it runs."""
    if pod is None:
        message = "the Job controller has made no Pod yet; see `kubectl describe job`"
        return Waiting(Reason.ATTEMPT_TIMED_OUT, message, known=False)
    if pod.ran:
        return None
    its = f"Pod {pod.id.name}"
    if pod.unschedulable is not None:
        return Waiting(Reason.UNSCHEDULABLE, f"no node fits {its}: {pod.unschedulable}")
    reason, message = pod.waiting or ("", "")
    if reason in _IMAGE_REASONS:
        return Waiting(Reason.IMAGE_UNAVAILABLE, f"the image of {its} cannot be pulled: {message}")
    if reason == "CreateContainerConfigError":
        return Waiting(Reason.MISSING_SECRET, f"{its} waits: {message}; it starts when that exists")
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        return Waiting(Reason.RUNNER_CRASHED, f"{its} waits: {reason}: {message}")
    message = f"{its} is being created; if this lasts, a Secret or volume that it mounts may be missing"
    return Waiting(Reason.ATTEMPT_TIMED_OUT, f"{message}: see `kubectl describe pod {pod.id.name}`", known=False)


def _by_record(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    record = outcome.parse(pod.terminated.message) if pod.terminated else None
    if record is None or pod.terminated is None:
        return None
    if (record.run_uid, record.attempt, record.pod_uid) != (run_uid, pod.id.attempt, pod.id.uid):
        return None
    verdict = by_record(record, pod.terminated.finished_at)
    by_signal = record.outcome is Outcome.STOPPED and record.reason is Reason.CANCELLED
    if by_signal and (by := _by_deadline(pod, job, run_uid) or _by_disruption(pod, job, run_uid)):
        verdict = replace(verdict, reason=by.reason, message=by.message)
    return replace(verdict, exit_code=pod.terminated.exit_code)


def by_record(record: OutcomeRecord, at: datetime | None) -> Verdict:
    """What a runner says of its own end."""
    return Verdict(
        outcome=record.outcome,
        reason=record.reason,
        message=record.message,
        exit_code=record.exit_code.value,
        at=at,
        record=record,
    )


def _by_disruption(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if not (disruption := _disruption(pod, job)):
        return None
    return _failed(pod, *disruption)


def _by_memory(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if pod.terminated is None or pod.terminated.reason != "OOMKilled":
        return None
    return _failed(pod, Reason.OUT_OF_MEMORY, "the runner was killed at its memory limit; raise spec.pod.resources")


def _by_deadline(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    if job is None or not job.out_of_time:
        return None
    return _failed(pod, Reason.ATTEMPT_TIMED_OUT, "the attempt was stopped at its deadline by its Job")


def _by_start(pod: PodView, job: JobView | None, run_uid: str) -> Verdict | None:
    """The runtime could not start the container; its own words stand where a record would."""
    if pod.terminated is None or pod.terminated.reason not in _START_ERRORS:
        return None
    words = f"the image's runner could not be started: {pod.terminated.message}"
    return replace(_failed(pod, Reason.RUNNER_CRASHED, words), ran=False)


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
    _by_memory,  # what the kernel did is known, whoever deletes the Pod later
    _by_deadline,  # the Job controller deletes the Pod: nobody else interrupted it
    _by_disruption,
    _by_start,
    _by_exit,
    _by_phase,
)


def suspended(job: JobView) -> str:
    """What is said of a runner whose Job was suspended, which is how Kueue takes a place back."""
    whom = f"LocalQueue {job.local_queue} of Kueue" if job.local_queue else "somebody"
    return f"{whom} suspended Job {job.id.name}, and its Pod was deleted"


def _by_job(job: JobView) -> Verdict:
    """A Job that finished, and no Pod of it is left to ask."""
    return Verdict(
        outcome=Outcome.FAILED,
        reason=Reason.ATTEMPT_TIMED_OUT if job.out_of_time else Reason.RUNNER_LOST,
        message=f"Job {job.id.name} ended ({job.finished}) and its Pod is gone with the outcome record",
    )


def _disruption(pod: PodView, job: JobView | None) -> tuple[Reason, str] | None:
    """Who interrupted the runner, if somebody did."""
    if pod.disruption is not None:
        reason, message = pod.disruption
        return _DISRUPTIONS.get(reason, Reason.EVICTED), f"Pod {pod.id.name} was interrupted ({reason}): {message}"
    if pod.reason in ("Evicted", "Preempting"):
        return Reason.EVICTED, f"Pod {pod.id.name} was evicted: {pod.message}"
    killed = pod.terminated is None or pod.terminated.exit_code in _KILLED
    if (pod.deleting or pod.gone) and killed and job is not None and job.suspended:
        return Reason.PREEMPTED, suspended(job)
    if (pod.deleting or pod.gone) and killed and (job is None or job.deleting):
        return Reason.JOB_DELETED, f"the Job of Pod {pod.id.name} was deleted, and the Pod with it"
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

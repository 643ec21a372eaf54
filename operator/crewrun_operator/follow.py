"""Policy: an open attempt. Is it over, does it run, must it be stopped, was it ever made?

Purely computational. Absence is never believed from the store alone: an attempt whose Job is not there, or
whose Job ended and whose Pod is not there, is looked up live before anything is concluded from it.
"""

from dataclasses import replace

from crewrun_api.reasons import Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus
from crewrun_operator.begin import start
from crewrun_operator.conclude import conclude
from crewrun_operator.diagnose import Verdict, Waiting, by_record, diagnose, waiting
from crewrun_operator.finish import PAUSES, StopRequest, stop_request
from crewrun_operator.held import hold, is_held, let_go, taken_back
from crewrun_operator.observed import Plan, Reported
from crewrun_operator.progress import Ongoing, node_lost_at, seen, show
from crewrun_operator.state import State
from crewrun_operator.views import JobView, PodView


def follow(state: State) -> Plan | None:
    """What to do about the attempt that is recorded and has no end yet."""
    attempt = state.open_attempt
    if attempt is None:
        return None
    job, pod, reported = state.job(attempt.number), state.pod(attempt), state.reported(attempt)
    if job is None:
        return _follow(state, attempt)
    if is_held(state, attempt, job, pod, reported):
        return hold(state, attempt, job)
    if admitted := let_go(state, attempt, job, pod, reported):
        plan = _follow(admitted, attempt)
        return plan if plan.status else replace(plan, status=admitted.status)
    return _follow(state, attempt)


def _follow(state: State, attempt: AttemptStatus) -> Plan:
    job, pod, reported = state.job(attempt.number), state.pod(attempt), state.reported(attempt)
    if taken_back(attempt, job, pod):
        pod = None  # its Job makes another
    refusal = state.observed.refusals.get(attempt.number)
    holdup = Waiting(refusal.reason, refusal.message) if refusal and job is None else waiting(pod)
    holdup = None if reported else holdup  # who reports runs, whatever the watch has told of so far
    stop = stop_request(state, holdup)
    if verdict := _told(reported, stop):
        files = reported.report.files if reported else ()
        return conclude(state, seen(attempt, pod, reported), verdict, stop, files=files)
    if job is None and pod is None:
        return _without_job(state, attempt, stop)
    if pod is None and job is not None and (job.finished or attempt.pod_uid):
        if not _confirmed(state, attempt.number, job):
            return Plan(confirm=attempt.number)
        if not job.finished:
            message = f"Pod {attempt.pod} is gone, and its outcome record with it"
            reason = Reason.PREEMPTED if job.suspended else Reason.POD_DELETED
            return conclude(state, attempt, Verdict(Outcome.FAILED, reason, message), stop)
    if verdict := diagnose(pod, job, state.uid):
        by_whom = verdict.reason is Reason.POD_DELETED and job is not None and stop is None
        if by_whom and not _confirmed(state, attempt.number, job):  # its Job may know why, and its watch be late
            return Plan(confirm=attempt.number)
        return conclude(state, seen(attempt, pod, reported), verdict, stop)
    if verdict := _lost(state, pod, reported):
        if not _confirmed(state, attempt.number, job):  # its watch may be what is silent
            return Plan(confirm=attempt.number)
        return conclude(state, seen(attempt, pod, reported), verdict, stop)
    return show(state, Ongoing(attempt, pod, reported, holdup, stop, job))


def _told(reported: Reported | None, stop: StopRequest | None) -> Verdict | None:
    """The end that a runner has reported itself. Of one that was stopped, and not by us, its Pod says why."""
    outcome = reported.report.outcome if reported else None
    if reported is None or outcome is None:
        return None
    if outcome.outcome is Outcome.STOPPED and stop is None and outcome.reason not in PAUSES:
        return None
    return by_record(outcome, reported.received_at)


def _lost(state: State, pod: PodView | None, reported: Reported | None) -> Verdict | None:
    """A node that has not answered for too long. Who still reports is not lost."""
    due = node_lost_at(state, pod, reported)
    if pod is None or due is None or due > state.now:
        return None
    seconds = state.settings.node_lost_seconds
    message = f"the node of Pod {pod.id.name} has not answered for {seconds} s (spec.nodeLostSeconds)"
    return Verdict(Outcome.FAILED, Reason.NODE_LOST, message, ran=pod.ran)


def _without_job(state: State, attempt: AttemptStatus, stop: StopRequest | None) -> Plan:
    """The attempt is recorded and neither its Job nor its Pod is known."""
    refusal = state.observed.refusals.get(attempt.number)
    if refusal is not None and not refusal.again:
        verdict = Verdict(Outcome.FAILED, refusal.reason, refusal.message, ran=False)
        return conclude(state, attempt, verdict, stop)
    if not _confirmed(state, attempt.number, None):
        return Plan(confirm=attempt.number)
    if attempt.pod_uid is not None:
        message = f"Job {attempt.job} was deleted, and its Pod with it"
        return conclude(state, attempt, Verdict(Outcome.FAILED, Reason.JOB_DELETED, message), stop)
    if stop is not None or attempt.stop_time is not None:  # perhaps nobody wants it to stop any more
        reason = stop.reason if stop else Reason.SUSPENDED
        verdict = Verdict(Outcome.STOPPED, reason, "stopped before its Pod was made", ran=False)
        return conclude(state, attempt, verdict, stop)
    return _make_job(state, attempt)


def _make_job(state: State, attempt: AttemptStatus) -> Plan:
    status = None
    if refusal := state.observed.refusals.get(attempt.number):
        status = state.settled(state.status, Phase.STARTING, refusal.reason, refusal.message)
    if plan := start(state, status, attempt.number):
        return plan
    message = "the crew, its profile or the inputs changed before the Job was made"
    return conclude(state, attempt, Verdict(Outcome.FAILED, Reason.CREW_CHANGED, message, ran=False), None)


def _confirmed(state: State, attempt: int, job: JobView | None) -> bool:
    """Whether the API server itself was asked about this attempt, and its Job is still as it was then."""
    return state.observed.confirmed.get(attempt) == (job.id.version if job else 0)

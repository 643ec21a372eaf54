"""Policy: an open attempt. Is it over, does it run, must it be stopped, was it ever made?

Purely computational. Absence is never believed from the store alone: an attempt whose Job is not there, or
whose Job ended and whose Pod is not there, is looked up live before anything is concluded from it.
"""

from datetime import datetime, timedelta

from crewrun_api.reasons import ConditionType, Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.begin import start
from crewrun_operator.conclude import conclude
from crewrun_operator.diagnose import Verdict, Waiting, diagnose, waiting
from crewrun_operator.finish import StopRequest, out_of_time_at, start_deadline_at, stop_request
from crewrun_operator.observed import Plan, Stop
from crewrun_operator.state import State
from crewrun_operator.status import condition, with_attempt
from crewrun_operator.times import earliest, parse, stamp
from crewrun_operator.views import JobView, PodView

#: A change that is mere progress is written at most this soon after the attempt was recorded, so that a
#: run that is over in a moment costs no write for having been Running.
_PROGRESS_AFTER = timedelta(seconds=1)
#: A start that takes longer than this is told of, even if nobody knows what is wrong.
_SLOW_AFTER = timedelta(seconds=10)


def follow(state: State) -> Plan | None:
    """What to do about the attempt that is recorded and has no end yet."""
    attempt = state.open_attempt
    if attempt is None:
        return None
    job, pod = state.job(attempt.number), state.pod(attempt)
    refusal = state.observed.refusals.get(attempt.number)
    holdup = Waiting(refusal.reason, refusal.message) if refusal and job is None else waiting(pod)
    stop = stop_request(state, holdup)
    if job is None and pod is None:
        return _without_job(state, attempt, stop)
    if pod is None and job is not None and (job.finished or attempt.pod_uid):
        if not _confirmed(state, attempt.number, job):
            return Plan(confirm=attempt.number)
        if not job.finished:
            message = f"Pod {attempt.pod} is gone, and its outcome record with it"
            return conclude(state, attempt, Verdict(Outcome.FAILED, Reason.POD_DELETED, message), stop)
    if verdict := diagnose(pod, job, state.uid):
        return conclude(state, _seen(attempt, pod), verdict, stop)
    return _go_on(state, attempt, pod, holdup, stop)


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
    if stop is not None:
        verdict = Verdict(Outcome.STOPPED, stop.reason, "stopped before its Job was made", ran=False)
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


def _go_on(
    state: State,
    attempt: AttemptStatus,
    pod: PodView | None,
    holdup: Waiting | None,
    stop: StopRequest | None,
) -> Plan:
    """The attempt is not over: stop it, or show where it stands and come back at the next deadline."""
    status = with_attempt(state.status, _seen(attempt, pod))
    action = None
    if stop is not None:
        status = state.settled(status, Phase.CANCELLING, stop.reason, f"{stop.message}; stopping the runner")
        if pod is None or not (pod.deleting or pod.gone):
            action = Stop(attempt.job, pod.id.name if pod else None, pod.id.uid if pod else None)
    elif holdup is None:
        status = state.settled(status, Phase.RUNNING, Phase.RUNNING, f"attempt {attempt.number} is running")
    elif holdup.known:
        status = state.settled(status, Phase.STARTING, holdup.reason, holdup.message)
    elif not _younger(state, attempt, _SLOW_AFTER):
        status = state.settled(status, Phase.STARTING, Phase.STARTING, holdup.message)
    if stop is not None:
        return Plan(status=status, stop=action)
    again_at = earliest(
        out_of_time_at(state),
        start_deadline_at(state) if holdup else None,
        _younger(state, attempt, _SLOW_AFTER) if holdup else None,
    )
    if (later := _younger(state, attempt, _PROGRESS_AFTER)) and _mere_progress(status):
        return Plan(again_at=earliest(later, again_at))
    return Plan(status=status, again_at=again_at)


def _seen(attempt: AttemptStatus, pod: PodView | None) -> AttemptStatus:
    """The attempt with the execution that was found. From then on no other Pod may speak for it."""
    if pod is None or pod.started_at is None or attempt.pod_uid is not None:
        return attempt
    running = stamp(pod.started_at)
    return attempt.model_copy(update={"pod": pod.id.name, "pod_uid": pod.id.uid, "running_time": running})


def _younger(state: State, attempt: AttemptStatus, age: timedelta) -> datetime | None:
    """When the attempt reaches this age; None if it has."""
    if attempt.start_time is None:
        return None
    due = parse(attempt.start_time) + age
    return due if due > state.now else None


def _mere_progress(status: RunStatus) -> bool:
    """Whether the status tells nothing that somebody has to act on."""
    told = condition(status, ConditionType.SUCCEEDED)
    return told is not None and told.reason in (Phase.STARTING, Phase.RUNNING)


def _confirmed(state: State, attempt: int, job: JobView | None) -> bool:
    """Whether the API server itself was asked about this attempt, and its Job is still as it was then."""
    return state.observed.confirmed.get(attempt) == (job.id.version if job else 0)

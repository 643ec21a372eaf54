"""Policy: no execution outlives its attempt. Purely computational."""

from datetime import datetime, timedelta

from crewrun_api.reasons import Reason
from crewrun_operator.observed import Plan, Stop
from crewrun_operator.state import State
from crewrun_operator.times import earliest, parse
from crewrun_operator.views import PodView


def end_strays(state: State) -> Plan | None:
    """End the Pod of a closed attempt that is alive: its Job if there is one, else the Pod itself. And its Job, if that
    is suspended.

    A runner that has reported its end gets its grace period to be gone. Others are there only when somebody took
    a Pod away by force and its Job made another, or when a node was lost; their tokens would be spent for an
    attempt whose end is told already.
    """
    for pod in state.observed.pods:
        if not _is_stray(state, pod) or pod.deleting or _leave_until(state, pod) > state.now:
            continue
        job = state.job(pod.id.attempt)
        if job is None:
            return Plan(stop=Stop(pod.id.name, pod.id.name, pod.id.uid))
        if not job.deleting:
            return Plan(stop=Stop(job.id.name, None))
    return _end_suspended(state)


def _end_suspended(state: State) -> Plan | None:
    """Delete the Job of a closed attempt that is suspended: Kueue would let it go again. One that alone says what the
    run began with is kept until the next Job says so too."""
    attempt, newest = state.open_attempt, max(state.observed.jobs, default=0)
    for number, job in state.observed.jobs.items():
        if not job.suspended or job.finished or job.deleting or (attempt and attempt.number == number):
            continue
        if number < newest or state.ended or state.unchanged_payload() is not None:
            return Plan(stop=Stop(job.id.name, None))
    return None


def next_stray_at(state: State) -> datetime | None:
    """When a runner that has reported its end, and is still there, has had its time."""
    strays = (pod for pod in state.observed.pods if _is_stray(state, pod) and not pod.deleting)
    return earliest(*(due for pod in strays if (due := _leave_until(state, pod)) > state.now))


def ending(state: State, pod: PodView) -> datetime | None:
    """Until when this execution of a closed attempt is waited for; None when it is not."""
    attempt = state.attempt(pod.id.attempt)
    if not _is_stray(state, pod) or (attempt is not None and attempt.reason is Reason.NODE_LOST):
        return None
    since = pod.lost_since if pod.deleting and pod.lost_since else max(_leave_until(state, pod), state.now)
    until = since + timedelta(seconds=state.settings.node_lost_seconds)
    return until if until > state.now else None


def _is_stray(state: State, pod: PodView) -> bool:
    attempt = state.open_attempt
    return not pod.over and (attempt is None or pod.id.attempt != attempt.number)


def _leave_until(state: State, pod: PodView) -> datetime:
    attempt = state.attempt(pod.id.attempt)
    if attempt is None or attempt.completion_time is None:
        return state.now
    told_its_end = attempt.pod_uid == pod.id.uid and attempt.reason is not Reason.NODE_LOST
    grace = state.settings.grace_seconds if told_its_end else 0
    return parse(attempt.completion_time) + timedelta(seconds=grace)

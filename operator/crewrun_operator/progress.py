"""An attempt that is not over: stop it, or show where it stands. Purely computational."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crewrun_api.reasons import ConditionType, Phase
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.conclude import news_of
from crewrun_operator.diagnose import Waiting
from crewrun_operator.finish import PAUSES, StopRequest, out_of_time_at, start_deadline_at
from crewrun_operator.observed import Plan, Reported, Stop
from crewrun_operator.state import State
from crewrun_operator.status import condition, so_far, with_attempt, with_sighting, with_usage
from crewrun_operator.times import earliest, parse, stamp
from crewrun_operator.views import JobView, PodView

#: A change that is mere progress is written at most this soon after the runner was started, so that one that is over
#: in a moment costs no write for having been Running; and this soon after the last write.
_PROGRESS_AFTER = timedelta(seconds=1)
#: All runs together write their progress this often at most: what the API server can do is for what has to be done.
_PROGRESS_PER_SECOND = 10
#: A start that takes longer than this is told of, even if nobody knows what is wrong. Where many start it is the
#: cluster that is slow, which not each of them needs to say: all together do so this often at most.
_SLOW_AFTER = timedelta(seconds=10)
_SLOW_PER_SECOND = 1
#: A runner that has reported this recently is told to stop by the answer to its next report.
_LISTENS = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Ongoing:
    """An open attempt and what is known of it."""

    attempt: AttemptStatus
    pod: PodView | None
    reported: Reported | None
    holdup: Waiting | None  # why its runner does not run yet
    stop: StopRequest | None
    job: JobView | None = None


def show(state: State, going: Ongoing) -> Plan:
    """Stop the attempt, or show where it stands; and come back at the next deadline."""
    plan = _stop(state, going) if going.stop else _progress(state, going)
    notices = news_of(state, seen(going.attempt, going.pod, going.reported))
    return replace(plan, notices=notices) if plan.status else plan


def seen(attempt: AttemptStatus, pod: PodView | None, reported: Reported | None) -> AttemptStatus:
    """The attempt with the execution that was found. From then on no other Pod may speak for it."""
    started = began_at(pod, reported)
    if pod is not None and started is not None and attempt.pod_uid is None:
        update = {"pod": pod.id.name, "pod_uid": pod.id.uid, "running_time": stamp(started)}
        attempt = attempt.model_copy(update=update)
    if reported is None:
        return attempt
    told = reported.report.snapshot
    return attempt.model_copy(
        update={
            "resumed_from_task": told.resumed_from_task,
            "checkpoint_refused": told.checkpoint_refused or None,
            "warning": told.warning or attempt.warning,
        }
    )


def began_at(pod: PodView | None, reported: Reported | None) -> datetime | None:
    """When the runner began, as its Pod says or else its first words; None if nobody knows of it."""
    return (pod.started_at if pod else None) or (reported.received_at if reported else None)


def starting_until(state: State, status: RunStatus, begun: datetime | None) -> datetime | None:
    """When there is something to say or to do about an attempt that may start since then, if nothing is heard of it."""
    slow_at = _slow_at(state, begun)
    return earliest(
        out_of_time_at(state, status),
        start_deadline_at(state, begun),
        slow_at if slow_at and slow_at > state.now else None,
    )


def node_lost_at(state: State, pod: PodView | None, reported: Reported | None) -> datetime | None:
    """When a node that does not answer is given up; None while it does."""
    if pod is None or pod.over or pod.lost_since is None:
        return None
    heard = max(pod.lost_since, reported.received_at) if reported else pod.lost_since
    return heard + timedelta(seconds=state.settings.node_lost_seconds)


def _stop(state: State, going: Ongoing) -> Plan:
    """Told by the answer to its next report; one that does not listen, or does not obey, by deleting its Pod."""
    assert going.stop is not None
    stop, pod, reported = going.stop, going.pod, going.reported
    attempt = seen(going.attempt, pod, reported)
    since = parse(attempt.stop_time) if attempt.stop_time else state.now
    why = {"stop_time": stamp(since), "reason": stop.reason, "message": stop.message}
    attempt = attempt.model_copy(update=why)
    phase = Phase.RUNNING if stop.reason in PAUSES else Phase.CANCELLING
    status = _with_progress(with_attempt(state.status, attempt), attempt, reported)
    status = state.settled(status, phase, stop.reason, f"{stop.message}; stopping the runner")
    if reported is not None and reported.received_at >= since - _LISTENS:
        due = since + timedelta(seconds=state.settings.grace_seconds)
        if due > state.now:
            return Plan(status=status, again_at=due)
    action = None
    if going.job and going.job.local_queue:  # Kueue would start it again
        action = None if going.job.deleting else Stop(going.job.id.name, None)
    elif pod is None or not (pod.deleting or pod.gone):
        action = Stop(attempt.job, pod.id.name if pod else None, pod.id.uid if pod else None)
    return Plan(status=status, stop=action, again_at=node_lost_at(state, pod, reported))


def _progress(state: State, going: Ongoing) -> Plan:
    attempt, holdup = seen(going.attempt, going.pod, going.reported), going.holdup
    slow_at = _slow_at(state, state.begun_at) if holdup else None
    if attempt.stop_time and going.reported and going.pod and not going.pod.deleting:
        # The wish was taken back before it had an effect; a later one has its own time.
        attempt = attempt.model_copy(update={"stop_time": None, "reason": None, "message": None})
    status = _with_progress(with_attempt(state.status, attempt), attempt, going.reported)
    if holdup is None:
        status = state.settled(status, Phase.RUNNING, Phase.RUNNING, f"attempt {attempt.number} is running")
    elif holdup.known:
        status = state.settled(status, Phase.STARTING, holdup.reason, holdup.message)
    elif slow_at and slow_at <= state.now:
        status = state.settled(status, Phase.STARTING, Phase.STARTING, holdup.message)
    again_at = earliest(
        starting_until(state, state.status, state.begun_at) if holdup else out_of_time_at(state),
        node_lost_at(state, going.pod, going.reported),
    )
    if (later := _not_before(state, going.pod)) and _mere_progress(state.status) and _mere_progress(status):
        return Plan(again_at=earliest(later, again_at) if status != state.status else again_at)
    return Plan(status=status, again_at=again_at)


def _with_progress(status: RunStatus, attempt: AttemptStatus, reported: Reported | None) -> RunStatus:
    if reported is None:
        return status
    snapshot = reported.report.snapshot
    return with_sighting(with_usage(status, attempt.number, so_far(snapshot.usage)), snapshot, over=False)


def _not_before(state: State, pod: PodView | None) -> datetime | None:
    """Until when mere progress waits to be written; None when it may be."""
    pause = max(_PROGRESS_AFTER, timedelta(seconds=state.observed.going / _PROGRESS_PER_SECOND))
    begun = (pod.started_at if pod else None) or state.begun_at
    due = [moment + pause for moment in (begun, state.observed.written_at) if moment]
    return max((moment for moment in due if moment > state.now), default=None)


def _slow_at(state: State, begun: datetime | None) -> datetime | None:
    """When it is told that an attempt does not start that may since then; None while it may not."""
    after = max(_SLOW_AFTER, timedelta(seconds=state.observed.going / _SLOW_PER_SECOND))
    return begun + after if begun else None


def _mere_progress(status: RunStatus) -> bool:
    """Whether the status tells nothing that somebody has to act on."""
    told = condition(status, ConditionType.SUCCEEDED)
    return told is not None and told.reason in (Phase.STARTING, Phase.RUNNING)

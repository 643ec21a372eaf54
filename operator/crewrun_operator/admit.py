"""A run and its queue: it asks for a place, says what it waits for, and takes the place it was given.

Purely computational.
"""

from datetime import datetime, timedelta

from crewrun_api.reasons import AdmittedReason, ConditionType, Phase
from crewrun_api.run import RunStatus
from crewrun_operator.observed import Join, Plan
from crewrun_operator.queue_state import Hold, Place
from crewrun_operator.state import State
from crewrun_operator.status import condition, with_condition
from crewrun_operator.times import parse, stamp
from crewrun_operator.windows import window_end

#: How often a position is told anew at the most, and of how many that are next it is looked after.
_TOLD_EVERY = timedelta(minutes=1)
_LOOKED_AFTER = 100


def keep_waiting(state: State) -> Plan | None:
    """A run that waits, and has no place yet. What it is made of is checked again when it has one."""
    place = state.observed.place
    if state.status.phase is not Phase.QUEUED or place is None or place.granted or place.queue != state.queue:
        return None
    return _waits(state, state.status, place)


def ask(state: State, status: RunStatus) -> Plan | None:
    """Ask the queue for a place; None when the run has one, or needs none."""
    if status.queue is None:
        return None
    place = state.observed.place
    if place is None or place.queue != status.queue:
        created = state.observed.run["metadata"]["creationTimestamp"]
        return Plan(join=Join(status.queue, parse(status.order_time or created)))
    return None if place.granted else _waits(state, status, place)


def admitted(state: State, status: RunStatus) -> RunStatus:
    """The status of a run that may record its next attempt."""
    if state.local_queue is not None:
        return wait_for_kueue(state, status, state.local_queue)
    if status.queue is None:
        return _admitted(state, status, AdmittedReason.NO_QUEUE, "no queue limits this run")
    status = waited(status, state.now)
    return _admitted(state, status, AdmittedReason.ADMITTED, f"CrewQueue {status.queue} gave it a place")


def waited(status: RunStatus, until: datetime) -> RunStatus:
    """The status of a run that waits in a queue no more: the time that it did counts for no limit."""
    if status.queue_time is None or status.start_time is None:
        return status
    seconds = max(0, round((until - parse(status.queue_time)).total_seconds()))
    return status.model_copy(update={"suspended_seconds": status.suspended_seconds + seconds, "queue_time": None})


def wait_for_kueue(state: State, status: RunStatus, queue: str) -> RunStatus:
    """The status of a run whose Job is suspended: Kueue says when it goes."""
    message = f"LocalQueue {queue} of Kueue has not admitted its Job" if queue else "its Job is suspended"
    status = status.model_copy(update={"queue_time": status.queue_time or stamp(state.now), "queue_position": None})
    return state.not_admitted(status, AdmittedReason.WAITS_FOR_KUEUE, message)


def queued(state: State, status: RunStatus, attempt: int) -> RunStatus:
    """The status in the phase of a run whose Job waits for Kueue."""
    message = f"attempt {attempt} starts when Kueue admits its Job"
    return state.settled(status, Phase.QUEUED, AdmittedReason.WAITS_FOR_KUEUE, message)


def admitted_by_kueue(state: State, status: RunStatus, queue: str, at: datetime) -> RunStatus:
    """The status of a run whose Job was let go at that time."""
    message = f"LocalQueue {queue} of Kueue has admitted its Job" if queue else "its Job is not suspended any more"
    return _admitted(state, waited(status, at), AdmittedReason.ADMITTED_BY_KUEUE, message)


def _waits(state: State, status: RunStatus, place: Place) -> Plan:
    """Say that it waits, and for what; again only where that has become something else, or much less."""
    reason, message = _why(state, place)
    position, told = place.ahead + 1, condition(state.status, ConditionType.ADMITTED)
    again_at = state.now + _TOLD_EVERY if position <= _LOOKED_AFTER else None
    known = (
        state.status.phase is Phase.QUEUED
        and (told is not None and told.reason == reason)
        and state.status.queue == status.queue
        and state.status.observed_generation == state.generation
        and not _much_nearer(state, position)
    )
    if known:
        return Plan(again_at=again_at)
    waiting = {"queue_time": status.queue_time or stamp(state.now), "queue_position": position}
    status = state.not_admitted(status.model_copy(update=waiting), reason, message)
    return Plan(
        status=state.settled(status, Phase.QUEUED, reason, f"position {position}: {message}"), again_at=again_at
    )


def _much_nearer(state: State, position: int) -> bool:
    told, written = state.status.queue_position, state.observed.written_at
    lately = written is not None and state.now - written < _TOLD_EVERY
    return told is not None and position * 2 <= told and not lately


def _why(state: State, place: Place) -> tuple[AdmittedReason, str]:
    queue = state.observed.queues.get(place.queue)
    its = f"CrewQueue {place.queue}"
    match place.hold:
        case None:
            return AdmittedReason.WAITS_ITS_TURN, f"{its} gives places to others first"
        case Hold.MISSING:
            return AdmittedReason.QUEUE_NOT_FOUND, f"there is no {its} any more; the run goes on when it is there again"
        case Hold.INVALID:
            problem = queue.problem if queue else ""
            return AdmittedReason.QUEUE_INVALID, f"{its} admits nothing: {problem}"
        case Hold.STOPPED:
            policy = queue.spec.stop_policy if queue and queue.spec else ""
            return AdmittedReason.QUEUE_STOPPED, f"{its} admits nothing (spec.stopPolicy: {policy})"
        case Hold.BUDGET_SPENT:
            window = queue.cap.window if queue and queue.cap else None
            until = f"; the next window begins at {stamp(window_end(window, state.now))}" if window else ""
            return AdmittedReason.BUDGET_SPENT, f"{its} has spent its budget (spec.budget){until}"
        case Hold.FULL:
            places = queue.spec.max_concurrent_runs if queue and queue.spec else None
            return AdmittedReason.QUEUE_FULL, f"all {places} places of {its} are held (spec.maxConcurrentRuns)"


def _admitted(state: State, status: RunStatus, reason: AdmittedReason, message: str) -> RunStatus:
    return with_condition(status, ConditionType.ADMITTED, "True", reason, message, state.now, state.generation)

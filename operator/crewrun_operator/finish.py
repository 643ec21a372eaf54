"""What asks for a run to stop: people, and time. Purely computational."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from crewrun_api.reasons import Phase, Reason
from crewrun_api.run import RunStatus
from crewrun_operator.diagnose import Waiting
from crewrun_operator.state import State
from crewrun_operator.times import parse

_REQUESTS = frozenset({Reason.CANCELLED, Reason.SUSPENDED, Reason.QUEUE_STOPPED, Reason.TIMED_OUT})
#: What stops a run that is to go on later.
PAUSES = frozenset({Reason.SUSPENDED, Reason.QUEUE_STOPPED})
_PHASES = {
    Reason.CANCELLED: Phase.CANCELLED,
    Reason.SUSPENDED: Phase.SUSPENDED,
    Reason.QUEUE_STOPPED: Phase.QUEUED,
}


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Why the run must not go on."""

    reason: Reason
    message: str

    @property
    def phase(self) -> Phase:
        """Where the run stands when it has stopped."""
        return _PHASES.get(self.reason, Phase.FAILED)


def stop_request(state: State, waiting: Waiting | None = None) -> StopRequest | None:
    """Whether the run is to stop now; what ends it comes before what only suspends it. `waiting` says why an
    open attempt does not run yet, if it does not."""
    if state.cancelled:
        return StopRequest(Reason.CANCELLED, "cancelled on request (spec.cancel)")
    if (due := out_of_time_at(state)) and due <= state.now:
        seconds = state.settings.timeout_seconds
        return StopRequest(Reason.TIMED_OUT, f"the run did not end within spec.timeoutSeconds ({seconds} s)")
    if waiting and (due := start_deadline_at(state, state.begun_at)) and due <= state.now:
        attempt, seconds = state.open_attempt, state.settings.start_deadline_seconds
        if attempt and attempt.stop_time and attempt.reason and attempt.reason not in _REQUESTS:
            return StopRequest(attempt.reason, attempt.message or "")  # a Pod that goes no longer says what it lacks
        message = f"no runner started within spec.startDeadlineSeconds ({seconds} s): {waiting.message}"
        return StopRequest(waiting.reason, message)
    if state.suspended:
        return StopRequest(Reason.SUSPENDED, "suspended on request (spec.suspend)")
    if state.drained and state.open_attempt is not None:
        message = f"CrewQueue {state.status.queue} stops what runs (spec.stopPolicy: HoldAndDrain)"
        return StopRequest(Reason.QUEUE_STOPPED, message)
    return None


def out_of_time_at(state: State, status: RunStatus | None = None) -> datetime | None:
    """When the run as a whole is over its limit, with this status if one is given. While it is suspended or waits for
    its queue, no time counts."""
    status = status or state.status
    start = status.start_time
    if start is None or status.suspend_time or status.queue_time:
        return None
    if (seconds := state.settings.timeout_seconds) is None:  # asked last: a run that has not begun is accepted for it
        return None
    return parse(start) + timedelta(seconds=seconds + status.suspended_seconds)


def start_deadline_at(state: State, begun: datetime | None) -> datetime | None:
    """When an attempt that may start since then, and does not run yet, has waited too long."""
    return begun + timedelta(seconds=state.settings.start_deadline_seconds) if begun else None

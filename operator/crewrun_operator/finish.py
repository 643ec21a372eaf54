"""Policies: what ends a run, its attempts aside. Purely computational."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from crewrun_api.reasons import Phase, Reason
from crewrun_operator.diagnose import Waiting
from crewrun_operator.observed import Notice, Plan
from crewrun_operator.state import State
from crewrun_operator.times import parse


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Why the run must not go on."""

    reason: Reason
    message: str

    @property
    def phase(self) -> Phase:
        return Phase.CANCELLED if self.reason is Reason.CANCELLED else Phase.FAILED


def stop_request(state: State, waiting: Waiting | None = None) -> StopRequest | None:
    """Whether the run is to end now. `waiting` says why an open attempt does not run yet, if it does not."""
    if state.cancelled:
        return StopRequest(Reason.CANCELLED, "cancelled on request (spec.cancel)")
    if (due := out_of_time_at(state)) and due <= state.now:
        seconds = state.settings.timeout_seconds
        return StopRequest(Reason.TIMED_OUT, f"the run did not end within spec.timeoutSeconds ({seconds} s)")
    if waiting and (due := start_deadline_at(state)) and due <= state.now:
        seconds = state.settings.start_deadline_seconds
        message = f"no runner started within spec.startDeadlineSeconds ({seconds} s): {waiting.message}"
        return StopRequest(waiting.reason, message)
    return None


def out_of_time_at(state: State) -> datetime | None:
    """When the run as a whole is over its limit."""
    seconds, start = state.settings.timeout_seconds, state.status.start_time
    return parse(start) + timedelta(seconds=seconds) if seconds is not None and start is not None else None


def start_deadline_at(state: State) -> datetime | None:
    """When an open attempt that does not run yet has waited too long."""
    attempt = state.open_attempt
    if attempt is None or attempt.start_time is None:
        return None
    return parse(attempt.start_time) + timedelta(seconds=state.settings.start_deadline_seconds)


def end_before_start(state: State) -> Plan | None:
    """A run without an open attempt ends at once when it is cancelled or out of time."""
    if (stop := stop_request(state)) is None:
        return None
    status = state.settled(state.status, stop.phase, stop.reason, stop.message)
    notices = () if stop.phase is Phase.CANCELLED else (Notice("Warning", stop.reason, stop.message),)
    return Plan(status=status, notices=notices)

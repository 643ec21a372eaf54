"""Policies: a run without an open attempt, and what keeps the next one from starting. Purely computational."""

from typing import Any

from crewrun_api.reasons import Phase, Reason
from crewrun_operator.admit import admitted
from crewrun_operator.begin import refuse, valid
from crewrun_operator.conclude import halted
from crewrun_operator.finish import out_of_time_at, stop_request
from crewrun_operator.observed import Plan
from crewrun_operator.state import State
from crewrun_operator.strays import ending
from crewrun_operator.times import earliest, parse, stamp


def stop_before_start(state: State) -> Plan | None:
    """Without an open attempt a run ends at once when it is cancelled or out of time, and waits when it is
    suspended; `nextAttemptTime` stays."""
    if (stop := stop_request(state)) is None:
        return None
    status = state.status
    if stop.reason is Reason.SUSPENDED and status.crew is None:  # what is wrong with it is told now, not on going on
        if plan := refuse(state):
            return plan
        status = valid(state)
        if status.queue is None:
            status = admitted(state, status)
    plan = halted(state, status, stop)
    return plan if plan.status != state.status else Plan()


def go_on(state: State) -> Plan | None:
    """A run that was suspended goes on."""
    since = state.status.suspend_time
    if since is None:
        return None
    paused = max(0, round((state.now - parse(since)).total_seconds()))
    update: dict[str, Any] = {"suspend_time": None, "suspended_seconds": state.status.suspended_seconds + paused}
    if state.queue is not None:  # at the back of it
        update["order_time"] = stamp(state.now)
    status = state.status.model_copy(update=update)
    waits = status.next_attempt_time is not None and parse(status.next_attempt_time) > state.now
    phase = Phase.BACKING_OFF if waits else Phase.PENDING
    return Plan(status=state.settled(status, phase, "Resumed", "spec.suspend is false again; the run goes on"))


def back_off(state: State) -> Plan | None:
    """Nothing happens before `status.nextAttemptTime`, whatever the operator went through meanwhile."""
    if state.status.next_attempt_time is None:
        return None
    due = parse(state.status.next_attempt_time)
    if due <= state.now:
        return None
    return Plan(again_at=earliest(due, out_of_time_at(state)))


def one_at_a_time(state: State) -> Plan | None:
    """The next attempt waits until the execution of the one before has ended: its end may have been reported, or
    its Pod be deleted, before its process is gone. A node that is lost is not waited for."""
    due = [until for pod in state.observed.pods if (until := ending(state, pod)) is not None]
    return Plan(again_at=max(due)) if due else None

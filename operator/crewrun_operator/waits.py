"""Policy: the next attempt waits for its time. Purely computational."""

from crewrun_operator.finish import out_of_time_at
from crewrun_operator.observed import Plan
from crewrun_operator.state import State
from crewrun_operator.times import earliest, parse


def back_off(state: State) -> Plan | None:
    """Nothing happens before `status.nextAttemptTime`, whatever the operator went through meanwhile."""
    if state.status.next_attempt_time is None:
        return None
    due = parse(state.status.next_attempt_time)
    if due <= state.now:
        return None
    return Plan(again_at=earliest(due, out_of_time_at(state)))

"""Policy: an ended run stays as it is, until its time to live is over. Purely computational."""

from datetime import timedelta

from crewrun_api.reasons import ConditionType
from crewrun_operator.observed import Plan
from crewrun_operator.state import State
from crewrun_operator.status import condition
from crewrun_operator.strays import next_stray_at
from crewrun_operator.times import earliest, parse


def expire(state: State) -> Plan | None:
    """Delete an ended run `ttlSecondsAfterFinished` after its end; the run's own value is the strongest,
    and may be changed after the end."""
    if not state.ended:
        return None
    seconds = state.observed.run["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        seconds = state.settings.ttl_seconds_after_finished
    if seconds is None or state.status.completion_time is None:
        return stays(state)
    expiry = parse(state.status.completion_time) + timedelta(seconds=seconds)
    if expiry <= state.now:
        return Plan(delete_run=True)
    plan = stays(state)
    return Plan(status=plan.status, again_at=earliest(expiry, plan.again_at))


def stays(state: State) -> Plan:
    """As it is; but an edit of its spec has been seen, which tools that wait for it want to know."""
    told, phase = condition(state.status, ConditionType.SUCCEEDED), state.status.phase
    if state.generation == state.status.observed_generation or told is None or phase is None:
        return Plan(again_at=next_stray_at(state))
    status = state.settled(state.status, phase, told.reason, told.message)
    return Plan(status=status, again_at=next_stray_at(state))

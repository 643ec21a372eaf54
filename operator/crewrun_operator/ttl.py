"""Policy: an ended run stays as it is, until its time to live is over. Purely computational."""

from datetime import timedelta

from crewrun_operator.observed import Plan
from crewrun_operator.state import State
from crewrun_operator.times import parse


def expire(state: State) -> Plan | None:
    """Delete an ended run `ttlSecondsAfterFinished` after its end; the run's own value is the strongest,
    and may be changed after the end."""
    if not state.ended:
        return None
    seconds = state.observed.run["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        seconds = state.settings.ttl_seconds_after_finished
    if seconds is None or state.status.completion_time is None:
        return Plan()
    expiry = parse(state.status.completion_time) + timedelta(seconds=seconds)
    return Plan(delete_run=True) if expiry <= state.now else Plan(again_at=expiry)

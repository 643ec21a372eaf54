"""Policy: a new value of `spec.rerun` starts an ended run again. Purely computational."""

from typing import Any

from crewrun_api.reasons import ConditionType, Phase
from crewrun_api.run import RunStatus
from crewrun_operator.begin import begin
from crewrun_operator.observed import Plan
from crewrun_operator.state import State
from crewrun_operator.times import stamp
from crewrun_operator.waits import one_at_a_time, stop_before_start

#: Conditions that speak of an end, or of what was accepted for it.
_OF_THE_END = frozenset({ConditionType.SPEC_CHANGED, ConditionType.TTL_IGNORED})


def run_again(state: State) -> Plan | None:
    """Forget the end, and decide as about a run that has not begun; its history and its usage stay."""
    if not state.ended or not state.rerun or state.rerun == state.status.rerun:
        return None
    anew = state.with_status(_anew(state))
    return stop_before_start(anew) or one_at_a_time(anew) or begin(anew)


def _anew(state: State) -> RunStatus:
    status, fresh = state.status, RunStatus()
    forgotten: dict[str, Any] = {
        name: getattr(fresh, name)
        for name in (
            "phase",
            "progress",
            "start_time",
            "completion_time",
            "crew",
            "profile",
            "counted_attempts",
            "disruptions",
            "next_attempt_time",
            "tasks",
            "task_count",
            "output",
            "webhook",
            "suspend_time",
            "suspended_seconds",
            "queue",
            "queue_time",
            "queue_position",
        )
    }
    if status.phase is Phase.SUCCEEDED:  # nothing is unfinished: what it made must not be taken for the new result
        forgotten["resumable_from"] = status.attempt_count + 1
    forgotten["order_time"] = stamp(state.now)
    forgotten["conditions"] = [each for each in status.conditions if each.type not in _OF_THE_END]
    return status.model_copy(update=forgotten)

"""Policy: an ended run stays as it is, until its time to live is over. Purely computational."""

from dataclasses import replace
from datetime import timedelta

from crewrun_api.reasons import ConditionType
from crewrun_operator.observed import Notice, Plan
from crewrun_operator.state import State
from crewrun_operator.status import bounded, condition, with_condition, without_condition
from crewrun_operator.strays import next_stray_at
from crewrun_operator.times import earliest, parse
from crewrun_operator.tracked import Mark, tracked_by


def expire(state: State) -> Plan | None:
    """Delete an ended run `ttlSecondsAfterFinished` after its end; the run's own value is the strongest,
    and may be changed after the end. One that a GitOps tool tracks would be made, and paid, again: it stays."""
    if not state.ended:
        return None
    seconds = _seconds(state)
    if seconds is None or state.status.completion_time is None:
        return _as_said(stays(state), state)
    if mark := tracked_by(state.observed.run):
        return _ignored(stays(state), state, mark)
    expiry = parse(state.status.completion_time) + timedelta(seconds=seconds)
    if expiry <= state.now:
        return Plan(delete_run=True)
    plan = _as_said(stays(state), state)
    return replace(plan, again_at=earliest(expiry, plan.again_at))


def stays(state: State) -> Plan:
    """As it is; but an edit of its spec has been seen, which tools that wait for it want to know."""
    told, phase = condition(state.status, ConditionType.SUCCEEDED), state.status.phase
    if state.generation == state.status.observed_generation or told is None or phase is None:
        return Plan(again_at=next_stray_at(state))
    status = state.settled(state.status, phase, told.reason, told.message)
    return Plan(status=status, again_at=next_stray_at(state))


def _seconds(state: State) -> int | None:
    seconds: int | None = state.observed.run["spec"].get("ttlSecondsAfterFinished")
    return state.settings.ttl_seconds_after_finished if seconds is None else seconds


def _ignored(plan: Plan, state: State, mark: Mark) -> Plan:
    """Say, once, that the time to live does not count, and why."""
    told = condition(state.status, ConditionType.TTL_IGNORED)
    message = (
        f"{mark.told} and would make it again if ttlSecondsAfterFinished deleted it, so it stays; "
        f"to be rid of it remove it where {mark.tool} has it from"
    )
    if told is not None and (told.reason, told.message) == (mark.reason, message) and plan.status is None:
        return plan
    status = with_condition(
        plan.status or state.status,
        ConditionType.TTL_IGNORED,
        "True",
        mark.reason,
        message,
        state.now,
        state.generation,
    )
    news = () if told is not None else (Notice("Warning", ConditionType.TTL_IGNORED, message),)
    return replace(plan, status=bounded(status), notices=news)


def _as_said(plan: Plan, state: State) -> Plan:
    """Nobody tracks the run any more, or it has no time to live: nothing is ignored."""
    if condition(state.status, ConditionType.TTL_IGNORED) is None:
        return plan
    return replace(plan, status=without_condition(plan.status or state.status, ConditionType.TTL_IGNORED))

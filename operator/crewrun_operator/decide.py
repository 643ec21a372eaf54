"""The decision: everything known of a run and the time in, one plan out.

Pure and total: no clock, no I/O, no exception for any observation. The policies read as a list; the first
that has something to say decides. Deciding again after a plan was carried out plans nothing new.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from crewrun_operator.begin import begin
from crewrun_operator.checkpoints import keep_checkpoint
from crewrun_operator.follow import follow
from crewrun_operator.observed import Observed, Plan
from crewrun_operator.rereads import read_again
from crewrun_operator.rerun import run_again
from crewrun_operator.state import State
from crewrun_operator.strays import end_strays
from crewrun_operator.ttl import expire
from crewrun_operator.waits import back_off, go_on, one_at_a_time, stop_before_start
from crewrun_operator.webhook import tell

Policy = Callable[[State], Plan | None]


def being_deleted(state: State) -> Plan | None:
    """A run that is going: the garbage collector ends its Jobs, and nothing may be started."""
    return Plan() if state.being_deleted else None


POLICIES: tuple[Policy, ...] = (
    being_deleted,
    read_again,  # a run made of ConfigMaps, and a decision needs what they say
    end_strays,  # no execution outlives its attempt
    run_again,  # an ended run, and somebody wants it again
    tell,  # an ended run whose webhook has not been told
    expire,  # an ended run: nothing but its time to live
    keep_checkpoint,  # what a runner was told is kept, is kept: before its attempt can be over
    follow,  # an open attempt: is it over, does it run, must it stop?
    stop_before_start,  # no open attempt: cancelled, out of time, or suspended
    go_on,  # suspended before, and no longer
    back_off,  # the next attempt's time has not come
    one_at_a_time,  # the execution of the attempt before has not ended
    begin,  # accept the run and start the next attempt
)


def decide(observed: Observed, now: datetime) -> Plan:
    """What is to be done about this run now."""
    state = State(observed, now)
    plan = _planned(state)
    if plan.status is None or plan.status.phase is None or not plan.status.phase.ended:
        return plan
    after = _planned(state.with_status(plan.status))  # an end mostly leaves nothing to do but to wait
    return replace(plan, again_at=after.again_at, settled=True) if after == Plan(again_at=after.again_at) else plan


def _planned(state: State) -> Plan:
    for policy in POLICIES:
        if (plan := policy(state)) is not None:
            return plan
    raise AssertionError("the last policy always has a plan")

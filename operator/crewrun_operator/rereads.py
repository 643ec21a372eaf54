"""Policy: what stands in ConfigMaps is read again where a decision needs it. Purely computational."""

from crewrun_operator.observed import Plan
from crewrun_operator.state import State


def read_again(state: State) -> Plan | None:
    """A run that has begun lives by what its newest Job carries, and what was read of ConfigMaps is forgotten. They are
    read again while there is no such Job, as after a restart, and when the run's spec was edited: its status says
    whether that changes what runs."""
    if state.status.crew is None or state.config_maps <= state.observed.config_maps.keys():
        return None
    edited = state.generation != state.status.observed_generation
    carried = any(not job.deleting for job in state.observed.jobs.values())
    return Plan(confirm_sources=True) if edited or not (carried or state.ended) else None

"""Policy: a checkpoint that came with a report is kept. Purely computational."""

from crewrun_api.settings import Resume
from crewrun_operator.keep import save_checkpoint
from crewrun_operator.observed import Plan
from crewrun_operator.state import State


def keep_checkpoint(state: State) -> Plan | None:
    """Save what the execution of the open attempt has finished. Of any other execution nothing is taken."""
    attempt = state.open_attempt
    reported = state.reported(attempt) if attempt is not None else None
    if reported is None or not reported.checkpoint_waits:
        return None
    return Plan(save=save_checkpoint(state.observed.run, reported.report))


def checkpoint_since(state: State, attempt: int) -> int | None:
    """The oldest attempt whose checkpoint this attempt may go on from; None when it starts from scratch."""
    since = state.status.resumable_from
    from_checkpoint = state.settings.retry.resume is Resume.FROM_CHECKPOINT
    return since if from_checkpoint and attempt > since else None

"""Policy: no execution outlives its attempt. Purely computational."""

from crewrun_operator.observed import Plan, Stop
from crewrun_operator.state import State


def end_strays(state: State) -> Plan | None:
    """Delete the Job of a closed attempt whose Pod is alive.

    Normally there is none. A Job may make another Pod when somebody takes the first away by force; its
    tokens would be spent for an attempt whose end is told already.
    """
    attempt = state.open_attempt
    for pod in state.observed.pods:
        closed = attempt is None or pod.id.attempt != attempt.number
        job = state.job(pod.id.attempt)
        if closed and not pod.over and not pod.deleting and job is not None and not job.deleting:
            return Plan(stop=Stop(job.id.name, None))
    return None

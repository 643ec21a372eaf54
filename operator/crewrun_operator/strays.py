"""Policy: no execution outlives its attempt. Purely computational."""

from crewrun_operator.observed import Plan, Stop
from crewrun_operator.state import State


def end_strays(state: State) -> Plan | None:
    """End the Pod of a closed attempt that is alive: its Job if there is one, else the Pod itself.

    Normally there is none. A Job may make another Pod when somebody takes the first away by force; its
    tokens would be spent for an attempt whose end is told already.
    """
    attempt = state.open_attempt
    for pod in state.observed.pods:
        closed = attempt is None or pod.id.attempt != attempt.number
        if not closed or pod.over or pod.deleting:
            continue
        job = state.job(pod.id.attempt)
        if job is None:
            return Plan(stop=Stop(pod.id.name, pod.id.name, pod.id.uid))
        if not job.deleting:
            return Plan(stop=Stop(job.id.name, None))
    return None

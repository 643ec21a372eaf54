"""An open attempt whose Job is suspended: Kueue makes it wait, and may take its place back. Purely computational.

Only a runner that may have begun makes this the end of its attempt. Until then it is the same attempt that waits, in
the same Job: Kueue lets that go, takes it back and lets it go again as it likes.
"""

from crewrun_api.reasons import Phase
from crewrun_api.run import AttemptStatus
from crewrun_operator.admit import admitted_by_kueue, queued, wait_for_kueue, waited
from crewrun_operator.finish import stop_request
from crewrun_operator.observed import Plan, Reported
from crewrun_operator.progress import Ongoing, began_at, show
from crewrun_operator.state import State
from crewrun_operator.views import JobView, PodView


def is_held(state: State, attempt: AttemptStatus, job: JobView, pod: PodView | None, reported: Reported | None) -> bool:
    """Whether the attempt waits until its Job is let go. One that holds the place of a CrewQueue does not wait."""
    ran = attempt.pod_uid is not None or reported is not None or (pod is not None and pod.ran)
    return job.suspended and not job.finished and not ran and state.status.queue is None


def hold(state: State, attempt: AttemptStatus, job: JobView) -> Plan:
    """Say that it waits, for as long as it takes; or stop it."""
    if stop := stop_request(state):
        return show(state.with_status(waited(state.status, state.now)), Ongoing(attempt, None, None, None, stop, job))
    status = wait_for_kueue(state, state.status, job.local_queue)
    return Plan(status=queued(state, status, attempt.number))


def let_go(
    state: State, attempt: AttemptStatus, job: JobView, pod: PodView | None, reported: Reported | None
) -> State | None:
    """The state of a run whose Job does not wait any more, if its status says that it does. A runner that began says
    so too: the watch of Jobs may tell of it later than that of Pods."""
    if state.status.queue is not None or state.status.queue_time is None:
        return None
    began = began_at(pod, reported)
    if job.suspended and began is None:
        return None
    status = admitted_by_kueue(state, state.status, job.local_queue, job.started_at or began or state.now)
    message = f"attempt {attempt.number} is being started"
    return state.with_status(state.settled(status, Phase.STARTING, Phase.STARTING, message))


def taken_back(attempt: AttemptStatus, job: JobView | None, pod: PodView | None) -> bool:
    """Whether the Pod went before its runner began, and the Job, which goes on, makes another."""
    if job is None or not job.local_queue or job.finished or job.deleting or attempt.pod_uid is not None:
        return False
    return pod is not None and not pod.ran and (pod.deleting or pod.gone)

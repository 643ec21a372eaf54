"""Policy: accept a run and start its next attempt. Purely computational."""

from dataclasses import replace

from crewrun_api import names
from crewrun_api.reasons import AcceptedReason, AdmittedReason, ConditionType, Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.admit import admitted, ask, keep_waiting, queued
from crewrun_operator.checkpoints import checkpoint_since
from crewrun_operator.conclude import conclude
from crewrun_operator.diagnose import Verdict
from crewrun_operator.observed import Notice, Plan, StartAttempt
from crewrun_operator.progress import starting_until
from crewrun_operator.refused import Refused
from crewrun_operator.state import State
from crewrun_operator.status import condition, with_attempt, with_condition, with_tasks
from crewrun_operator.times import stamp
from crewrun_operator.validate import Accepted


def begin(state: State) -> Plan:
    """Record the next attempt and start it; or say why the run cannot start, or what it waits for."""
    if plan := keep_waiting(state) or refuse(state):
        return plan
    number, status = state.status.attempt_count + 1, state.status
    if status.crew is None:
        status = valid(state)
    if plan := ask(state, status):
        return plan
    status = admitted(state, status)
    if status.crew is None and isinstance(state.acceptance, Accepted):
        status = _fixed(status, state.acceptance)
    attempt = AttemptStatus(
        number=number,
        job=names.job_name(state.observed.run["metadata"]["name"], state.uid, number),
        start_time=stamp(state.now),
    )
    status = with_attempt(status, attempt).model_copy(
        update={"start_time": status.start_time or stamp(state.now), "next_attempt_time": None}
    )
    if state.local_queue is None:
        status = state.settled(status, Phase.STARTING, Phase.STARTING, f"attempt {number} is being started")
    else:
        status = queued(state, status, number)
    plan = start(state, status, number)
    if plan is None:
        return _crew_changed(state, status, attempt)
    if state.observed.jobs:  # one that said alone what the run began with may now go
        return plan
    waits = status.queue_time is not None  # for Kueue, as long as it takes
    return replace(plan, again_at=None if waits else starting_until(state, status, state.now), settled=True)


def start(state: State, status: RunStatus | None, number: int) -> Plan | None:
    """The plan that makes the Job of an attempt, with what the run began with; None if that is lost.

    The sources are used while they still say the same, since that needs no request; when they changed, the
    payload comes from the newest Job that is left.
    """
    since = checkpoint_since(state, number)
    if payload := state.unchanged_payload():
        return Plan(status=status, start=StartAttempt(number, payload, checkpoint_since=since, paced=state.paced))
    earlier = [job for job in state.observed.jobs.values() if job.id.attempt < number and not job.deleting]
    if not earlier:
        return None
    newest = max(earlier, key=lambda job: job.id.attempt)
    return Plan(status=status, start=StartAttempt(number, None, newest.id.name, since, state.paced))


def _crew_changed(state: State, status: RunStatus, attempt: AttemptStatus) -> Plan:
    message = "the crew, its profile or the inputs changed since the run began, and the Job that carried them is gone"
    verdict = Verdict(Outcome.FAILED, Reason.CREW_CHANGED, message, ran=False)
    return conclude(state, attempt, verdict, None, status)


def refuse(state: State) -> Plan | None:
    """What there is to say of a run that has not begun and cannot; None when nothing is wrong with it."""
    if state.status.crew is not None:
        return None
    due = state.look_again_at
    if not state.observed.sources_confirmed or (due is not None and due <= state.now):
        # The watches are independent: a crew or profile that was applied before its run may be seen after it; and no
        # watch at all tells of ConfigMaps.
        return Plan(confirm_sources=True)
    return _refused(state, state.acceptance) if isinstance(state.acceptance, Refused) else None


def valid(state: State) -> RunStatus:
    """The status of a run that nothing is wrong with."""
    message = "the crew, its profile and the inputs fit together"
    status = state.status.model_copy(update={"queue": state.queue})
    reason = AcceptedReason.VALID
    return with_condition(status, ConditionType.ACCEPTED, "True", reason, message, state.now, state.generation)


def _fixed(status: RunStatus, accepted: Accepted) -> RunStatus:
    """From here on the run is what it is now, whatever happens to its crew and profile."""
    return with_tasks(status, accepted.tasks).model_copy(update={"crew": accepted.crew, "profile": accepted.profile})


def _refused(state: State, refused: Refused) -> Plan:
    message = str(refused)
    status = state.status.model_copy(update={"queue": None})
    status = with_condition(
        status, ConditionType.ACCEPTED, "False", refused.reason, message, state.now, state.generation
    )
    status = state.not_admitted(status, AdmittedReason.NOT_ACCEPTED, "the run is not accepted")
    status = state.settled(status, Phase.PENDING, refused.reason, message)
    told = condition(state.status, ConditionType.ACCEPTED)
    news = told is None or (told.reason, told.message) != (refused.reason, message)
    notices = (Notice("Warning", "NotAccepted", f"{refused.reason}: {message}"),) if news else ()
    return Plan(status=status, notices=notices, again_at=state.look_again_at)

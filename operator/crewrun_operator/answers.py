"""What a runner is answered. Purely computational."""

from crewrun_api.reasons import Outcome
from crewrun_api.report import Action, Answer, Report
from crewrun_operator.finish import stop_request
from crewrun_operator.state import State

OK, GONE, NO_LONGER, UNPROCESSABLE = 200, 404, 409, 422

NO_RUN = Answer(action=Action.STOP, message="there is no such run any more")
NOT_KEPT = Answer(action=Action.CONTINUE, message="the API server does not take the checkpoint; see the run's events")
SUPERSEDED = Answer(action=Action.CONTINUE, message="a newer report of this runner was taken already")


def answer(state: State, report: Report, interval_seconds: float) -> tuple[int, Answer]:
    """Go on, or stop and why. An execution that is not that of the open attempt has nothing more to do."""
    seen = report.snapshot
    if seen.run_uid != state.uid or state.being_deleted:
        return GONE, NO_RUN
    if closed(state, report):
        told_its_end = report.outcome is not None and _speaks(state, report)
        return (OK if told_its_end else NO_LONGER), Answer(action=Action.STOP, message="this attempt is over")
    if not _speaks(state, report):
        return NO_LONGER, Answer(action=Action.STOP, message="another Pod runs this attempt")
    reported = state.observed.reports.get(seen.pod_uid)
    if report.checkpoint and reported and reported.refused == seen.sequence:
        return UNPROCESSABLE, NOT_KEPT
    if stop := stop_request(state):
        return OK, Answer(action=Action.STOP, reason=stop.reason, message=stop.message)
    return OK, Answer(action=Action.CONTINUE, interval_seconds=interval_seconds)


def closed(state: State, report: Report) -> bool:
    """Whether the attempt of this report is over."""
    attempt = state.open_attempt
    return attempt is None or attempt.number != report.snapshot.attempt


def kept(state: State, report: Report) -> bool:
    """Whether all that a runner must not forget before it is told so stands on the API server."""
    if closed(state, report):
        return True
    if report.outcome is not None and report.outcome.outcome is not Outcome.STOPPED:
        return False
    reported, sequence = state.observed.reports.get(report.snapshot.pod_uid), report.snapshot.sequence
    return report.checkpoint is None or (reported is not None and sequence <= max(reported.kept, reported.refused))


def _speaks(state: State, report: Report) -> bool:
    """Whether this execution is the one that may speak for its attempt."""
    attempt = state.attempt(report.snapshot.attempt)
    return attempt is not None and attempt.pod_uid in (None, report.snapshot.pod_uid)

"""The end of an attempt, and what it means for the run. Purely computational."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from crewrun_api.outcome import Usage
from crewrun_api.reasons import AdmittedReason, Outcome, Phase, Reason
from crewrun_api.report import OutputFile
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.diagnose import Verdict
from crewrun_operator.finish import StopRequest
from crewrun_operator.keep import keep_output
from crewrun_operator.observed import Notice, Plan, Save
from crewrun_operator.retry import Next, classify, exhausted, next_attempt_at
from crewrun_operator.state import State
from crewrun_operator.status import with_attempt, with_sighting, with_usage
from crewrun_operator.times import parse, stamp, stamp_up

#: How an attempt looks that the operator itself has stopped, by deleting its Pod or Job.
_OUR_DOING = frozenset({Reason.POD_DELETED, Reason.JOB_DELETED})


def conclude(
    state: State,
    attempt: AttemptStatus,
    verdict: Verdict,
    stop: StopRequest | None,
    status: RunStatus | None = None,
    files: Iterable[OutputFile] = (),
) -> Plan:
    """Close the attempt and say what follows. Success is stronger than a stop that came too late."""
    if stop is not None and (verdict.outcome is Outcome.STOPPED or verdict.reason in _OUR_DOING):
        verdict = replace(verdict, outcome=Outcome.STOPPED, reason=stop.reason, message=stop.message)
    attempt, status = _closed(state, attempt, verdict, status or state.status)
    notices = news_of(state, attempt)
    if verdict.outcome is Outcome.SUCCEEDED:
        return replace(_succeeded(state, status, attempt, verdict, files), notices=notices)
    if stop is not None and (stop.phase.ended or verdict.outcome is Outcome.STOPPED):
        plan = halted(state, status, stop)
    else:
        plan = _next(state, status, attempt, verdict)
    return replace(plan, notices=(*notices, *plan.notices))


def halted(state: State, status: RunStatus, stop: StopRequest) -> Plan:
    """The run as a stop leaves it: ended, suspended, or waiting for its queue."""
    if stop.phase is Phase.SUSPENDED:
        status = status.model_copy(update={"suspend_time": status.suspend_time or stamp(state.now)})
    if stop.phase is Phase.QUEUED:
        status = status.model_copy(update={"queue_time": stamp(state.now)})
        status = state.not_admitted(status, AdmittedReason.QUEUE_STOPPED, stop.message)
    return _ended(state, status, stop.phase, stop.reason, stop.message)


def news_of(state: State, attempt: AttemptStatus) -> tuple[Notice, ...]:
    """An event, once, for a checkpoint that the attempt could not use, and for what its runner warns of."""
    told = state.attempt(attempt.number) or AttemptStatus(number=attempt.number, job=attempt.job)
    notices = []
    if attempt.checkpoint_refused and not told.checkpoint_refused:
        text = f"attempt {attempt.number} starts from the first task: {attempt.checkpoint_refused}"
        notices.append(Notice("Warning", "CheckpointRefused", text))
    if attempt.warning and not told.warning:
        notices.append(Notice("Warning", "RunnerWarning", f"attempt {attempt.number}: {attempt.warning}"))
    return tuple(notices)


def _succeeded(
    state: State, status: RunStatus, attempt: AttemptStatus, verdict: Verdict, files: Iterable[OutputFile]
) -> Plan:
    save: Save | None = None
    if verdict.record is not None and verdict.record.output is not None:
        output, save = keep_output(state.observed.run, verdict.record.output, files, state.observed.unkept)
        status = status.model_copy(update={"output": output})
    message = f"attempt {attempt.number} finished the crew"
    return Plan(save=save, status=state.settled(status, Phase.SUCCEEDED, Reason.COMPLETED, message))


def _next(state: State, status: RunStatus, attempt: AttemptStatus, verdict: Verdict) -> Plan:
    """After an attempt that was no success and that nobody wanted to stop."""
    retry = state.settings.retry
    next_ = classify(verdict.reason, retry)
    counted = status.counted_attempts + (next_ in (Next.RETRY, Next.FAIL))
    disruptions = status.disruptions + (next_ is Next.DISRUPTED)
    status = status.model_copy(update={"counted_attempts": counted, "disruptions": disruptions})
    if last := exhausted(next_, retry, counted, disruptions):
        message = f"attempt {attempt.number} {last}: {verdict.reason}: {verdict.message}"
        return _ended(state, status, Phase.FAILED, verdict.reason, message)
    why = f"attempt {attempt.number}: {verdict.reason}: {verdict.message}"
    if next_ is Next.AGAIN:
        return Plan(status=state.settled(status, Phase.PENDING, verdict.reason, f"{why}; the next attempt follows"))
    due = next_attempt_at(
        _ended_at(state, attempt, verdict),
        attempt.number,
        disruptions if next_ is Next.DISRUPTED else counted,
        state.uid,
        retry.backoff,
        verdict.record.retry_after_seconds if verdict.record else None,
    )
    status = status.model_copy(update={"next_attempt_time": stamp_up(due)})
    message = f"{why}; attempt {attempt.number + 1} starts at {status.next_attempt_time}"
    return Plan(
        status=state.settled(status, Phase.BACKING_OFF, verdict.reason, message),
        notices=(Notice("Warning", "AttemptFailed", message),),
        again_at=parse(stamp_up(due)),
    )


def _closed(
    state: State, attempt: AttemptStatus, verdict: Verdict, status: RunStatus
) -> tuple[AttemptStatus, RunStatus]:
    """The attempt with its end; the status with that, with its usage, and with what was last seen of its tasks."""
    left, final = state.last_words(attempt)
    seen = verdict.record or left
    closed = attempt.model_copy(
        update={
            "completion_time": stamp(_ended_at(state, attempt, verdict)),
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "message": verdict.message,
            "exit_code": verdict.exit_code,
            "resumed_from_task": (seen and seen.resumed_from_task) or attempt.resumed_from_task,
            "checkpoint_refused": (seen and seen.checkpoint_refused) or attempt.checkpoint_refused,
            "warning": (seen and seen.warning) or attempt.warning,
        }
    )
    status = with_attempt(status, closed)
    if seen is None and not verdict.ran:
        return closed, status
    usage = seen.usage if seen else Usage(incomplete=True)
    if verdict.record is None and not final:
        usage = usage.model_copy(update={"incomplete": True})
    status = with_usage(status, closed.number, usage)
    return closed, with_sighting(status, seen, over=True) if seen else status


def _ended(state: State, status: RunStatus, phase: Phase, reason: Reason, message: str) -> Plan:
    notices = (Notice("Warning", reason, message),) if phase is Phase.FAILED else ()
    return Plan(status=state.settled(status, phase, reason, message), notices=notices)


def _ended_at(state: State, attempt: AttemptStatus, verdict: Verdict) -> datetime:
    """The container's own end, so that a restart computes the same backoff; never before the attempt, and
    not in the future, where the clock of a node may be."""
    begun = parse(attempt.start_time) if attempt.start_time else state.now
    return max(min(verdict.at or state.now, state.now), begun)

"""The outcome record, and what a snapshot has in common with it. Purely computational."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crewrun_api import report
from crewrun_api.outcome import OutcomeRecord, OutputRecord
from crewrun_api.reasons import ExitCode, Outcome, OutputFormat, Reason, TaskState
from crewrun_runner.failures import Failure, exit_code
from crewrun_runner.ledger import Ledger
from crewrun_runner.payload import Execution
from crewrun_runner.streams import timestamp


@dataclass(frozen=True)
class Answer:
    """The crew's result."""

    text: str
    format: OutputFormat = OutputFormat.TEXT


@dataclass(frozen=True)
class End:
    """How the attempt ended: with an answer, a failure, or a request to stop."""

    outcome: Outcome
    reason: Reason
    message: str
    answer: Answer | None = None
    failure: Failure | None = None

    @classmethod
    def success(cls, answer: Answer, remark: str = "") -> "End":
        return cls(Outcome.SUCCEEDED, Reason.COMPLETED, f"the crew finished{remark}", answer=answer)

    @classmethod
    def failed(cls, failure: Failure) -> "End":
        return cls(Outcome.FAILED, failure.reason, failure.message, failure=failure)

    @classmethod
    def stopped(cls, signal: str) -> "End":
        """The runner cannot know why it was told to stop; the operator does."""
        return cls(Outcome.STOPPED, Reason.CANCELLED, f"stopped by {signal} before it finished")

    @classmethod
    def told(cls, answer: report.Answer) -> "End":
        """The operator said so, and why."""
        return cls(Outcome.STOPPED, answer.reason or Reason.CANCELLED, answer.message or "stopped by the operator")

    @classmethod
    def timed_out(cls, seconds: int) -> "End":
        text = f"not finished after {seconds} s (attemptTimeoutSeconds)"
        return cls.failed(Failure(Reason.ATTEMPT_TIMED_OUT, text))

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.STOPPED if self.outcome is Outcome.STOPPED else exit_code(self.reason)


def seen(execution: Execution, ledger: Ledger, redact: Callable[[str], str], ended: bool) -> dict[str, Any]:
    """What the attempt has done, with no secret value in it: the fields of a Sighting."""
    tasks = ledger.tasks(redact, ended)
    first = ledger.resumed_from
    return {
        "run_uid": execution.run_uid,
        "attempt": execution.attempt,
        "pod_uid": execution.pod_uid,
        "usage": ledger.usage(),
        "tasks": tasks,
        "tasks_total": len(tasks),
        "tasks_succeeded": sum(task.state is TaskState.SUCCEEDED for task in tasks),
        "resumed_from_task": redact(first.name) if first else None,
        "checkpoint_refused": redact(ledger.checkpoint_refused),
        "warning": redact(ledger.warning),
    }


def build(
    execution: Execution, end: End, ledger: Ledger, start: datetime, now: datetime, redact: Callable[[str], str]
) -> OutcomeRecord:
    """The record, with no secret value in it."""
    return OutcomeRecord(
        **seen(execution, ledger, redact, ended=True),
        outcome=end.outcome,
        reason=end.reason,
        message=redact(end.message),
        exit_code=end.exit_code,
        start_time=timestamp(start),
        completion_time=timestamp(now),
        retry_after_seconds=end.failure.retry_after_seconds if end.failure else None,
        output=OutputRecord.of(redact(end.answer.text), end.answer.format) if end.answer else None,
    )


def made_nothing_of(error: Exception, execution: Execution, start: datetime, now: datetime) -> OutcomeRecord:
    """The record when none could be made of what is known: the attempt's end must not be lost to a fault of ours."""
    text = f"the outcome record could not be made: {type(error).__name__}"
    end = End.failed(Failure(Reason.RUNNER_CRASHED, text))
    return build(execution, end, Ledger(), start, now, str)


def log_fields(record: OutcomeRecord, end: End, seconds: float) -> dict[str, Any]:
    """The same for a line of the log, without what may quote a prompt or an answer."""
    failure = end.failure
    return {
        "reason": record.reason,
        "exitCode": int(record.exit_code),
        "status": failure.status if failure else None,
        "error": failure.error if failure else None,
        "message": record.message if not failure or failure.quotable else None,
        "tasks": record.tasks_total,
        "tasksSucceeded": record.tasks_succeeded,
        "requests": record.usage.requests,
        "promptTokens": record.usage.prompt_tokens,
        "completionTokens": record.usage.completion_tokens,
        "totalTokens": record.usage.total_tokens,
        "costUSD": record.usage.model_dump(mode="json", by_alias=True)["costUSD"],
        "durationSeconds": round(seconds, 3),
    }

"""The outcome record from what is known at the end. Purely computational."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

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
    def success(cls, answer: Answer) -> "End":
        return cls(Outcome.SUCCEEDED, Reason.COMPLETED, "the crew finished", answer=answer)

    @classmethod
    def failed(cls, failure: Failure) -> "End":
        return cls(Outcome.FAILED, failure.reason, failure.message, failure=failure)

    @classmethod
    def stopped(cls, signal: str) -> "End":
        """The runner cannot know why it was told to stop; the operator does."""
        return cls(Outcome.STOPPED, Reason.CANCELLED, f"stopped by {signal} before it finished")

    @classmethod
    def timed_out(cls, seconds: int) -> "End":
        text = f"not finished after {seconds} s (attemptTimeoutSeconds)"
        return cls.failed(Failure(Reason.ATTEMPT_TIMED_OUT, text))

    @property
    def exit_code(self) -> ExitCode:
        return exit_code(self.reason)


def build(
    execution: Execution, end: End, ledger: Ledger, start: datetime, now: datetime, redact: Callable[[str], str]
) -> OutcomeRecord:
    """The record, with no secret value in it."""
    tasks = ledger.tasks(redact, ended=True)
    wait = end.failure.retry_after_seconds if end.failure else None
    return OutcomeRecord(
        run_uid=execution.run_uid,
        attempt=execution.attempt,
        pod_uid=execution.pod_uid,
        outcome=end.outcome,
        reason=end.reason,
        message=redact(end.message),
        exit_code=end.exit_code,
        start_time=timestamp(start),
        completion_time=timestamp(now),
        retry_after_seconds=wait,
        usage=ledger.usage(),
        tasks=tasks,
        tasks_total=len(tasks),
        tasks_succeeded=sum(task.state is TaskState.SUCCEEDED for task in tasks),
        output=OutputRecord.of(redact(end.answer.text), end.answer.format) if end.answer else None,
    )

"""The one way out of the process: the first end that is found writes the record, and nothing after it counts.

The crew finishes in the main thread; a signal and the deadline come in threads of their own, so that they
need no cooperation of an LLM call in flight. Python's own signal handlers run between two bytecodes of the main
thread alone, where they would wait for the lock that the main thread may hold.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from crewrun_api.outcome import OutcomeRecord, encode
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_runner.failures import Failure
from crewrun_runner.ledger import Ledger
from crewrun_runner.payload import Execution
from crewrun_runner.record import End, build
from crewrun_runner.redaction import Redactor
from crewrun_runner.streams import Log, Streams

_EVENTS = {Outcome.SUCCEEDED: "run_completed", Outcome.FAILED: "run_failed", Outcome.STOPPED: "run_stopped"}


class Ending:
    """Ends the process, once."""

    def __init__(self, execution: Execution, streams: Streams, log: Log, redact: Redactor, target: Path) -> None:
        self._execution = execution
        self._streams = streams
        self._log = log
        self._redact = redact
        self._target = target
        self._start = datetime.now(UTC)
        self._claim = threading.Lock()
        self.ledger = Ledger()
        #: Called before the record is built: waits until the last events have been folded.
        self.settle: Callable[[], None] = lambda: None

    def watch_signals(self, signals: tuple[signal.Signals, ...]) -> None:
        """Take signals, which are blocked in every thread, in a thread of their own."""
        threading.Thread(target=self._on_signal, args=[signals], name="signals", daemon=True).start()

    def watch_deadline(self, seconds: int | None) -> None:
        """End the attempt that long after the runner's start."""
        if seconds is None:
            return
        left = seconds - (datetime.now(UTC) - self._start).total_seconds()
        timer = threading.Timer(max(0.0, left), self.end, [End.timed_out(seconds)])
        timer.daemon = True
        timer.start()

    def _on_signal(self, signals: tuple[signal.Signals, ...]) -> None:
        self.end(End.stopped(signal.Signals(signal.sigwait(signals)).name))

    def end(self, end: End) -> NoReturn:
        """Write the record and exit. Who comes second waits for the exit of the first."""
        self._claim.acquire()  # never released
        code = ExitCode.INTERNAL
        try:
            code = self._conclude(end)
        except Exception:
            traceback.print_exc()
        finally:
            self._streams.finish()
            os._exit(code)

    def _conclude(self, end: End) -> ExitCode:
        try:
            self.settle()
        except Exception:
            traceback.print_exc()
        now = datetime.now(UTC)
        record, data = self._record(end, now)
        try:
            self._write(data)
        except OSError as error:
            # Without its record the attempt is lost to the operator, whatever the exit code says.
            print(f"the outcome record cannot be written to {self._target}: {error}", file=sys.stderr)
        self._tell(record, end, (now - self._start).total_seconds())
        return record.exit_code

    def _record(self, end: End, now: datetime) -> tuple[OutcomeRecord, bytes]:
        """The record and its bytes. A fault of ours in making it must not lose the attempt's end."""
        try:
            record = build(self._execution, end, self.ledger, self._start, now, self._redact)
            return record, encode(record)
        except Exception as error:
            traceback.print_exc()
            text = f"the outcome record could not be made: {type(error).__name__}"
            failed = End.failed(Failure(Reason.RUNNER_CRASHED, text))
            record = build(self._execution, failed, Ledger(), self._start, now, self._redact)
            return record, encode(record)

    def _write(self, data: bytes) -> None:
        """In one write: kubelet may read at any time after the process is gone, and never sees a half."""
        descriptor = os.open(self._target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _tell(self, record: OutcomeRecord, end: End, seconds: float) -> None:
        failure = end.failure
        self._log(
            _EVENTS[record.outcome],
            level="error" if record.outcome is Outcome.FAILED else "info",
            reason=record.reason,
            exitCode=int(record.exit_code),
            status=failure.status if failure else None,
            error=failure.error if failure else None,
            message=record.message if not failure or failure.quotable else None,
            tasks=record.tasks_total,
            tasksSucceeded=record.tasks_succeeded,
            requests=record.usage.requests,
            promptTokens=record.usage.prompt_tokens,
            completionTokens=record.usage.completion_tokens,
            totalTokens=record.usage.total_tokens,
            durationSeconds=round(seconds, 3),
        )

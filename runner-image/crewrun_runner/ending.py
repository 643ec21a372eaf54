"""The one way out of the process: the first end that is found writes the record, and nothing after it counts.

The crew finishes in the main thread; a signal, the deadline and the operator's word come in threads of their own,
so that they need no cooperation of an LLM call in flight. Python's own signal handlers run between two bytecodes
of the main thread alone, where they would wait for the lock that the main thread may hold.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from crewrun_api.outcome import OutcomeRecord, encode
from crewrun_api.reasons import ExitCode, Outcome
from crewrun_api.report import Answer, OutputFile
from crewrun_runner.farewell import Limits, farewell
from crewrun_runner.payload import Execution
from crewrun_runner.progress import Progress
from crewrun_runner.record import End, build, log_fields, made_nothing_of
from crewrun_runner.redaction import Redactor
from crewrun_runner.streams import Log, Streams
from crewrun_runner.watcher import Observer

#: How long a stopped crew has to notice, seconds: its last answer may have finished a task, or all of it.
_RETURN_SECONDS = 1.0
#: How long the end may wait for an endpoint to take the last spans, seconds: they are not worth more.
_TRACES_SECONDS = 2.0
_EVENTS = {Outcome.SUCCEEDED: "run_completed", Outcome.FAILED: "run_failed", Outcome.STOPPED: "run_stopped"}


class Crew(Protocol):
    """What the end needs of a crew that has been loaded."""

    def stop_calls(self) -> None: ...

    def wait_for_calls(self, seconds: float) -> None: ...

    def settle(self) -> None: ...

    def output_files(self, redact: Callable[[str], str]) -> list[OutputFile]: ...


class Traces(Observer, Protocol):
    """What the end needs of the spans of an attempt."""

    def finish(self, record: OutcomeRecord, now: datetime) -> None: ...

    def wait(self, seconds: float) -> bool: ...


class Ending:
    """Ends the process, once."""

    def __init__(
        self, execution: Execution, streams: Streams, log: Log, redact: Redactor, progress: Progress, limits: Limits
    ) -> None:
        self._execution = execution
        self._streams = streams
        self._log = log
        self._redact = redact
        self.progress = progress
        self.start = datetime.now(UTC)
        self._claim = threading.Lock()  # never released
        self._returned = threading.Event()
        self._success: End | None = None
        self.limits = limits
        #: Where somebody looks on: shows them how it ended.
        self.show: Callable[[OutcomeRecord], None] = lambda _: None
        #: None while there is no crew yet, and no call to wait for.
        self.crew: Crew | None = None
        self.traces: Traces | None = None

    def watch_signals(self, signals: tuple[signal.Signals, ...]) -> None:
        """Take signals, which are blocked in every thread, in a thread of their own."""
        threading.Thread(target=self._on_signal, args=[signals], name="signals", daemon=True).start()

    def watch_deadline(self, seconds: int | None) -> None:
        """End the attempt that long after the runner's start."""
        if seconds is None:
            return
        left = seconds - (datetime.now(UTC) - self.start).total_seconds()
        timer = threading.Timer(max(0.0, left), self._on_deadline, [End.timed_out(seconds)])
        timer.daemon = True
        timer.start()

    def end(self, end: End) -> NoReturn:
        """The crew's own end. Who comes second waits for the exit of the first."""
        if end.outcome is Outcome.SUCCEEDED:
            self._success = end
        self._returned.set()
        self._claim.acquire()
        self._finish(end)

    def obey(self, answer: Answer) -> None:
        """The operator wants the attempt to end. Returns at once, with the claim taken: an exception that the crew
        dies of from now on is not the reason."""
        if self._claim.acquire(blocking=False):
            self.progress.halt()
            threading.Thread(target=self._finish, args=[End.told(answer)], name="stop", daemon=True).start()

    def _on_signal(self, signals: tuple[signal.Signals, ...]) -> None:
        end = End.stopped(signal.Signals(signal.sigwait(signals)).name)
        if self._claim.acquire(blocking=False):
            self._finish(end)
        elif self.progress.reporter is not None:
            self.progress.reporter.hurry()

    def _on_deadline(self, end: End) -> None:
        if self._claim.acquire(blocking=False):
            self._finish(end, patient=False)

    def _finish(self, end: End, patient: bool = True) -> NoReturn:
        """Write the record, tell of it, exit."""
        code = ExitCode.INTERNAL
        try:
            code = self._conclude(end, patient)
        except Exception:
            traceback.print_exc()
        finally:
            self._streams.finish()
            os._exit(code)

    def _conclude(self, end: End, patient: bool) -> ExitCode:
        _attempt(self._settle, patient and end.outcome is Outcome.STOPPED)
        end = self._success or end  # an answer that came while the crew was being stopped is an answer
        now = datetime.now(UTC)
        record, data = self._record(end, now)
        try:
            self.progress.finish(data)
        except OSError as error:
            # Without its record the attempt is lost to the operator, whatever the exit code says.
            print(f"the outcome record cannot be written: {error}", file=sys.stderr)
        level = "error" if record.outcome is Outcome.FAILED else "info"
        self._log(_EVENTS[record.outcome], level=level, **log_fields(record, end, (now - self.start).total_seconds()))
        _attempt(self._end_traces, record, now)  # they are sent while the operator is told
        _attempt(self.show, record)
        _attempt(self._report, record, data)
        _attempt(self._wait_for_traces)
        return record.exit_code

    def _end_traces(self, record: OutcomeRecord, now: datetime) -> None:
        if self.traces is not None:
            self.traces.finish(record, now)

    def _wait_for_traces(self) -> None:
        if self.traces is not None and not self.traces.wait(_TRACES_SECONDS):
            text = f"the last spans were not taken within {_TRACES_SECONDS:g} s; see OTEL_EXPORTER_OTLP_ENDPOINT"
            self._log("traces_given_up", level="warning", message=text)

    def _settle(self, patient: bool) -> None:
        """Nothing new begins; with patience, what is in flight is waited for, and what comes of it."""
        self.progress.halt()
        if self.crew is None:
            return
        self.crew.stop_calls()
        if patient:
            self.crew.wait_for_calls(self.limits.patience)
            if not self.progress.ledger.calls_in_flight:
                self._returned.wait(_RETURN_SECONDS)
        self.crew.settle()

    def _record(self, end: End, now: datetime) -> tuple[OutcomeRecord, bytes]:
        """The record and its bytes. A fault of ours in making it must not lose the attempt's end."""
        try:
            record = build(self._execution, end, self.progress.ledger, self.start, now, self._redact)
            return record, encode(record)
        except Exception as error:
            traceback.print_exc()
            record = made_nothing_of(error, self._execution, self.start, now)
            return record, encode(record)

    def _report(self, record: OutcomeRecord, data: bytes) -> None:
        """Tell the operator, with what does not fit the termination message."""
        reporter = self.progress.reporter
        if reporter is None:
            return
        succeeded = record.outcome is Outcome.SUCCEEDED
        files = self.crew.output_files(self._redact) if self.crew and succeeded else []
        last = farewell(record, data, files, reporter.pending, self.limits)
        if not reporter.conclude(last) and last.again:
            text = "the operator did not take the last report; the termination message has what fits into it"
            self._log("report_given_up", level="warning", message=text)


def _attempt(step: Callable[..., None], *arguments: object) -> None:
    """One step of the end. What goes wrong in it must not keep the others from being done."""
    try:
        step(*arguments)
    except Exception:
        traceback.print_exc()

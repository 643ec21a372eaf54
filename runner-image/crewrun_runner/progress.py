"""What the attempt has done so far, told as it changes: to the termination message always, to the operator where
it takes reports."""

import threading
import traceback

from crewrun_api.report import Snapshot, encode_snapshot
from crewrun_runner.budget import Need
from crewrun_runner.ledger import Ledger, Stopping, Ticket
from crewrun_runner.message import TerminationMessage
from crewrun_runner.payload import Execution
from crewrun_runner.record import seen
from crewrun_runner.redaction import Redactor
from crewrun_runner.reporter import Reporter


class Progress:
    """Snapshots, each newer than the one before. Safe to share by threads."""

    def __init__(self, execution: Execution, ledger: Ledger, redact: Redactor, message: TerminationMessage) -> None:
        self._execution = execution
        self._redact = redact
        self._message = message
        self._counting = threading.Lock()
        self._sequence = 0
        self._writing = threading.Lock()
        self._stale = self._final = False
        self._halted = threading.Event()
        self.ledger = ledger
        self.reporter: Reporter | None = None
        ledger.changed = self.changed

    def take(self) -> Snapshot:
        """What is known now."""
        with self._counting:
            self._sequence += 1
            known = seen(self._execution, self.ledger, self._redact, ended=False)
            return Snapshot(sequence=self._sequence, **known)

    def changed(self, urgent: bool) -> None:
        """Write what is known now. Where another thread writes, that one does it: many changes may become one."""
        self._stale = True
        self._catch_up()
        if urgent and self.reporter is not None:
            self.reporter.urge()

    def reserve(self, task: str, model: str, need: Need) -> Ticket:
        """An LLM request for that task is about to be made. Raises Stopping or BudgetExceeded if it must not.

        When this returns, the request stands in the termination message, and with an operator that answers also there;
        and it is made at once, since its queue may have a rate.
        """
        pacer = self.ledger.pacer
        with pacer.turn():
            ticket = self.ledger.reserve(task, model, need)
            sequence = self._write()
            self._catch_up()
            if self.reporter is not None:
                self.reporter.wait_for(sequence)
            if self._halted.is_set() or not pacer.take(ticket.number, need.prompt + ticket.answer):
                self.ledger.release(ticket)
                raise Stopping
            return ticket

    def halt(self) -> None:
        """No LLM request is made any more."""
        self._halted.set()
        self.ledger.close()
        if self.reporter is not None:
            self.reporter.halt()

    def finish(self, data: bytes) -> None:
        """The last that is written: the outcome record. Raises OSError."""
        with self._writing:
            self._final = True
            self._message.write(data)

    def _catch_up(self) -> None:
        while self._stale and self._writing.acquire(blocking=False):
            try:
                self._put()
            finally:
                self._writing.release()

    def _write(self) -> int:
        with self._writing:
            return self._put()

    def _put(self) -> int:
        """Only with the lock: otherwise an older snapshot could take the place of a newer one."""
        self._stale = False
        snapshot = self.take()
        try:
            if not self._final:
                self._message.write(encode_snapshot(snapshot))
        except (OSError, ValueError):
            traceback.print_exc()  # the crew does not need it
        return snapshot.sequence

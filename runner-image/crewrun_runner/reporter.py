"""The thread that reports: one request at a time, each with all that is known when it goes.

Nothing queues up here. What could not be sent is in the next report, and a crew waits for an answer only where
that protects money, for a moment, from an operator that answers.
"""

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from crewrun_api.report import Answer, Report, Snapshot
from crewrun_runner.farewell import Farewell
from crewrun_runner.pacer import Pacer
from crewrun_runner.reporting import ADVICE, Pace, Reply, Sense, Verdict, concludes, understand
from crewrun_runner.streams import Log
from crewrun_runner.unkept import Unkept

#: How long an LLM call waits for the operator's word, seconds.
ANSWER_SECONDS = 1.0


class Reporter:
    """Reports until the process ends."""

    def __init__(
        self,
        post: Callable[[bytes], Reply],
        take: Callable[[], Snapshot],
        stop: Callable[[Answer], None],
        log: Log,
        pacer: Pacer,
    ) -> None:
        self._post = post
        self._take = take
        self._stop = stop
        self._log = log
        self._pacer = pacer
        self._news = threading.Condition()
        self._pace = Pace()
        self._unkept: Unkept[Any] | None = None
        self._farewell: Farewell | None = None
        self._tried = self._concluded = self._halted = self._hurried = False
        self._acknowledged = 0
        self._complained: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self, unkept: Unkept[Any]) -> None:
        """Report from now on."""
        self._unkept = unkept
        self._thread.start()

    @property
    def pending(self) -> bool:
        """Whether there is a checkpoint that the operator does not have."""
        return self._unkept is not None and self._unkept.pending

    def urge(self) -> None:
        """There is news that should not wait for the next interval."""
        with self._news:
            self._pace.urge()
            self._news.notify_all()

    def halt(self) -> None:
        """The run ends: no call waits for its answer any more."""
        with self._news:
            self._halted = True
            self._news.notify_all()

    def hurry(self) -> None:
        """The process is told to end: the outcome goes no further than the termination message."""
        with self._news:
            self._hurried = True
            self._news.notify_all()

    def wait_for(self, sequence: int) -> None:
        """Until the operator has a snapshot as new as this one; not long, and only if it answers at all."""
        with self._news:
            self._pace.urge()
            self._news.notify_all()
            if not self._news.wait_for(lambda: self._answered(sequence), ANSWER_SECONDS):
                self._pace.healthy = False  # the next call need not wait as long again

    def conclude(self, farewell: Farewell) -> bool:
        """Send the outcome, and wait for it as long as it says. Returns whether that is done with."""
        with self._news:
            self._farewell = farewell
            self._pace.restart()
            self._news.notify_all()
        if not self._thread.is_alive():
            self._thread.start()
        with self._news:
            self._news.wait_for(self._over, farewell.seconds)
            return self._concluded

    def _answered(self, sequence: int) -> bool:
        return self._acknowledged >= sequence or not self._pace.healthy or self._halted

    def _over(self) -> bool:
        once = self._farewell is not None and not self._farewell.again
        return self._concluded or self._hurried or (self._tried and once)

    def _run(self) -> None:
        while not self._concluded:
            try:
                with self._news:
                    while (seconds := self._pace.seconds(time.monotonic())) > 0:
                        self._news.wait(seconds)
                    self._pace.sent()
                    farewell = self._farewell
                self._exchange(farewell)
            except Exception:
                traceback.print_exc()
                self._after(Verdict(Sense.LATER), 0, self._farewell)

    def _exchange(self, farewell: Farewell | None) -> None:
        checkpoint = self._unkept.due() if self._unkept else None
        sent = self._pacer.now()
        snapshot = self._take()
        report = Report(
            snapshot=snapshot,
            checkpoint=checkpoint.upload if checkpoint else None,
            outcome=farewell.outcome if farewell else None,
            files=farewell.files if farewell else [],
            paced=self._pacer.told(),
        )
        reply = self._post(report.model_dump_json(by_alias=True, exclude_none=True).encode())
        verdict = understand(reply)
        if checkpoint and self._unkept and verdict.sense in (Sense.TAKEN, Sense.REFUSED):
            self._unkept.settle(checkpoint)
        if verdict.stop and not farewell:
            self._stop(verdict.stop)  # before anybody who waits goes on
        elif verdict.sense is Sense.TAKEN and not verdict.stop:
            self._pacer.lease(verdict.lease, sent)
        self._complain(reply, verdict, farewell)
        self._after(verdict, snapshot.sequence, farewell)
        if checkpoint and verdict.sense is Sense.REFUSED:
            with self._news:
                self._pace.restart()  # without the checkpoint the same report may be taken

    def _after(self, verdict: Verdict, sequence: int, farewell: Farewell | None) -> None:
        with self._news:
            self._pace.heard(verdict, time.monotonic(), last=farewell is not None)
            if verdict.sense is Sense.TAKEN:
                self._acknowledged = sequence
            if farewell is not None:
                self._tried, self._concluded = True, concludes(verdict)
            elif self._farewell is not None:
                self._pace.restart()  # the outcome came while an older report was on its way
            self._news.notify_all()

    def _complain(self, reply: Reply, verdict: Verdict, farewell: Farewell | None) -> None:
        """Once for each status that has no answer in it, once for each time that the operator is away, and when
        the outcome is refused."""
        lost = farewell is not None and verdict.sense is Sense.REFUSED
        if verdict.sense is Sense.TAKEN:
            self._complained.discard(0)
        elif not verdict.stop and (lost or reply.status not in self._complained):
            self._complained.add(reply.status)
            if advice := ADVICE.get(reply.status):
                self._log("report_refused", level="warning", status=reply.status, message=advice)
            else:
                text = reply.error or "not an answer of the operator; it is sent again"
                self._log("report_not_taken", level="warning", status=reply.status or None, message=text)

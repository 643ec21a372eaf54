"""Where reports come in: taken into the store, worked by their run's one worker, answered when they are kept."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from crewrun_api.report import INTERVAL_SECONDS, Action, Answer, Report
from crewrun_operator import answers, clock
from crewrun_operator.leases import Leases, rate_of
from crewrun_operator.queue_state import Queue
from crewrun_operator.runs import Key
from crewrun_operator.state import State
from crewrun_operator.store import Store
from crewrun_operator.views import Identity
from crewrun_operator.workqueue import WorkQueue

#: How long a runner waits for what it sent to be stored before it is asked to send it again.
_KEEP_SECONDS = 20.0
#: When more runs go on than runners may report in two seconds, each reports less often.
_REPORTS_PER_SECOND = 250
_TRY_AGAIN = Answer(action=Action.CONTINUE, message="not stored yet; send it again")


class Inbox:
    """Takes reports; a worker that has worked a run tells it so."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue[Key],
        synced: Callable[[], bool] = lambda: True,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._queue, self._synced, self._tick = store, queue, synced, tick
        self._leases = Leases(tick())
        self._paced: dict[Key, str] = {}  # the Pod of a run that was lent a part of a rate last
        self._waiting: defaultdict[Key, set[asyncio.Event]] = defaultdict(set)

    def known(self, pod_uid: str) -> Identity | None:
        """Which execution this Pod is; None when the watch has not told of it yet. An operator that has just
        started knows nobody before it has listed everything: it would tell runners that their run is gone."""
        return self._store.execution(pod_uid) if self._synced() else None

    def worked(self, key: Key) -> None:
        """This run was decided about: what waited for it may be kept now, and its Pod may have ended."""
        for event in self._waiting.get(key, ()):
            event.set()
        if (pod := self._paced.get(key)) and self._store.over(pod):
            del self._paced[key]
            self._leases.end(pod, self._tick())

    async def take(self, key: Key, report: Report, received: datetime) -> tuple[int, Answer]:
        """Keep the report; the HTTP status and the answer, once all that must not be lost is stored."""
        code, answer = self._answer(key, report)
        if code != answers.OK:
            return code, answer
        if not self._store.put_report(report, received):
            return answers.NO_LONGER, answers.SUPERSEDED
        with self._worked(key) as event:
            self._queue.add(key)
            try:
                async with asyncio.timeout(_KEEP_SECONDS):
                    while not self._kept(key, report):
                        event.clear()
                        await event.wait()
            except TimeoutError:
                return 503, _TRY_AGAIN
        code, answer = self._answer(key, report)
        return code, self._with_lease(key, report, answer) if code == answers.OK else answer

    def _with_lease(self, key: Key, report: Report, answer: Answer) -> Answer:
        """The answer with the run's part of its queue's rate, if there is one."""
        pod = report.snapshot.pod_uid
        if report.outcome is not None:
            self._leases.end(pod, self._tick(), report)
            return answer
        if answer.action is not Action.CONTINUE:
            return answer
        queue = self._queue_of(key)
        rate = rate_of(queue.spec) if queue else None
        if queue is None or rate is None:
            self._leases.drop(pod)
            return answer
        self._paced[key] = pod
        lease = self._leases.renew(pod, queue.key, rate, queue.running, report, self._tick())
        return answer.model_copy(update={"lease": lease})

    def _queue_of(self, key: Key) -> Queue | None:
        run = self._store.runs.brief(key)
        return self._store.queues.get((key[0], run.queue)) if run and run.queue else None

    def _answer(self, key: Key, report: Report) -> tuple[int, Answer]:
        state = self._state(key)
        interval = max(INTERVAL_SECONDS, self._store.runs.going / _REPORTS_PER_SECOND)
        return answers.answer(state, report, interval) if state else (answers.GONE, answers.NO_RUN)

    def _kept(self, key: Key, report: Report) -> bool:
        state = self._state(key)
        return state is None or answers.kept(state, report)

    def _state(self, key: Key) -> State | None:
        observed = self._store.observe(key)
        return State(observed, clock.now()) if observed else None

    @contextmanager
    def _worked(self, key: Key) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

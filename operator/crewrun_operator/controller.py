"""The controller: keys from the queue, decided and applied, by a few workers; and the periodic resync.

A missed event costs time, never a run: every key is listed and decided again from time to time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial

import structlog

from crewrun_operator import clock, paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.apply import Applier, Where
from crewrun_operator.decide import decide
from crewrun_operator.feed import kinds
from crewrun_operator.inbox import Inbox
from crewrun_operator.metrics import Metrics
from crewrun_operator.queue_state import Queue
from crewrun_operator.queue_status import queue_status
from crewrun_operator.runs import Key
from crewrun_operator.settings import OperatorSettings
from crewrun_operator.store import Store
from crewrun_operator.watches import Collection
from crewrun_operator.workqueue import WorkQueue

log = structlog.get_logger(__name__)

_FIRST_ERROR_DELAY = 0.2
_LONGEST_ERROR_DELAY = 60.0
_NOT_FOUND, _CONFLICT = 404, 409
#: How often queues are looked at while runs wait (a window may begin) or something has changed (it may be too early to
#: tell), and otherwise; what changes within a second is told together.
_WAITING_SECONDS, _IDLE_SECONDS, _TOGETHER_SECONDS = 5.0, 60.0, 1.0
#: How long after a list a watch may still deliver what the list showed.
_WATCH_DELAY_SECONDS = 30.0
_WATCHED = (paths.CREWS, paths.PROFILES, paths.QUEUES, paths.CREWRUNS, paths.JOBS, paths.PODS)


class Controller:
    """Works keys until it is cancelled."""

    def __init__(
        self,
        settings: OperatorSettings,
        api: Api,
        store: Store,
        metrics: Metrics,
        reporting: Where = lambda: None,
    ) -> None:
        self._settings, self._api, self._store, self._metrics = settings, api, store, metrics
        self._applier = Applier(api, store, reporting)
        self._errors: defaultdict[Key, int] = defaultdict(int)
        self._time = asyncio.get_running_loop().time
        self.last_resync = self._time()
        self._last_event = dict.fromkeys(_WATCHED, self.last_resync)
        self.queue: WorkQueue[Key] = WorkQueue()
        self._synced = asyncio.Event()
        self._listed_at: dict[Collection, str] = {}
        self._kinds = kinds(store)
        self._queues_changed = asyncio.Event()
        self.inbox = Inbox(store, self.queue, lambda: self.synced)
        metrics.queue_depth.set_function(self.queue.__len__)
        metrics.queue_age.set_function(self.queue.oldest_wait)
        metrics.list_age.set_function(self.oldest_resync_seconds)
        for plural in self._last_event:
            metrics.watch_age.labels(plural).set_function(partial(self.watch_age_seconds, plural))

    async def run(self) -> None:
        """List everything once, then decide; then list again from time to time. Ends only by an error."""
        await self.resync()
        self._synced.set()
        log.info("synced", runs=len(self._store.runs))
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.workers):
                group.create_task(self._work())
            group.create_task(self._resync_forever())
            group.create_task(self._tend_queues())

    @property
    def synced(self) -> bool:
        """Whether everything has been listed once."""
        return self._synced.is_set()

    async def first_list(self) -> Mapping[Collection, str]:
        """All collections, with the versions that they were listed at, once they are."""
        await self._synced.wait()
        return self._listed_at

    def seen(self, plural: str, keys: list[Key]) -> None:
        """What a watch of this kind delivered."""
        self._last_event[plural] = self._time()
        for key in keys:
            self.queue.add(key)
        self._admit()

    def _admit(self) -> None:
        """Give the places that are free. Only once everything is known: who comes first, and what is held."""
        if self.synced and (given := self._store.queues.admit(clock.now())) is not None:
            self._queues_changed.set()
            for key in given:
                self.queue.add(key)

    async def _tend_queues(self) -> None:
        """Say how the queues stand, and let them admit when a window begins."""
        changed = True
        while True:
            self._store.queues.stir()
            self._admit()
            self._queues_changed.clear()
            for queue in list(self._store.queues):
                await self._tell(queue)
            waiting = any(queue.pending for queue in self._store.queues)
            try:
                async with asyncio.timeout(_WAITING_SECONDS if waiting or changed else _IDLE_SECONDS):
                    changed = await self._queues_changed.wait()
            except TimeoutError:
                changed = False
            await asyncio.sleep(_TOGETHER_SECONDS)

    async def _tell(self, queue: Queue) -> None:
        if (status := queue_status(queue, clock.now())) is None:
            return
        try:
            await self._applier.write_queue(queue, status)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                log.warning("queue status not written", namespace=queue.key[0], queue=queue.key[1], error=str(error))

    async def _resync_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            begun = loop.time()
            missed = await self.resync()
            if not missed:
                continue
            await asyncio.sleep(_WATCH_DELAY_SECONDS)
            dead = [plural for plural in missed if self._last_event[plural] < begun]
            if dead:
                raise RuntimeError(f"the watches of {', '.join(dead)} are dead: a list shows what they did not")

    async def resync(self) -> list[str]:
        """Put all that the API server has into the store, and add every run to the queue.

        Returns the kinds of which the list showed something that no watch had delivered yet.
        """
        collections = [*self._collections()]
        news = await asyncio.gather(*map(self._list, collections))
        missed = [collection.plural for collection, its in zip(collections, news, strict=True) if its]
        self.last_resync = self._time()
        self._decide_all()
        return missed

    async def list_again(self, collection: Collection) -> str:
        """The same of one collection; the version that it was listed at."""
        await self._list(collection)
        self._decide_all()
        return self._listed_at[collection]

    async def _list(self, collection: Collection) -> bool:
        """Put it into the store; True if that is news."""
        (put, drop), uids, news, version = self._kinds[collection.plural], set[str](), False, ""
        async for events in self._api.everything(collection.path, **collection.list_query):
            for event in events:
                manifest, type_ = event["object"], event["type"]
                version = manifest["metadata"]["resourceVersion"]  # of all together it is that of the last, a bookmark
                if type_ == "DELETED":
                    uids.discard(manifest["metadata"]["uid"])
                    drop(manifest)
                elif type_ != "BOOKMARK":
                    uids.add(manifest["metadata"]["uid"])
                    news |= bool(put(manifest))
        self._listed_at[collection] = version
        return self._store.sweep(collection.plural, collection.namespace, uids, int(version)) or news

    def _decide_all(self) -> None:
        for key in self._store.runs:
            self.queue.add(key)

    def _collections(self) -> Iterator[Collection]:
        namespaces: list[str | None] = [*self._settings.namespaces]
        for ns in namespaces or [None]:
            for plural in (paths.CREWS, paths.PROFILES, paths.QUEUES, paths.CREWRUNS):
                yield Collection(ns, plural, paths.custom(plural, ns))
            yield Collection(ns, paths.JOBS, paths.jobs(ns), paths.RUNNER_SELECTOR)
            # Most Pods have ended long ago. If one has whose attempt is open, that is looked up live.
            yield Collection(ns, paths.PODS, paths.pods(ns), paths.RUNNER_SELECTOR, paths.GOING_SELECTOR)

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                with self._metrics.reconcile.time():
                    only_looked = await self._reconcile(key)
                if not only_looked:  # a look is no success: what failed before it is still to be done
                    self._errors.pop(key, None)
            except ApiError as error:
                self._try_again(key, error, conflict=error.code == _CONFLICT)
            except Exception as error:  # one run must never end the work on all others
                log.exception("decision failed", namespace=key[0], run=key[1])
                self._try_again(key, error, conflict=False)
            finally:
                self.queue.done(key)
                self.inbox.worked(key)
                self._admit()
            await asyncio.sleep(0)  # a decision without news awaits nothing: watches and probes need their turn

    async def _reconcile(self, key: Key) -> bool:
        """Decide and apply; True when nothing was done but to ask the API server something."""
        observed = self._store.observe(key)
        if observed is None:
            self.queue.forget(key)
            return False
        now = clock.now()
        plan = decide(observed, now)
        if await self._applier.apply(observed.run, plan, now):
            self.queue.add(key)
        elif plan.again_at is not None:
            self.queue.add_after(key, (plan.again_at - clock.now()).total_seconds())
        else:
            self.queue.forget(key)
        return plan.confirm is not None or plan.confirm_sources

    def _try_again(self, key: Key, error: Exception, *, conflict: bool) -> None:
        """After a conflict the newer state is on the way; after anything else wait ever longer."""
        self._errors[key] += 1
        delay = min(_FIRST_ERROR_DELAY * 2 ** (self._errors[key] - 1), _LONGEST_ERROR_DELAY)
        if not conflict:
            self._metrics.reconcile_errors.inc()
            log.warning("trying again", namespace=key[0], run=key[1], error=str(error), seconds=delay)
        self.queue.add_after(key, delay)

    def oldest_resync_seconds(self) -> float:
        """How long ago everything was listed."""
        return self._time() - self.last_resync

    def watch_age_seconds(self, plural: str) -> float:
        """How long ago a watch of this kind delivered an event, or this process began."""
        return self._time() - self._last_event[plural]

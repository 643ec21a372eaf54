"""The queues of all namespaces, and which run is in which. Memory only, no I/O, no clock."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime

from crewrun_operator.queue_object import QueueObject
from crewrun_operator.queue_state import Key, Place, Queue
from crewrun_operator.views import Manifest


class Queues:
    """The queues of all namespaces."""

    def __init__(self) -> None:
        self._queues: dict[Key, Queue] = {}
        self._objects: defaultdict[str, dict[str, QueueObject]] = defaultdict(dict)
        self._of: dict[str, Key] = {}  # by the run's UID
        self._stirred: set[Key] = set()  # those in which somebody may get a place now

    def __iter__(self) -> Iterator[Queue]:
        """Those that have an object."""
        return (queue for queue in self._queues.values() if queue.object is not None)

    def objects(self, namespace: str) -> Mapping[str, QueueObject]:
        """The CrewQueues of a namespace, by name."""
        return self._objects.get(namespace, {})

    def get(self, key: Key) -> Queue | None:
        return self._queues.get(key)

    def put_object(self, found: QueueObject) -> bool:
        """Take a CrewQueue; False when nothing is new about what it asks for."""
        namespace, name = found.key
        self._objects[namespace][name] = found
        return self._stir(found.key).put_object(found)

    def drop_object(self, key: Key) -> None:
        """The CrewQueue is deleted. Those that are in it wait for another of its name."""
        if self._objects[key[0]].pop(key[1], None):
            self._queues[key].object = None
            self._stir(key)
            self._forget(key)

    def put_run(self, run: Manifest) -> None:
        """Take what a run's status says of its queue."""
        metadata, name = run["metadata"], (run.get("status") or {}).get("queue")
        key = (metadata["namespace"], name) if name else None
        if self._of.get(metadata["uid"]) != key:
            self._drop(metadata["uid"], deleted=False)
        if key:
            self._of[metadata["uid"]] = key
            self._stir(key).put(run)

    def drop_run(self, uid: str) -> None:
        """The run is deleted."""
        self._drop(uid, deleted=True)

    def join(self, run: Manifest, name: str, time: datetime, now: datetime) -> None:
        """Let a run wait in a queue, in the order of that time."""
        uid, key = run["metadata"]["uid"], (run["metadata"]["namespace"], name)
        if self._of.get(uid) != key:
            self._drop(uid, deleted=False)
        self._of[uid] = key
        self._stir(key).join(run, time, now)

    def stir(self) -> None:
        """Time has passed: where runs wait, a window may have begun."""
        self._stirred.update(key for key, queue in self._queues.items() if queue.pending)

    def admit(self, now: datetime) -> list[Key] | None:
        """Give places; the runs that were given one, to be decided again. None: no queue has changed."""
        if not self._stirred:
            return None
        stirred, self._stirred = self._stirred, set()
        return [run for key in sorted(stirred) if key in self._queues for run in self._queues[key].admit(now)]

    def place(self, uid: str) -> Place | None:
        """The place of a run that wants one, or was given it."""
        key = self._of.get(uid)
        return self._queues[key].place(uid) if key else None

    def _drop(self, uid: str, *, deleted: bool) -> None:
        if key := self._of.pop(uid, None):
            self._stir(key).drop(uid, deleted=deleted)
            self._forget(key)

    def _stir(self, key: Key) -> Queue:
        self._stirred.add(key)
        if key not in self._queues:
            self._queues[key] = Queue(key)
        return self._queues[key]

    def _forget(self, key: Key) -> None:
        if self._queues[key].idle:  # names come from people
            del self._queues[key]

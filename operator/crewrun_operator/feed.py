"""The feed: what watches tell goes into the store. No handler works, waits or writes.

kopf watches the kinds that people write once and change rarely. Those of which each run changes several are followed
by `watches.py`: what kopf does for each event costs more than the decisions do.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import kopf

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.runs import Key
from crewrun_operator.store import Store
from crewrun_operator.views import Manifest

Put = Callable[[Manifest], list[Key]]
Seen = Callable[[str, list[Key]], None]
Event = Mapping[str, Any]
Take = Callable[[Event], None]

#: The kinds of which there are thousands of events.
BULK = (paths.CREWRUNS, paths.JOBS, paths.PODS)


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf keeps no last-handled state on objects: decisions come from the status alone."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing: what it copies of each object, to compare it with what it was, nobody asks for."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """kopf keeps no handler progress on objects: there is none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf tuned for bulk kinds: no writes, no scanning, filters on the server."""
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.batching.worker_limit = None
    settings.batching.idle_timeout = 0.2
    settings.watching.chunk_size = 500


def kinds(store: Store) -> dict[str, tuple[Put, Put]]:
    """By kind, how an object comes into the store, and how it goes."""
    return {
        paths.CREWRUNS: (store.put_run, store.drop_run),
        paths.CREWS: (store.put_crew, store.drop_crew),
        paths.PROFILES: (store.put_profile, store.drop_profile),
        paths.JOBS: (store.put_job, store.drop_job),
        paths.PODS: (store.put_pod, store.drop_pod),
        paths.QUEUES: (store.put_queue, store.drop_queue),
    }


def takers(store: Store, seen: Seen) -> dict[str, Take]:
    """By kind, what becomes of an event: its object into the store, the keys that it concerns to `seen`."""
    return {plural: partial(_take, plural, put, drop, seen) for plural, (put, drop) in kinds(store).items()}


def _take(plural: str, put: Put, drop: Put, seen: Seen, event: Event) -> None:
    manifest, type_ = event["object"], event["type"]
    if type_ == "BOOKMARK":
        seen(plural, [])
    else:
        seen(plural, drop(manifest) if type_ == "DELETED" else put(manifest))


def register(registry: kopf.OperatorRegistry, take: Mapping[str, Take]) -> None:
    """One event handler for each kind that kopf watches."""
    kopf.on.login(registry=registry)(_login)
    for plural in take.keys() - {*BULK}:
        _register(registry, plural, take[plural])


def _register(registry: kopf.OperatorRegistry, plural: str, take: Take) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, plural, registry=registry, id=f"feed-{plural}")
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        take(event)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The same credentials as the rest of the operator: the Pod's service account, else the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

"""The feed: kopf's watches into the store. No handler works, waits or writes."""

from collections.abc import Callable
from typing import Any

import kopf

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.store import Key, Store
from crewrun_operator.views import Manifest

Put = Callable[[Manifest], list[Key]]
Seen = Callable[[str, list[Key]], None]


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf keeps no last-handled state on objects: decisions come from the status alone."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing: what it copies of each object, to compare it with what it was, nobody asks for. That was a third of
        the operator's work."""
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
    settings.watching.label_selectors["batch", "v1", "jobs"] = paths.RUNNER_SELECTOR
    settings.watching.label_selectors["", "v1", "pods"] = paths.RUNNER_SELECTOR


def register(registry: kopf.OperatorRegistry, store: Store, seen: Seen) -> None:
    """One event handler per kind: the object into the store, the keys it concerns to `seen`."""
    kopf.on.login(registry=registry)(_login)
    handlers: list[tuple[tuple[str, str, str], Put, Put]] = [
        (_own(paths.CREWRUNS), store.put_run, store.drop_run),
        (_own(paths.CREWS), store.put_crew, store.drop_crew),
        (_own(paths.PROFILES), store.put_profile, store.drop_profile),
        (("batch", "v1", paths.JOBS), store.put_job, store.drop_job),
        (("", "v1", paths.PODS), store.put_pod, store.drop_pod),
        (_own(paths.QUEUES), store.put_queue, store.drop_queue),
    ]
    for resource, put, drop in handlers:
        _register(registry, resource, put, drop, seen)


def _register(registry: kopf.OperatorRegistry, resource: tuple[str, str, str], put: Put, drop: Put, seen: Seen) -> None:
    @kopf.on.event(*resource, registry=registry, id=f"feed-{resource[2]}")
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        manifest = event["object"]
        seen(resource[2], drop(manifest) if event["type"] == "DELETED" else put(manifest))


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The same credentials as the rest of the operator: the Pod's service account, else the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _own(plural: str) -> tuple[str, str, str]:
    return names.GROUP, names.VERSION, plural

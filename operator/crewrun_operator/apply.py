"""Carries out a plan: the only code that writes to Kubernetes.

The order makes crashes harmless: an attempt stands in the status before its Job is made, names are
deterministic, and a Job that is already there is adopted only if it belongs to this very run. The answer to
every write goes into the store.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime

import structlog

from crewrun_api import names
from crewrun_api.queue import QueueStatus
from crewrun_api.reasons import Reason
from crewrun_api.run import RunStatus
from crewrun_operator import paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.attachments import Reporting
from crewrun_operator.configmaps import ConfigMaps
from crewrun_operator.documents import Document
from crewrun_operator.hooks import Hooks
from crewrun_operator.job import build_job
from crewrun_operator.lookups import listed, payload_of, read_config_maps
from crewrun_operator.observed import Notice, Plan, Refusal, Save, StartAttempt, Stop
from crewrun_operator.queue_state import Queue
from crewrun_operator.sources import config_maps_of, crew_spec_of
from crewrun_operator.status import as_document, merge_patch
from crewrun_operator.store import Store
from crewrun_operator.times import stamp
from crewrun_operator.views import Listed, Manifest, job_view, version

#: Where runners report now: the authorities change when certificates are renewed.
Where = Callable[[], Reporting | None]

#: When a look at the sources of runs began, and the Crew, the profiles and the queues that it found.
Look = tuple[int, Document | None, Listed, Listed]

log = structlog.get_logger(__name__)


class Applier:
    """Turns plans into requests."""

    def __init__(self, api: Api, store: Store, reporting: Where = lambda: None) -> None:
        self._api, self._store, self._reporting = api, store, reporting
        self._looks: dict[tuple[str, str | None], tuple[int, asyncio.Future[Look]]] = {}
        self._config_maps, self._hooks = ConfigMaps(api, store), Hooks(api, store)

    async def apply(self, run: Manifest, plan: Plan, now: datetime) -> bool:
        """Carry out the plan; True when something is new, so that the run is to be decided again at once.

        Our own writes count as news: their answers are in the store already, so the watch's event of them
        wakes nobody, and what follows from them (a webhook, a deadline) has to be found; unless the plan says so.

        Raises ApiError when the API server refuses a write; a conflict means that the run has changed, and
        its newer state is on the way.
        """
        news = False
        if plan.join is not None:
            self._store.queues.join(run, plan.join.queue, plan.join.time, now)
            news = True
        if plan.save is not None:
            if not await self._kept(run, plan.save, now):
                return True
            news = news or not plan.settled
        if plan.status is not None:
            written = await self._write_status(run, plan.status, now)
            # Not "is there a patch": a CRD older than this operator drops fields it does not know, for ever.
            news, run = news or (version(written) != version(run) and not plan.settled), written
        if plan.start is not None:
            made = await self._start(run, plan.start)
            news = news or not (made and plan.settled)
        if plan.start_hook is not None:
            await self._hooks.start(run, plan.start_hook)
            news = True
        if plan.stop is not None:
            await self._stop(run, plan.stop)
        for notice in plan.notices:
            await self._notify(run, notice, now)
        if plan.delete_run:
            await self._delete_run(run)
        if plan.confirm is not None:
            await self._confirm(run, plan.confirm)
        if plan.confirm_hook is not None:
            await self._hooks.confirm(run, plan.confirm_hook)
        if plan.confirm_sources:
            await self._confirm_sources(run, now)
        return news or plan.confirm is not None or plan.confirm_hook is not None or plan.confirm_sources

    async def write_queue(self, queue: Queue, status: QueueStatus) -> None:
        """Say how a queue stands. Raises ApiError."""
        if queue.object is None:
            return
        told = queue.object.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        now = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        written = await self._api.merge_patch(paths.queue_status(*queue.key), {"status": merge_patch(told, now)})
        self._store.put_queue(written)

    async def _kept(self, run: Manifest, save: Save, now: datetime) -> bool:
        """Save what is to be kept. If the API server does not take it, by a quota or a policy, that is told, and the
        run goes on without: it must not stand still for it."""
        name, metadata = save.manifest["metadata"]["name"], run["metadata"]
        try:
            await self._config_maps.save(run, save)
        except ApiError as error:
            if error.code not in (400, 403, 413, 422):
                raise
            self._store.not_saved(metadata["uid"], name, save.checkpoint_of)
            await self._notify(run, Notice("Warning", "NotKept", f"ConfigMap {name}: {error.message}"), now)
            return False
        return True

    async def _confirm_sources(self, run: Manifest, now: datetime) -> None:
        """Ask the API server itself about what a run is made of: its Crew and the ConfigMaps by name, the profiles and
        queues by list."""
        metadata, crew_name = run["metadata"], (run["spec"].get("crewRef") or {}).get("name")
        namespace = metadata["namespace"]
        began, crew, profiles, queues = await self._looked(namespace, crew_name, metadata["uid"])
        needed = config_maps_of(run["spec"], crew_spec_of(run, crew))
        config_maps = await read_config_maps(self._api, namespace, needed)
        self._store.confirm_sources(run, crew, profiles, queues, config_maps, began, now)

    async def _looked(self, namespace: str, crew: str | None, run_uid: str) -> Look:
        """A live look that counts for this run. All who need one while another is under way share the next."""
        sources = namespace, crew
        while (under_way := self._looks.get(sources)) and under_way[0] < self._store.looks.since(run_uid):
            await asyncio.wait([under_way[1]])
        if under_way is None:
            began = self._store.looks.begin()
            look = asyncio.ensure_future(self._look(namespace, crew, began))
            self._looks[sources] = under_way = began, look
            look.add_done_callback(lambda _: self._looks.pop(sources))
        return await asyncio.shield(under_way[1])

    async def _look(self, namespace: str, crew: str | None, began: int) -> Look:
        async def found() -> Document | None:
            return await self._api.find(paths.custom(paths.CREWS, namespace, crew)) if crew else None

        profiles, queues = (listed(self._api, paths.custom(kind, namespace)) for kind in (paths.PROFILES, paths.QUEUES))
        return began, *await asyncio.gather(found(), profiles, queues)

    async def _write_status(self, run: Manifest, status: RunStatus, now: datetime) -> Manifest:
        """Patch what differs, if the run is still as it was when it was decided about."""
        old = RunStatus.model_validate(run.get("status") or {})
        patch = merge_patch(as_document(old), as_document(status))
        if not patch:
            return run
        metadata = run["metadata"]
        precondition = {"metadata": {"resourceVersion": metadata["resourceVersion"]}}
        path = paths.run_status(metadata["namespace"], metadata["name"])
        written = await self._api.merge_patch(path, {**precondition, "status": patch})
        self._store.written(written, now)
        return written

    async def _start(self, run: Manifest, start: StartAttempt) -> bool:
        """Make the attempt's Job; False for one that cannot be made, or was there: a fact to decide by."""
        metadata = run["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        payload = start.payload or await payload_of(self._api, namespace, start.like or "")
        if payload is None or payload.digest != run["status"]["crew"]["digest"]:
            message = "the crew, its profile or the inputs changed, and the Job that carried them is gone"
            self._store.refuse(uid, start.number, Refusal(Reason.CREW_CHANGED, message, again=False))
            return False
        checkpoint = None
        reporting = self._reporting()
        if reporting is not None and start.checkpoint_since is not None:
            checkpoint = await self._config_maps.checkpoint(run, start.checkpoint_since)
        job = build_job(run, start.number, payload, reporting, checkpoint, paced=start.paced)
        self._store.doubt(uid, start.number)  # if no answer comes, the Job may be there all the same
        try:
            created = await self._api.create(paths.jobs(namespace), job)
        except ApiError as error:
            if error.code == 409 and error.reason == "AlreadyExists":
                await self._adopt(run, start.number, job["metadata"]["name"])
                return False
            if error.code in (403, 422, 400):
                again = error.code == 403
                message = f"the API server refuses Job {job['metadata']['name']}: {error.message}"
                self._store.refuse(uid, start.number, Refusal(Reason.JOB_REJECTED, message, again))
                if again:
                    raise
                return False
            raise
        self._store.put_job(created)
        return True

    async def _adopt(self, run: Manifest, attempt: int, name: str) -> None:
        """Take the Job that is already there as ours, if its owner is this very run."""
        metadata = run["metadata"]
        found = await self._api.get(paths.jobs(metadata["namespace"], name))
        view = job_view(found)
        if view is not None and view.owner_uid == metadata["uid"]:
            self._store.put_job(found)
            return
        message = f"Job {name} exists and does not belong to this CrewRun; delete or rename it"
        self._store.refuse(metadata["uid"], attempt, Refusal(Reason.JOB_REJECTED, message, again=False))

    async def _stop(self, run: Manifest, stop: Stop) -> None:
        """End an execution by deleting its Pod, which leaves the runner its grace period for the record."""
        namespace = run["metadata"]["namespace"]
        path = paths.pods(namespace, stop.pod) if stop.pod else paths.jobs(namespace, stop.job)
        await self._delete(path, stop.pod_uid)

    async def _delete_run(self, run: Manifest) -> None:
        metadata = run["metadata"]
        await self._delete(paths.custom(paths.CREWRUNS, metadata["namespace"], metadata["name"]), metadata["uid"])

    async def _delete(self, path: str, uid: str | None) -> None:
        try:
            await self._api.delete(path, uid)
        except ApiError as error:
            if error.code not in (404, 409):  # gone already, or another object under the same name
                raise

    async def _confirm(self, run: Manifest, attempt: int) -> None:
        """Ask the API server itself about an attempt: its Job by name, its Pods by label."""
        metadata = run["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        job = await self._api.find(paths.jobs(namespace, names.job_name(metadata["name"], uid, attempt)))
        view = job_view(job) if job is not None else None
        if view is None or view.owner_uid != uid:
            job = None
        selector = f"{names.LABEL_RUN_UID}={uid},{names.LABEL_ATTEMPT}={attempt}"
        pods, list_version = await listed(self._api, paths.pods(namespace), labelSelector=selector)
        self._store.confirm(uid, attempt, job, pods, list_version)

    async def _notify(self, run: Manifest, notice: Notice, now: datetime) -> None:
        """Post an event. One that cannot be posted is logged: the status says the same."""
        try:
            await self._api.create(paths.events(run["metadata"]["namespace"]), _event(run, notice, now))
        except ApiError as error:
            if error.code != 409:  # the same event was posted before a restart
                log.warning("event not posted", run=run["metadata"]["name"], error=str(error))


def _event(run: Manifest, notice: Notice, now: datetime) -> Document:
    metadata = run["metadata"]
    told = f"{metadata['uid']}/{metadata['resourceVersion']}/{notice.reason}/{notice.message}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{names.shorten(metadata['name'], 200)}.{hashlib.sha256(told.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": "CrewRun",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message[:1024],
        "source": {"component": "crewrun-operator"},
        "reportingComponent": "crewrun-operator",
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
        "count": 1,
    }

"""The Jobs that tell webhooks: made once, adopted if they are there, looked up live. For `apply`."""

from crewrun_api import names
from crewrun_api.reasons import Reason
from crewrun_operator import paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.documents import Document
from crewrun_operator.hook_job import build_hook_job
from crewrun_operator.lookups import listed, payload_of
from crewrun_operator.observed import Refusal, StartHook
from crewrun_operator.store import Store
from crewrun_operator.views import Manifest, job_view


class Hooks:
    """Writes and reads them."""

    def __init__(self, api: Api, store: Store) -> None:
        self._api, self._store = api, store

    async def start(self, run: Manifest, start: StartHook) -> None:
        """Make the Job; one that cannot be made is a fact to decide by."""
        metadata = run["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        payload = start.payload or await payload_of(self._api, namespace, start.like or "")
        if payload is None or payload.digest != ((run.get("status") or {}).get("crew") or {}).get("digest"):
            message = "the crew or its profile changed, and the Job of the newest attempt is gone"
            self._refuse(uid, start.job, message, Reason.CREW_CHANGED)
            return
        try:
            created = await self._api.create(paths.jobs(namespace), build_hook_job(run, start, payload))
        except ApiError as error:
            if error.code == 409 and error.reason == "AlreadyExists":
                await self._adopt(run, start.job)
                return
            if error.code not in (400, 403, 422):
                raise
            again = error.code == 403
            self._refuse(uid, start.job, f"the API server refuses Job {start.job}: {error.message}", again=again)
            if again:
                raise
            return
        self._store.put_job(created)

    async def confirm(self, run: Manifest, name: str) -> None:
        """Ask the API server itself: the Job by its name, the Pods by their label."""
        namespace, uid = run["metadata"]["namespace"], run["metadata"]["uid"]
        job = await self._api.find(paths.jobs(namespace, name))
        selector = f"{names.LABEL_RUN_UID}={uid},{names.LABEL_ATTEMPT}={names.WEBHOOK_ATTEMPT}"
        pods, list_version = await listed(self._api, paths.pods(namespace), labelSelector=selector)
        self._store.confirm_hook(uid, name, job if job and _is_ours(job, uid) else None, pods, list_version)

    async def _adopt(self, run: Manifest, name: str) -> None:
        """Take the Job that is already there as ours, if its owner is this very run."""
        metadata = run["metadata"]
        found = await self._api.get(paths.jobs(metadata["namespace"], name))
        if _is_ours(found, metadata["uid"]):
            self._store.put_job(found)
            return
        self._refuse(metadata["uid"], name, f"Job {name} exists and does not belong to this CrewRun")

    def _refuse(
        self, uid: str, job: str, message: str, reason: Reason = Reason.JOB_REJECTED, again: bool = False
    ) -> None:
        self._store.refuse_hook(uid, job, Refusal(reason, message, again))


def _is_ours(job: Document, uid: str) -> bool:
    view = job_view(job)
    return view is not None and view.owner_uid == uid and view.id.of_hook

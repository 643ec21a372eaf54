"""The ConfigMaps of a run: its checkpoint and its output, written whole and never another's."""

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.documents import Document
from crewrun_operator.observed import Save
from crewrun_operator.store import Store
from crewrun_operator.views import Manifest


class ConfigMaps:
    """Reads and writes them for `apply`."""

    def __init__(self, api: Api, store: Store) -> None:
        self._api, self._store = api, store

    async def checkpoint(self, run: Manifest, since: int) -> str | None:
        """The digest of the checkpoint to go on from: this run's, and of this attempt or a later one."""
        metadata = run["metadata"]
        name = names.checkpoint_name(metadata["name"], metadata["uid"])
        found = await self._api.find(paths.config_maps(metadata["namespace"], name))
        if found is None or not _owned(found, metadata["uid"]):
            return None
        written_by = _annotation(found, names.ANNOTATION_ATTEMPT)
        usable = written_by.isdecimal() and int(written_by) >= since
        return _annotation(found, names.ANNOTATION_SHA256) or None if usable else None

    async def save(self, run: Manifest, save: Save) -> None:
        """Write one. What belongs to somebody else is left alone, and an older checkpoint never replaces a newer
        one of the same execution, of which an operator that has just started does not know."""
        manifest, namespace, uid = dict(save.manifest), run["metadata"]["namespace"], run["metadata"]["uid"]
        name = manifest["metadata"]["name"]
        path = paths.config_maps(namespace, name)
        found = None if self._store.is_saved(uid, name) else await self._api.find(path)
        if found is not None and not _owned(found, uid):
            raise ApiError(422, "NotOurs", f"ConfigMap {name} belongs to something else; delete or rename it")
        if found is None and not self._store.is_saved(uid, name):
            await self._api.create(paths.config_maps(namespace), manifest)
        elif found is None or save.checkpoint_of is None or _is_newer(save.checkpoint_of, found):
            await self._replace(namespace, path, manifest)
        self._store.saved(uid, name, save.checkpoint_of)

    async def _replace(self, namespace: str, path: str, manifest: Document) -> None:
        try:
            await self._api.replace(path, manifest)
        except ApiError as error:
            if error.code != 404:  # somebody has deleted it
                raise
            await self._api.create(paths.config_maps(namespace), manifest)


def _owned(manifest: Document, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in manifest["metadata"].get("ownerReferences") or [])


def _annotation(manifest: Document, name: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, ""))


def _is_newer(checkpoint_of: tuple[str, int], found: Document) -> bool:
    pod_uid, sequence = checkpoint_of
    stored = _annotation(found, names.ANNOTATION_SEQUENCE)
    same = _annotation(found, names.ANNOTATION_POD_UID) == pod_uid
    return not (same and stored.isdecimal() and int(stored) >= sequence)

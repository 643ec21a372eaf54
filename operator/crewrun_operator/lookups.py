"""What is read of the API server itself, when the store does not hold it."""

import asyncio
from collections.abc import Iterable

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.observed import Payload
from crewrun_operator.views import ConfigMapView, Listed, Manifest, config_map_view


async def listed(api: Api, path: str, **query: str) -> Listed:
    """All items of a list, and the version that they were listed at."""
    items: list[Manifest] = []
    list_version = 0
    async for page in api.pages(path, **query):
        list_version = list_version or int(page["metadata"]["resourceVersion"])
        items += page["items"]
    return Listed(items, list_version)


async def read_config_maps(api: Api, namespace: str, wanted: Iterable[str]) -> dict[str, ConfigMapView | None]:
    """These ConfigMaps by name, read at the same time; None for one that is not there or may not be read: a run that
    waits for it says so, and nothing else of it stands still."""

    async def read(name: str) -> ConfigMapView | None:
        try:
            found = await api.find(paths.config_maps(namespace, name))
        except ApiError as error:
            if error.code != 403:
                raise
            return None
        return config_map_view(found) if found is not None else None

    ordered = sorted(wanted)
    return dict(zip(ordered, await asyncio.gather(*map(read, ordered)), strict=True))


async def payload_of(api: Api, namespace: str, job: str) -> Payload | None:
    """What the Job of an attempt carries; None when there is no such Job, or it carries nothing."""
    document = await api.find(paths.jobs(namespace, job))
    if document is None:
        return None
    own = document["metadata"].get("annotations") or {}
    its = {**own, **(document["spec"]["template"]["metadata"].get("annotations") or {})}
    if not {names.ANNOTATION_SPEC, names.ANNOTATION_INPUTS, names.ANNOTATION_SETTINGS} <= its.keys():
        return None
    return Payload(its[names.ANNOTATION_SPEC], its[names.ANNOTATION_INPUTS], its[names.ANNOTATION_SETTINGS])

"""What is read of the API server itself, when the store does not hold it."""

from crewrun_api import names
from crewrun_operator import paths
from crewrun_operator.api import Api, Document
from crewrun_operator.observed import Payload


async def listed(api: Api, path: str, **query: str) -> tuple[list[Document], int]:
    """All items of a list, and the version that they were listed at."""
    items: list[Document] = []
    list_version = 0
    async for page in api.pages(path, **query):
        list_version = list_version or int(page["metadata"]["resourceVersion"])
        items += page["items"]
    return items, list_version


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

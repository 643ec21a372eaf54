"""Paths of the API server. Purely computational."""

from urllib.parse import quote

from crewrun_api import names

CREWRUNS, CREWS, PROFILES, QUEUES = "crewruns", "crews", "crewprofiles", "crewqueues"
JOBS, PODS = "jobs", "pods"
RUNNER_SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_COMPONENT}={names.COMPONENT_RUNNER}"
#: Of fields: Pods that have not ended.
GOING_SELECTOR = "status.phase!=Succeeded,status.phase!=Failed"


def custom(plural: str, namespace: str | None = None, name: str | None = None) -> str:
    """Objects of CrewRun's own kinds."""
    return _path(f"/apis/{names.API_VERSION}", plural, namespace, name)


def run_status(namespace: str, name: str) -> str:
    return custom(CREWRUNS, namespace, name) + "/status"


def queue_status(namespace: str, name: str) -> str:
    return custom(QUEUES, namespace, name) + "/status"


def jobs(namespace: str | None = None, name: str | None = None) -> str:
    return _path("/apis/batch/v1", JOBS, namespace, name)


def pods(namespace: str | None = None, name: str | None = None) -> str:
    return _path("/api/v1", PODS, namespace, name)


def config_maps(namespace: str, name: str | None = None) -> str:
    return _path("/api/v1", "configmaps", namespace, name)


def events(namespace: str) -> str:
    return _path("/api/v1", "events", namespace, None)


def _path(group: str, plural: str, namespace: str | None, name: str | None) -> str:
    parts = [group]
    if namespace is not None:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(plural)
    if name is not None:
        parts.append(quote(name, safe=""))  # a name may come from a spec, where it is anybody's text
    return "/".join(parts)

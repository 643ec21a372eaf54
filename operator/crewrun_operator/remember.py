"""Where a crew's memory is kept: the volume of a runner's Pod. Purely computational."""

from typing import Any

from crewrun_api import names
from crewrun_api.resolved import ResolvedRun
from crewrun_operator.attachments import Attachments

_VOLUME = "crewrun-memory"


def remember(resolved: ResolvedRun, extras: Attachments) -> None:
    """Adds the claim that the settings name, or an empty folder that goes with the Pod.

    What the definition says of memory is stronger than the settings.
    """
    memory = resolved.memory
    if memory is None or not (resolved.definition or {}).get("memory", memory.enabled):
        return
    source: dict[str, Any] = {"emptyDir": {"sizeLimit": memory.size}}
    if memory.persistent_volume_claim is not None:
        source = {"persistentVolumeClaim": {"claimName": memory.persistent_volume_claim}}
    extras.volumes.append({"name": _VOLUME, **source})
    extras.mounts.append({"name": _VOLUME, "mountPath": names.MEMORY_DIR})
    extras.env.append({"name": names.ENV_MEMORY_DIR, "value": names.MEMORY_DIR})

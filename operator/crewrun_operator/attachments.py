"""What a runner's Pod carries for reports and checkpoints: volumes, mounts, variables. Purely computational."""

from dataclasses import dataclass, field
from typing import Any

from crewrun_api import names
from crewrun_api.resolved import ResolvedRun
from crewrun_operator.views import Manifest

_REPORT_VOLUME = "crewrun-report"
_CHECKPOINT_VOLUME = "crewrun-checkpoint"
_KEYS_VOLUME = "crewrun-checkpoint-keys"
#: kubelet makes a new token when four fifths of this have passed.
_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Reporting:
    """Where runners report, and by which certificate authorities they know that it is the operator."""

    url: str
    authorities: str


@dataclass(slots=True)
class Attachments:
    """Parts of a Pod that belong together."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    env: list[dict[str, Any]] = field(default_factory=list)

    def mount(self, name: str, path: str, **source: Any) -> None:
        self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": path, "readOnly": True})


def attachments(
    metadata: Manifest, attempt: int, resolved: ResolvedRun, reporting: Reporting | None, checkpoint: str | None
) -> Attachments:
    """Without an operator that takes reports there are no checkpoints either, and nothing is attached."""
    extras = Attachments()
    if reporting is None:
        return extras
    extras.mount(_REPORT_VOLUME, names.REPORT_DIR, projected={"defaultMode": 0o440, "sources": _report_sources()})
    path = names.report_path(metadata["namespace"], metadata["name"], attempt)
    extras.env.append({"name": names.ENV_REPORT_URL, "value": reporting.url.rstrip("/") + path})
    if resolved.checkpoint_encryption is not None:
        secret = {"secretName": resolved.checkpoint_encryption.secret_name, "defaultMode": 0o440}
        extras.mount(_KEYS_VOLUME, names.CHECKPOINT_KEYS_DIR, secret=secret)
    if checkpoint is not None:
        # Optional: somebody may take it away, and the attempt then says that it starts from scratch.
        name = names.checkpoint_name(metadata["name"], metadata["uid"])
        extras.mount(_CHECKPOINT_VOLUME, names.CHECKPOINT_DIR, configMap={"name": name, "optional": True})
        extras.env.append({"name": names.ENV_CHECKPOINT_SHA256, "value": checkpoint})
    return extras


def _report_sources() -> list[dict[str, Any]]:
    token = {"audience": names.AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": names.TOKEN_FILE}
    authorities = {"fieldPath": f"metadata.annotations['{names.ANNOTATION_CA}']"}
    return [
        {"serviceAccountToken": token},
        {"downwardAPI": {"items": [{"path": names.CA_FILE, "fieldRef": authorities}]}},
    ]

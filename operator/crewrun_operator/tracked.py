"""Whether a GitOps tool tracks a run: it would make a run that is deleted again. Purely computational."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crewrun_api.reasons import TTLIgnoredReason

_ARGO_CD, _FLUX, _HELM = "Argo CD", "Flux", "Helm"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a tool leaves on the objects that it applies."""

    tool: str
    reason: TTLIgnoredReason
    place: str  # labels or annotations
    key: str

    @property
    def told(self) -> str:
        return f"{self.tool} tracks this run ({self.place.removesuffix('s')} {self.key})"


#: The first that a run carries counts. Argo CD's default up to 2.x comes last: people and charts use that label too.
MARKS = (
    Mark(_ARGO_CD, TTLIgnoredReason.TRACKED_BY_ARGO_CD, "annotations", "argocd.argoproj.io/tracking-id"),
    Mark(_ARGO_CD, TTLIgnoredReason.TRACKED_BY_ARGO_CD, "labels", "argocd.argoproj.io/instance"),
    Mark(_FLUX, TTLIgnoredReason.TRACKED_BY_FLUX, "labels", "kustomize.toolkit.fluxcd.io/name"),
    Mark(_FLUX, TTLIgnoredReason.TRACKED_BY_FLUX, "labels", "helm.toolkit.fluxcd.io/name"),
    Mark(_HELM, TTLIgnoredReason.TRACKED_BY_HELM, "annotations", "meta.helm.sh/release-name"),
    Mark(_ARGO_CD, TTLIgnoredReason.TRACKED_BY_ARGO_CD, "labels", "app.kubernetes.io/instance"),
)
#: A hook is made anew by each sync, whether it is still there or not. Argo CD takes those of Helm for its own.
_HOOKS = ("argocd.argoproj.io/hook", "helm.sh/hook")
#: The annotations that are read here.
ANNOTATIONS = frozenset({*_HOOKS, *(mark.key for mark in MARKS if mark.place == "annotations")})


def tracked_by(run: Mapping[str, Any]) -> Mark | None:
    """The mark of the tool that tracks this run; None when it may be deleted."""
    metadata = run["metadata"]
    hook = any(key in (metadata.get("annotations") or {}) for key in _HOOKS)
    for mark in MARKS:
        if mark.key in (metadata.get(mark.place) or {}) and not (hook and mark.tool == _ARGO_CD):
            return mark
    return None

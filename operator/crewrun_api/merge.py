"""Merging: operator settings < profile < crew < run. Purely computational.

Layers are merged as documents, before any default is applied, so that only what somebody wrote counts.
"""

from collections.abc import Mapping
from typing import Any

from crewrun_api.settings import Settings

Document = Mapping[str, Any]

_FIELDS = frozenset(field.alias or name for name, field in Settings.model_fields.items())
#: Replaced as a whole: their parts have no meaning apart.
_ATOMIC = frozenset({"affinity", "resources", "valueFrom"})
_IDENTITIES = {"secrets": ("name", "mountPath"), "env": ("name",)}


def merge(*layers: Document) -> dict[str, Any]:
    """The shared settings of all layers, weakest first. Lists replace each other, but `env` and `secrets`
    are merged by what they set."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for field in _FIELDS & layer.keys():
            merged[field] = _stronger(field, merged.get(field), layer[field])
        _claim(merged, layer, "env", "secrets")
        _claim(merged, layer, "secrets", "env")
    return merged


def _claim(merged: dict[str, Any], layer: Document, taking: str, losing: str) -> None:
    """A variable that a layer sets by one field takes it from what weaker layers set by the other."""
    taken = {item.get("name") for item in layer.get(taking, ())} - {item.get("name") for item in layer.get(losing, ())}
    if losing in merged:
        merged[losing] = [item for item in merged[losing] if item.get("name") is None or item["name"] not in taken]


def _stronger(field: str, weak: Any, strong: Any) -> Any:
    if isinstance(weak, Mapping) and isinstance(strong, Mapping) and field not in _ATOMIC:
        return {
            **weak,
            **{key: _stronger(key, weak.get(key), value) for key, value in strong.items()},
        }
    if field in _IDENTITIES and isinstance(weak, list):  # a label may be called `env` too
        taken = {_identity(field, item) for item in strong}
        return [*(item for item in weak if _identity(field, item) not in taken), *strong]
    return strong


def _identity(field: str, item: Document) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in _IDENTITIES[field])

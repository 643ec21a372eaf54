"""Which profile a run uses. Purely computational."""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def choose_profile(named: str | None, profiles: Mapping[str, Document]) -> Document | None:
    """The profile that is named, else the namespace's newest default; None when there is neither."""
    if named is not None:
        return profiles.get(named)
    defaults = [profile for profile in profiles.values() if profile["spec"].get("default")]
    return max(defaults, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]), default=None)

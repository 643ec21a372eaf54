"""What a runner's Pod may have, whichever layer says it: the four lists of the policy, and what is never allowed.
Purely computational; a table of shapes."""

from typing import Any

from crewrun_api.policy import EVERYTHING, Policy
from crewrun_api.shapes import Both, Each, Fields, Leaf, Shape


def _image(value: Any, policy: Policy) -> bool:
    return EVERYTHING in policy.images or any(_begins(value, allowed) for allowed in policy.images)


def _begins(image: Any, allowed: str) -> bool:
    """By whole parts: what follows is a path below it, or its tag and digest. A port is no tag."""
    if not isinstance(image, str):
        return False
    below = allowed if allowed.endswith("/") else f"{allowed}/"
    tagged = image.startswith(f"{allowed}:") and "/" not in image[len(allowed) + 1 :]
    return image == allowed or image.startswith((below, f"{allowed}@")) or tagged


IMAGE = Leaf(
    _image,
    "'*' in variables.images || type({value}) == string && variables.images.exists(allowed, {value} == allowed"
    " || {value}.startsWith(allowed.endsWith('/') ? allowed : allowed + '/') || {value}.startsWith(allowed + '@')"
    " || {value}.startsWith(allowed + ':') && !{value}.substring(size(allowed) + 1).contains('/'))",
    "this image is not allowed here; policy.images allows: ",
    "images",
)
SERVICE_ACCOUNT = Leaf(
    lambda value, policy: EVERYTHING in policy.service_accounts or value in policy.service_accounts,
    "'*' in variables.serviceAccounts || {value} in variables.serviceAccounts",
    "this service account is not allowed here; policy.serviceAccounts allows: ",
    "serviceAccounts",
)
RUNTIME_CLASS = Leaf(
    lambda value, policy: EVERYTHING in policy.runtime_classes or value in policy.runtime_classes,
    "'*' in variables.runtimeClasses || {value} in variables.runtimeClasses",
    "this runtime class is not allowed here; policy.runtimeClasses allows: ",
    "runtimeClasses",
)


def _volume(value: Any, policy: Policy) -> bool:
    """A volume that names no type would be an emptyDir, and of two types the API server would have to choose."""
    types = [key for key in value if key != "name"] if isinstance(value, dict) else []
    return len(types) == 1 and (EVERYTHING in policy.volume_types or types[0] in policy.volume_types)


VOLUME = Leaf(
    _volume,
    "type({value}) == map && {value}.filter(key, key != 'name').size() == 1"
    " && ('*' in variables.volumeTypes || {value}.all(key, key == 'name' || key in variables.volumeTypes))",
    "this kind of volume is not allowed here; policy.volumeTypes allows: ",
    "volumeTypes",
)
_PROJECTED = ("clusterTrustBundle", "configMap", "downwardAPI", "secret")
#: Tokens and certificates of the Pod's own are identities.
PROJECTED = Leaf(
    lambda value, _: isinstance(value, dict) and value.keys() <= set(_PROJECTED),
    f"type({{value}}) == map && {{value}}.all(key, key in {list(_PROJECTED)})",
    "a runner has no identity but the one that it reports with; project no other, but only: " + ", ".join(_PROJECTED),
)
VOLUMES = Both(Each(VOLUME), Each(Fields("volume", {"projected": Fields("projection", {"sources": Each(PROJECTED)})})))

POD: dict[str, Shape] = {
    "image": IMAGE,
    "runtimeClassName": RUNTIME_CLASS,
    "serviceAccountName": SERVICE_ACCOUNT,
    "volumes": VOLUMES,
}
_LAYER: dict[str, Shape] = {"pod": Fields("pod", POD)}
_CREW: dict[str, Shape] = {**_LAYER, "entrypoint": Fields("entrypoint", {"image": IMAGE})}
#: By kind, for what is written; what runs is the Pod that all layers make together.
BOUNDS = {
    "CrewProfile": Fields("profile", _LAYER),
    "Crew": Fields("crew", _CREW),
    "CrewRun": Fields("run", {**_LAYER, "crew": Fields("crew", _CREW)}),
}

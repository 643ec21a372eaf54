"""The base of every model of the contract."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_INITIALISMS = {"Uid": "UID", "Url": "URL", "Usd": "USD", "Rpm": "RPM"}


def kubernetes_name(field: str) -> str:
    """The Kubernetes spelling of a Python field: `run_uid` is `runUID`, `pod_name` is `podName`."""
    name = to_camel(field)
    for plain, initialism in _INITIALISMS.items():
        if name.endswith(plain):
            return name.removesuffix(plain) + initialism
    return name


class Model(BaseModel):
    """A strict document in Kubernetes camelCase: an unknown field is an error, never ignored."""

    model_config = ConfigDict(
        alias_generator=kubernetes_name,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_enum_values=False,
    )

"""What runs may ask for on a cluster: the chart's value `policy`, and the operator's setting of the same name."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from crewrun_api.model import Model

EVERYTHING = "*"
#: What Pod Security "restricted" lets a Pod mount.
HARMLESS_VOLUMES = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)


Image = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/@-]*)$", max_length=512)]
Name = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$", max_length=253)]
VolumeType = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z]+)$", max_length=64)]


class SecretSources(StrEnum):
    """Who may lead a Secret into a runner."""

    ANY = "Any"  # profiles, crews and runs
    PROFILE_ONLY = "ProfileOnly"  # profiles alone; crews and runs can neither name one nor get at a profile's keys


class Policy(Model):
    """The bounds of what runs may ask for. The operator refuses what exceeds them, and so does the API server."""

    model_config = ConfigDict(frozen=True)

    secret_sources: SecretSources = Field(
        default=SecretSources.ANY,
        description="Any: profiles, crews and runs may name Secrets. ProfileOnly: profiles alone may, and crews and "
        "runs can say nothing that would let them read a profile's keys or have them sent elsewhere.",
    )
    images: list[Image] = Field(
        default=[EVERYTHING],
        description="Images that a runner may have: whole references, or their beginnings by whole parts, as "
        "`ghcr.io/acme`. `*` is every image. The operator's own runner image is always allowed.",
    )
    service_accounts: list[Name] = Field(
        default=["default"],
        description="Service accounts that a runner may have. `*` is every one. One that names none has `default`.",
    )
    runtime_classes: list[Name] = Field(
        default=[EVERYTHING],
        description="Runtime classes that a runner may name. `*` is every one. A runner need not name any.",
    )
    volume_types: list[VolumeType] = Field(
        default=list(HARMLESS_VOLUMES),
        description="Kinds of volumes that a runner may mount beside its own. `*` is every kind. Projected service "
        "account tokens are refused in any case.",
    )


#: What a run that was accepted before goes on by.
UNBOUNDED = Policy(
    images=[EVERYTHING], service_accounts=[EVERYTHING], runtime_classes=[EVERYTHING], volume_types=[EVERYTHING]
)

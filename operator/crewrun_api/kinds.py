"""The kinds `CrewProfile` and `Crew`: what to run and how."""

from typing import ClassVar

from pydantic import Field, model_validator

from crewrun_api.model import Model
from crewrun_api.settings import Document, ObjectName, Settings


class PrinterColumn(Model):
    """A column of `kubectl get`."""

    name: str
    type: str
    json_path: str
    description: str
    priority: int = 0


class Kind:
    """What a CRD says beside its schema; the spec models carry it as class variables."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[PrinterColumn, ...]]


AGE = PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp", description="Age.")


class ProfileSpec(Settings, Kind):
    """How crews run in a namespace: development, production."""

    kind: ClassVar[str] = "CrewProfile"
    plural: ClassVar[str] = "crewprofiles"
    short_names: ClassVar[tuple[str, ...]] = ("crprof",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(
            name="Default", type="boolean", json_path=".spec.default", description="The namespace's default."
        ),
        PrinterColumn(name="Model", type="string", json_path=".spec.llm.model", description="The model."),
        AGE,
    )

    default: bool = Field(
        default=False,
        description="Used by every Crew and CrewRun of the namespace that names no profile. "
        "Of several defaults the newest counts.",
    )
    allow_python: bool = Field(
        default=False,
        description="Whether definitions may carry Python: callbacks, `{python: module.name}`, `custom:` tools and "
        "tools as objects. Who may write a Crew or a CrewRun then runs code of their own in the runner. No effect on "
        "`entrypoint`, whose code is the image's.",
    )


class CrewConfigMap(Model):
    """A ConfigMap with CrewAI's classic files."""

    name: ObjectName = Field(
        description="ConfigMap of the namespace with the keys `agents.yaml` (agents by name), `tasks.yaml` (tasks by "
        "name, worked in the order of the file) and perhaps `crew.yaml` (the crew's own fields in CrewAI's names: "
        "process, verbose, memory, manager_llm ...). Each has at most 200 KiB, 64 levels, and no key twice."
    )


class Entrypoint(Model):
    """A crew, a `@CrewBase` class or a Flow in an image."""

    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$",
        max_length=512,
        description="`package.module:Name` of a Crew object, a function that makes one, a `@CrewBase` class or a Flow.",
    )
    image: str = Field(
        min_length=1,
        max_length=1024,
        description="The image that carries it, made from the runner's. Stronger than the `pod.image` of the profile, "
        "weaker than that of this Crew and of the run.",
    )


CREW_SOURCE_RULE = "give exactly one of definition, configMap and entrypoint"


class CrewSpec(Settings, Kind):
    """What to run. Exactly one of definition, configMap and entrypoint."""

    kind: ClassVar[str] = "Crew"
    plural: ClassVar[str] = "crews"
    short_names: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Profile", type="string", json_path=".spec.profile", description="Its profile."),
        AGE,
    )

    profile: ObjectName | None = Field(
        default=None, description="CrewProfile of this crew. Unset: the namespace's default, if there is one."
    )
    definition: Document | None = Field(
        default=None, description="CrewAI's own crew definition (agents, tasks, process), in its own names."
    )
    config_map: CrewConfigMap | None = Field(
        default=None,
        description="CrewAI's classic agents.yaml and tasks.yaml. They are read when a run is accepted: what changes "
        "later changes no run that has begun. A run that waits for them looks again every 15 seconds.",
    )
    entrypoint: Entrypoint | None = Field(
        default=None,
        description="A crew in a custom image. Its tasks are known once the runner reports them; its inputs are "
        "checked against inputSchema alone.",
    )
    input_schema: Document | None = Field(
        default=None, description="JSON Schema of the inputs; its defaults are applied before the check."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "CrewSpec":
        if sum(source is not None for source in (self.definition, self.config_map, self.entrypoint)) != 1:
            raise ValueError(CREW_SOURCE_RULE)
        return self

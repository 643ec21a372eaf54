"""The kind `CrewRun`: one execution of a crew, and its status."""

from typing import ClassVar

from pydantic import ConfigDict, Field, model_validator

from crewrun_api.kinds import AGE, CrewSpec, Kind, PrinterColumn
from crewrun_api.model import Model
from crewrun_api.money import MicroUSD, Priced
from crewrun_api.outcome import Usage
from crewrun_api.reasons import Outcome, OutputFormat, Phase, Reason, TaskState, WebhookOutcome
from crewrun_api.settings import Document, KeyReference, ObjectName, Settings


class CrewReference(Model):
    """A Crew of the run's namespace."""

    name: ObjectName = Field(description="Name of the Crew.")


class ConfigMapReference(Model):
    """A ConfigMap of the run's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")


INPUT_SOURCE_RULE = "give either configMapRef alone, or secretKeyRef and input"


class InputSource(Model):
    """Inputs from a ConfigMap, or one input from a Secret."""

    config_map_ref: ConfigMapReference | None = Field(
        default=None,
        description="Each key of its data is an input, as text. It is read when the run is accepted; a run that waits "
        "for it looks again every 15 seconds.",
    )
    secret_key_ref: KeyReference | None = Field(
        default=None,
        description="The key whose value is one input, as text. The runner alone reads it, and checks it against "
        "inputSchema; its value is redacted wherever the runner writes.",
    )
    input: str | None = Field(
        default=None, min_length=1, max_length=253, description="Name of the input that secretKeyRef gives."
    )

    @model_validator(mode="after")
    def _one_of(self) -> "InputSource":
        of_secret = self.secret_key_ref is not None and self.input is not None
        mixed = self.config_map_ref is not None and (self.secret_key_ref is not None or self.input is not None)
        if mixed or not (self.config_map_ref or of_secret):
            raise ValueError(INPUT_SOURCE_RULE)
        return self


SECRET_INPUTS_RULE = "an input is given by two entries with secretKeyRef"

WEBHOOK_RULE = "give exactly one of url and urlFrom"


class Webhook(Model):
    """A URL that is told about the end of a run."""

    url: str | None = Field(default=None, pattern=r"^https?://.+$", max_length=2048, description="Where to POST.")
    url_from: KeyReference | None = Field(
        default=None, description="The Secret and key that hold the URL, for one that is itself a secret."
    )
    headers_from: list["HeaderSource"] = Field(
        default_factory=list, max_length=16, description="Headers whose values are keys of Secrets."
    )

    @model_validator(mode="after")
    def _one_url(self) -> "Webhook":
        if (self.url is None) == (self.url_from is None):
            raise ValueError(WEBHOOK_RULE)
        return self


class HeaderSource(Model):
    """An HTTP header from a Secret."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", min_length=1, max_length=128, description="Name of the header."
    )
    secret_key_ref: KeyReference = Field(description="The Secret and key that hold its value.")


class Hook(Model):
    """What happens when a run ends."""

    webhook: Webhook | None = Field(default=None, description="A URL that is told.")


RUN_SOURCE_RULE = "give exactly one of crewRef and crew"


class RunSpec(Settings, Kind):
    """One execution: which crew, with what inputs, and whether it is to be stopped."""

    kind: ClassVar[str] = "CrewRun"
    plural: ClassVar[str] = "crewruns"
    short_names: ClassVar[tuple[str, ...]] = ("crun",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Crew", type="string", json_path=".status.crew.name", description="What it runs."),
        PrinterColumn(name="Phase", type="string", json_path=".status.phase", description="Where it stands."),
        PrinterColumn(name="Progress", type="string", json_path=".status.progress", description="Tasks done of all."),
        PrinterColumn(name="Attempts", type="integer", json_path=".status.attemptCount", description="Attempts made."),
        PrinterColumn(name="Tokens", type="integer", json_path=".status.usage.totalTokens", description="Tokens used."),
        PrinterColumn(name="Cost", type="string", json_path=".status.usage.costUSD", description="USD."),
        AGE,
        PrinterColumn(
            name="Reason",
            type="string",
            json_path=".status.conditions[?(@.type=='Succeeded')].reason",
            description="Why it stands there.",
            priority=1,
        ),
    )

    crew_ref: CrewReference | None = Field(default=None, description="The Crew to run.")
    crew: CrewSpec | None = Field(default=None, description="A whole Crew spec, instead of crewRef.")
    profile: ObjectName | None = Field(default=None, description="CrewProfile of this run, stronger than the crew's.")
    inputs: Document = Field(default_factory=dict, description="Values for the template variables of agents and tasks.")
    inputs_from: list[InputSource] = Field(
        default_factory=list,
        max_length=64,
        description="Inputs from ConfigMaps and Secrets. Of an input that is given more than once a later entry is "
        "stronger than an earlier one, and `inputs` is stronger than all of them.",
    )
    suspend: bool = Field(
        default=False,
        description="Stops the run until it is false again; it goes on at its first unfinished task.",
    )
    cancel: bool = Field(default=False, description="Ends the run: its runner is told to stop.")
    rerun: str | None = Field(
        default=None,
        max_length=253,
        description="A new value starts an ended run again, with its crew and profile as they are then. While the run "
        "lives a new value changes nothing.",
    )
    queue: ObjectName | None = Field(
        default=None,
        description="CrewQueue that admits the run. Unset: the namespace's default, if there is one.",
    )
    priority: int | None = Field(
        default=None,
        ge=-1_000_000,
        le=1_000_000,
        description="In its queue a run goes before those that have waited a minute longer for each point that it has "
        "more. It counts while the run waits, and may change.",
    )
    on_failure: Hook | None = Field(
        default=None,
        description="What happens when the run fails; not when it is cancelled.",
    )
    on_success: Hook | None = Field(
        default=None,
        description="What happens when the run succeeds.",
    )

    @model_validator(mode="after")
    def _one_crew(self) -> "RunSpec":
        if (self.crew_ref is None) == (self.crew is None):
            raise ValueError(RUN_SOURCE_RULE)
        return self

    @model_validator(mode="after")
    def _no_secret_input_twice(self) -> "RunSpec":
        named = [source.input for source in self.inputs_from if source.secret_key_ref is not None]
        if len(named) != len(set(named)):
            raise ValueError(SECRET_INPUTS_RULE)
        return self


class StatusModel(Model):
    """Part of a status. What a newer release wrote there is not this one's to refuse."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """A metav1 condition."""

    type: str = Field(
        max_length=64, description="Accepted, Admitted, Succeeded, Reconciling, Stalled, SpecChanged or TTLIgnored."
    )
    status: str = Field(pattern="^(True|False|Unknown)$", description="True, False or Unknown.")
    reason: str = Field(max_length=128, description="Why, in one stable word.")
    message: str = Field(default="", max_length=4096, description="Why, for people.")
    last_transition_time: str = Field(max_length=32, description="When status last changed.")
    observed_generation: int = Field(default=0, description="The generation of the spec it speaks of.")


class CrewStatus(StatusModel):
    """What runs."""

    name: str = Field(description="The Crew; the run's own name for an inline crew.")
    uid: str | None = Field(default=None, description="UID of the Crew.")
    generation: int | None = Field(default=None, description="Generation of the Crew.")
    digest: str = Field(description="sha256 of the resolved spec and the inputs.")


class AttemptStatus(StatusModel):
    """One attempt: one Job."""

    number: int = Field(ge=1, description="1 for the first.")
    job: str = Field(description="Its Job.")
    pod: str | None = Field(default=None, description="Its Pod, once it was seen.")
    pod_uid: str | None = Field(default=None, description="UID of that Pod.")
    start_time: str | None = Field(default=None, description="When it was recorded.")
    running_time: str | None = Field(default=None, description="When its runner began.")
    stop_time: str | None = Field(default=None, description="When it was to stop, if somebody asked for that.")
    resumed_from_task: str | None = Field(
        default=None, description="The first task that it ran, when earlier attempts had finished others."
    )
    checkpoint_refused: str | None = Field(
        default=None, description="Why it began at the first task although there was a checkpoint."
    )
    warning: str | None = Field(default=None, description="What its runner warned of: memory that is nearly used up.")
    completion_time: str | None = Field(default=None, description="When it ended.")
    outcome: Outcome | None = Field(default=None, description="How it ended; unset until then.")
    reason: Reason | None = Field(default=None, description="Why it ended so, or is to stop.")
    message: str | None = Field(default=None, description="The same, for people.")
    exit_code: int | None = Field(default=None, description="The runner's exit code.")
    usage: Usage | None = Field(default=None, description="What this attempt used.")


class TaskStatus(Priced):
    """One task of the crew, as the newest attempt left it."""

    model_config = ConfigDict(extra="ignore")  # as in StatusModel

    name: str = Field(description="The task.")
    agent: str = Field(default="", description="The role of its agent.")
    state: TaskState = Field(description="Where it stands.")
    attempt: int = Field(ge=1, description="The attempt that ran it.")
    start_time: str | None = Field(default=None, description="When it started.")
    completion_time: str | None = Field(default=None, description="When it ended.")
    total_tokens: int = Field(default=0, description="Tokens it used.")
    models: list[str] | None = Field(default=None, max_length=16, description="The models that answered for it.")
    preview: str = Field(default="", description="The beginning of its output, one line.")


class FileStatus(StatusModel):
    """A file that a task wrote."""

    name: str = Field(description="Its path, as the task names it.")
    bytes: int = Field(description="Size of the whole file.")
    key: str | None = Field(
        default=None, description="Its key in the ConfigMap. Absent: it was too large, or lost with its Pod."
    )


class OutputStatus(StatusModel):
    """The crew's result."""

    value: str = Field(default="", description="The result, or its beginning: the whole is in configMap then.")
    format: OutputFormat = Field(default=OutputFormat.TEXT, description="Text or JSON.")
    bytes: int = Field(description="Size of the whole result.")
    sha256: str = Field(description="Digest of the whole result.")
    truncated: bool = Field(default=False, description="True when the end of the result is kept nowhere.")
    config_map: str | None = Field(
        default=None, description="ConfigMap with the result under the key `output`, and with the files."
    )
    files: list[FileStatus] = Field(
        default_factory=list, max_length=50, description="Files that tasks wrote (output_file), the first 50."
    )


class WebhookStatus(StatusModel):
    """What became of the webhook of the run's end."""

    job: str = Field(description="The Job that posts.")
    outcome: WebhookOutcome = Field(description="Whether it was told.")
    message: str = Field(default="", description="Why it was not, for people.")
    status_code: int | None = Field(default=None, description="The HTTP status of its last answer.")
    tries: int | None = Field(default=None, description="How often it was asked by the Pod that said so.")
    completion_time: str | None = Field(default=None, description="When that was known.")


class WindowStatus(StatusModel):
    """What a run has spent in a window of its queue's budget."""

    start: str = Field(description="When the window began.")
    cost_usd: MicroUSD = Field(default=0, description="USD with six decimal places, as far as prices are known.")
    total_tokens: int = Field(default=0, description="Prompt and completion tokens.")


class RunStatus(StatusModel):
    """What happened, and nothing else."""

    observed_generation: int = Field(default=-1, description="The generation of the spec last decided on.")
    phase: Phase | None = Field(default=None, description="Where the run stands, for people.")
    progress: str | None = Field(default=None, description="Finished tasks of all, as 2/5.")
    start_time: str | None = Field(default=None, description="When the first attempt was recorded.")
    completion_time: str | None = Field(default=None, description="When the run ended.")
    crew: CrewStatus | None = Field(default=None, description="What runs.")
    profile: str | None = Field(default=None, description="The CrewProfile that was used.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="For machines.",
        json_schema_extra={"x-map-key": "type"},
    )
    attempts: list[AttemptStatus] = Field(default_factory=list, max_length=10, description="The newest ten attempts.")
    attempt_count: int = Field(default=0, description="Attempts made, disrupted ones included.")
    counted_attempts: int = Field(
        default=0, description="Attempts that failed and count for retry.maxAttempts, since the last rerun."
    )
    disruptions: int = Field(default=0, description="Attempts that Kubernetes interrupted, since the last rerun.")
    next_attempt_time: str | None = Field(default=None, description="When the next attempt starts.")
    tasks: list[TaskStatus] = Field(default_factory=list, max_length=50, description="The first 50 tasks.")
    task_count: int = Field(default=0, description="Tasks of the crew.")
    usage: Usage | None = Field(default=None, description="LLM calls and tokens over all attempts.")
    output: OutputStatus | None = Field(default=None, description="The crew's result.")
    webhook: WebhookStatus | None = Field(
        default=None, description="What became of onSuccess.webhook or onFailure.webhook."
    )
    suspend_time: str | None = Field(default=None, description="Since when the run is suspended.")
    suspended_seconds: int = Field(
        default=0,
        description="How long, since its first attempt, it was suspended or waited for its queue before; "
        "timeoutSeconds does not count it.",
    )
    queue: str | None = Field(
        default=None, description="The CrewQueue that admits its attempts. Unset: none, or the run is not accepted."
    )
    queue_time: str | None = Field(default=None, description="Since when it waits in its queue.")
    queue_position: int | None = Field(
        default=None,
        description="Its place in the order of its queue, 1 for the next. It is written again when it has fallen to "
        "half, at most once a minute.",
    )
    order_time: str | None = Field(
        default=None, description="The time that orders it in its queue. Unset: its creation."
    )
    window: WindowStatus | None = Field(
        default=None, description="What it spent in the newest window of its queue's budget in which it spent anything."
    )
    rerun: str | None = Field(default=None, description="The value of spec.rerun that was seen last.")
    resumable_from: int = Field(
        default=1, description="Checkpoints of attempts before this one belong to an earlier success and are not used."
    )

"""How a crew runs: the fields that a profile, a Crew and a CrewRun share.

The same model serves each layer and their merge: layers are merged as documents, and only the result
takes the defaults that stand here. The CRDs carry no defaults for these fields, since an API server that
filled them in would make every layer look as if it had set them all.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from crewrun_api.model import Model
from crewrun_api.reasons import Reason

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=253)]
Decimal = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$")]
#: A Kubernetes document that is passed on as it is; the API server checks it when the Job is made.
Document = dict[str, Any]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class KeyReference(Model):
    """A key of a Secret or ConfigMap of the run's namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: str = Field(min_length=1, max_length=253, description="Key in its data.")


class KeyToPath(Model):
    """One key of a Secret as a file."""

    key: str = Field(min_length=1, max_length=253, description="Key in the Secret's data.")
    path: str = Field(min_length=1, max_length=253, pattern=r"^[^/].*$", description="Relative path of the file.")


class SecretSource(Model):
    """A Secret for the runner: an environment variable (name) or files (mountPath). Only references."""

    name: EnvName | None = Field(default=None, description="Name of the environment variable.")
    secret_key_ref: KeyReference | None = Field(
        default=None, description="The Secret and key that hold the variable's value."
    )
    mount_path: str | None = Field(
        default=None, pattern=r"^/[^:]*$", max_length=512, description="Absolute folder for the files."
    )
    secret_name: ObjectName | None = Field(default=None, description="The Secret whose keys become files.")
    items: list[KeyToPath] | None = Field(
        default=None, max_length=64, description="Which keys become which files. Unset: every key."
    )

    @model_validator(mode="after")
    def _one_of(self) -> "SecretSource":
        variable = self.name is not None and self.secret_key_ref is not None
        files = self.mount_path is not None and self.secret_name is not None
        mixed = (self.name or self.secret_key_ref) and (self.mount_path or self.secret_name or self.items)
        if mixed or not (variable or files):
            raise ValueError(SECRET_RULE)
        return self


SECRET_RULE = "give either name and secretKeyRef (a variable), or mountPath and secretName (files)"


class EnvVar(Model):
    """An environment variable of the runner, as in a Pod."""

    name: EnvName = Field(description="Name of the variable.")
    value: str | None = Field(default=None, description="Its value. For keys use `secrets`, never this.")
    value_from: Document | None = Field(
        default=None, description="fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef, as in a Pod."
    )


class LLM(Model):
    """The model for agents that name none of their own."""

    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Model in CrewAI's spelling, provider first: `openai/gpt-4o`.",
    )
    fallback_models: list[Annotated[str, StringConstraints(min_length=1, max_length=253)]] = Field(
        default_factory=list,
        max_length=16,
        description="Models that are asked in turn when `model` cannot answer, after its retries: rate limit, 5xx, no "
        "answer, or a key that is refused. A model that failed is left alone for a minute.",
    )
    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://.+$",
        max_length=2048,
        description="Address of an OpenAI-compatible endpoint. Unset: the provider's own.",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Sampling temperature.")
    timeout_seconds: Seconds | None = Field(default=None, description="Time limit of one LLM call, seconds.")
    max_retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="How often one call is tried again inside the runner before a fallback model is asked, or the "
        "attempt fails.",
    )


class Memory(Model):
    """CrewAI's memory. It needs a runner image with the extra `memory`."""

    enabled: bool = Field(
        default=False, description="Whether the crew remembers. `memory` in the definition is stronger."
    )
    size: str = Field(
        default="1Gi",
        max_length=32,
        description="Upper bound of the store, as 1Gi. When an attempt starts and the store is larger, the oldest "
        "quarter of what it holds is removed, again and again until it fits.",
    )
    persistent_volume_claim: ObjectName | None = Field(
        default=None,
        description="Claim of the run's namespace that keeps the memory between runs. Unset: it goes with the Pod "
        "of the attempt.",
    )


class Pod(Model):
    """The runner's Pod. Fields mean what they mean in a Pod spec."""

    image: str | None = Field(
        default=None, min_length=1, max_length=1024, description="Runner image. Unset: the operator's."
    )
    image_pull_policy: str | None = Field(
        default=None, pattern="^(Always|IfNotPresent|Never)$", description="As in a container."
    )
    resources: Document | None = Field(default=None, description="Requests and limits, as in a container.")
    node_selector: dict[str, str] | None = Field(default=None, description="As in a Pod.")
    tolerations: list[Document] | None = Field(default=None, max_length=64, description="As in a Pod.")
    affinity: Document | None = Field(default=None, description="As in a Pod.")
    topology_spread_constraints: list[Document] | None = Field(default=None, max_length=16, description="As in a Pod.")
    volumes: list[Document] | None = Field(default=None, max_length=64, description="More volumes.")
    volume_mounts: list[Document] | None = Field(default=None, max_length=64, description="Where the runner sees them.")
    service_account_name: ObjectName | None = Field(
        default=None, description="Service account of the Pod; its API token is never mounted."
    )
    image_pull_secrets: list[Document] | None = Field(default=None, max_length=16, description="As in a Pod.")
    runtime_class_name: ObjectName | None = Field(default=None, description="As in a Pod.")
    priority_class_name: ObjectName | None = Field(default=None, description="As in a Pod.")
    termination_grace_period_seconds: int = Field(
        default=30, ge=1, le=3600, description="How long the runner has to write its record when stopped."
    )
    labels: dict[str, str] | None = Field(default=None, description="More labels of the Pod.")
    annotations: dict[str, str] | None = Field(default=None, description="More annotations of the Pod.")


class Backoff(Model):
    """The wait before attempt n+1: initialSeconds * factor^(n-1), at most maxSeconds, with jitter."""

    initial_seconds: float = Field(default=1, ge=0, le=86_400, description="First wait, seconds.")
    factor: float = Field(default=2, ge=1, le=100, description="Growth from one wait to the next.")
    max_seconds: float = Field(default=300, ge=0, le=86_400, description="Longest wait, seconds.")


class RetryAction(StrEnum):
    """What a retry rule does."""

    RETRY = "Retry"  # try again, counted as an attempt
    FAIL = "Fail"  # end the run
    IGNORE = "Ignore"  # try again, counted as a disruption


class RetryRule(Model):
    """An exception to the table of reasons."""

    reason: Reason = Field(description="The reason of a failed attempt.")
    action: RetryAction = Field(
        description="Retry: try again. Fail: end the run. Ignore: try again, counted as a disruption."
    )


class Resume(StrEnum):
    """Where the next attempt starts."""

    FROM_CHECKPOINT = "FromCheckpoint"
    FROM_SCRATCH = "FromScratch"


class MemoryGrowth(Model):
    """More memory for the attempt after one that was OOMKilled."""

    memory_factor: float = Field(default=1.5, ge=1, le=10, description="Growth of the memory limit.")
    max_memory: str = Field(max_length=32, description="Upper bound of the limit, as 2Gi.")


class Retry(Model):
    """When a failed attempt is followed by another."""

    max_attempts: int = Field(default=3, ge=1, le=100, description="Attempts, the first one included.")
    max_disruptions: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="How often an attempt that Kubernetes interrupted is made again without being counted.",
    )
    resume: Resume = Field(
        default=Resume.FROM_CHECKPOINT,
        description="Where the next attempt starts. FromCheckpoint: at the first task that no attempt has finished. "
        "FromScratch: at the first task.",
    )
    backoff: Backoff = Field(default=Backoff(), description="The wait between attempts.")
    rules: list[RetryRule] = Field(
        default_factory=list, max_length=64, description="Exceptions to the table of reasons, first match."
    )
    out_of_memory: MemoryGrowth | None = Field(
        default=None,
        description="More memory for the attempt after an OOM kill, if the runner has a memory limit. "
        "Unset: the same again.",
    )


class Budget(Model):
    """What a run may spend over all its attempts."""

    max_cost_usd: Decimal | None = Field(default=None, description="USD, a decimal string.")
    max_tokens: int | None = Field(default=None, ge=1, description="Prompt and completion tokens.")
    max_requests: int | None = Field(default=None, ge=1, description="LLM calls.")


class Price(Model):
    """The price of one model."""

    input_per_million_usd: Decimal = Field(description="USD for a million prompt tokens.")
    output_per_million_usd: Decimal = Field(description="USD for a million completion tokens.")
    cached_input_per_million_usd: Decimal | None = Field(
        default=None, description="USD for a million cached prompt tokens. Unset: the price of prompt tokens."
    )


class CheckpointEncryption(Model):
    """Keys for checkpoints."""

    secret_name: ObjectName = Field(
        description="Secret whose values are Fernet keys, newest first by key name: the first encrypts, all decrypt."
    )


class Settings(Model):
    """What a profile, a Crew and a CrewRun may each say; the run is stronger than the Crew, the Crew than
    the profile."""

    llm: LLM = Field(default_factory=LLM, description="The model for agents that name none.")
    max_rpm: int | None = Field(default=None, ge=1, le=1_000_000, description="LLM requests per minute of a crew.")
    verbose: bool = Field(default=False, description="CrewAI's verbose output, in the runner's log.")
    memory: Memory | None = Field(default=None, description="CrewAI's memory. Unset: what the definition says.")
    cache: bool = Field(default=True, description="Whether CrewAI caches the results of tools.")
    env: list[EnvVar] = Field(
        default_factory=list, max_length=256, description="Environment variables, merged by name."
    )
    env_from: list[Document] = Field(
        default_factory=list,
        max_length=64,
        description="ConfigMaps or Secrets whose keys become variables, as in a container.",
    )
    secrets: list[SecretSource] = Field(
        default_factory=list,
        max_length=64,
        description="Secrets for the runner by reference, merged by name or mountPath.",
    )
    pod: Pod = Field(default=Pod(), description="The runner's Pod.")
    retry: Retry = Field(default_factory=Retry, description="When a failed attempt is followed by another.")
    timeout_seconds: Seconds | None = Field(
        default=None, description="Time limit of the run from its first attempt, seconds. Unset: none."
    )
    attempt_timeout_seconds: Seconds | None = Field(
        default=None, description="Time limit of one attempt from its runner's start, seconds. Unset: none."
    )
    start_deadline_seconds: Seconds = Field(
        default=600,
        description="How long an attempt may wait for its image, its Secrets or a node before the run fails, seconds.",
    )
    report_grace_seconds: Seconds = Field(
        default=300,
        description="How long a runner that has ended waits for the operator to take an output that does not fit "
        "its termination message, seconds. After that the output is truncated.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=315_360_000,
        description="Deletes an ended run after this time. Ignored, with the condition TTLIgnored, while Argo CD, Flux "
        "or Helm tracks the run: they would make it again. Unset: never.",
    )
    node_lost_seconds: Seconds = Field(
        default=300,
        description="How long a runner's node may be unreachable before the attempt is given up and made again, "
        "seconds. A node that is only cut off may still finish the call that its runner is in.",
    )
    budget: Budget | None = Field(
        default=None,
        description="What the run may spend over all its attempts and reruns. An LLM request that could exceed it is "
        "not made, and the run fails as BudgetExceeded; with a larger budget a rerun goes on from there. "
        "Unset: no limit.",
    )
    prices: dict[str, Price] | None = Field(
        default=None,
        max_length=256,
        description="Prices by model that replace those of the price list: for models that it does not know, or "
        "prices of your own.",
    )
    checkpoint_encryption: CheckpointEncryption | None = Field(
        default=None, description="Keys that checkpoints are encrypted with. Unset: they are not encrypted."
    )

"""What a run really runs: operator settings, profile, crew and run merged into one document.

The operator makes it, fixes it by digest when a run is accepted, and sends it with the inputs to the
runner, which mounts both as files (`names.SPEC_FILE`, `names.INPUTS_FILE`).
"""

from pydantic import ConfigDict, Field

from crewrun_api.model import Model
from crewrun_api.settings import Budget, Document, Retry, Settings


class ResolvedRun(Settings):
    """One run's whole specification, every default applied."""

    crew: str = Field(description="Name of the Crew; the run's own name for an inline crew.")
    profile: str | None = Field(default=None, description="Name of the CrewProfile, if there was one.")
    definition: Document | None = Field(
        default=None, description="CrewAI's crew definition. None for a crew that an entrypoint gives."
    )
    entrypoint: str | None = Field(
        default=None, description="`package.module:Name` in the runner's image; None for a definition."
    )
    allow_python: bool = Field(default=False, description="Whether the definition may carry Python.")
    secret_inputs: dict[str, str] = Field(
        default_factory=dict, description="Inputs that Secrets hold: the environment variable of each one's value."
    )
    input_schema: Document | None = Field(
        default=None, description="What the runner checks the inputs against. None: the operator has checked them all."
    )


class AttemptSettings(Model):
    """What the operator decides by while a run goes on: kept on each Job, so that a profile or Crew that
    changes meanwhile changes nothing that runs."""

    model_config = ConfigDict(extra="ignore")  # a newer release may have written more

    retry: Retry = Field(default_factory=Retry)
    timeout_seconds: int | None = None
    attempt_timeout_seconds: int | None = None
    start_deadline_seconds: int = 600
    node_lost_seconds: int = 300
    grace_seconds: int = 30
    ttl_seconds_after_finished: int | None = None
    budget: Budget | None = None

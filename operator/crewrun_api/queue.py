"""The kind `CrewQueue`: how much may run at once, and its status."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from crewrun_api.kinds import AGE, Kind, PrinterColumn
from crewrun_api.model import Model
from crewrun_api.money import MicroUSD
from crewrun_api.run import Condition, StatusModel
from crewrun_api.settings import Decimal

#: A point of priority is as good as having waited this long, so that nobody waits for ever. Seconds.
SECONDS_PER_PRIORITY = 60
BY_CREW = "crew"
BUDGET_RULE = "give maxCostUSD, maxTokens or both"
Count = Annotated[int, Field(ge=0)]


class Ordering(StrEnum):
    """Which of the runs that wait goes first."""

    FIFO = "FIFO"  # the one that has waited longest, priority included
    FAIR_SHARE = "FairShare"  # one of the share that has the fewest running; within it as FIFO


class StopPolicy(StrEnum):
    """Whether a queue is stopped. Kueue's words."""

    NONE = "None"
    HOLD = "Hold"  # admits nothing; what runs goes on
    HOLD_AND_DRAIN = "HoldAndDrain"  # what runs is stopped too, and waits in the queue


class Window(StrEnum):
    """A window of time, in UTC, for which a budget is given."""

    HOUR = "Hour"
    DAY = "Day"
    MONTH = "Month"


class QueueBudget(Model):
    """What the runs of a queue may spend in each window together."""

    window: Window = Field(description="Hour, Day or Month, each from its beginning in UTC.")
    max_cost_usd: Decimal | None = Field(default=None, description="USD, a decimal string.")
    max_tokens: int | None = Field(default=None, ge=1, description="Prompt and completion tokens.")

    @model_validator(mode="after")
    def _some_limit(self) -> "QueueBudget":
        if self.max_cost_usd is None and self.max_tokens is None:
            raise ValueError(BUDGET_RULE)
        return self


class QueueSpec(Model, Kind):
    """How many runs of a namespace may run at once, which of them goes first, and what they may spend together."""

    kind: ClassVar[str] = "CrewQueue"
    plural: ClassVar[str] = "crewqueues"
    short_names: ClassVar[tuple[str, ...]] = ("cq",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(
            name="Default", type="boolean", json_path=".spec.default", description="The namespace's default."
        ),
        PrinterColumn(name="Pending", type="integer", json_path=".status.pending", description="Runs that wait."),
        PrinterColumn(name="Running", type="integer", json_path=".status.running", description="Runs with a place."),
        PrinterColumn(name="Places", type="integer", json_path=".spec.maxConcurrentRuns", description="At most."),
        PrinterColumn(name="Spent", type="string", json_path=".status.spentUSD", description="USD in this window."),
        PrinterColumn(
            name="Active",
            type="string",
            json_path=".status.conditions[?(@.type=='Active')].reason",
            description="Whether it admits runs.",
        ),
        AGE,
    )

    default: bool = Field(
        default=False,
        description="Used by every CrewRun of the namespace that names no queue. Of several defaults the newest "
        "counts.",
    )
    max_concurrent_runs: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Places: attempts that may be open at once. Unset: no bound."
    )
    ordering: Ordering = Field(
        default=Ordering.FIFO,
        description="FIFO: who waits longest goes first, a point of priority counting as a minute. FairShare: one of "
        "the share with the fewest running goes first; within a share as FIFO.",
    )
    fair_share_by: str = Field(
        default=BY_CREW,
        min_length=1,
        max_length=317,
        description="With FairShare, what makes a share: `crew`, or the key of a label of the runs. Runs without it "
        "are one share.",
    )
    budget: QueueBudget | None = Field(
        default=None,
        description="What its runs may spend in a window. When it is spent no attempt is admitted until the next "
        "window; what runs goes on.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10_000_000, description="LLM requests of all its runs together."
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=10_000_000_000, description="Prompt and completion tokens of all its runs together."
    )
    stop_policy: StopPolicy = Field(
        default=StopPolicy.NONE,
        description="Hold: nothing is admitted, what runs goes on. HoldAndDrain: what runs is stopped, and waits for "
        "the queue; it goes on at its first unfinished task.",
    )


class Sums(StatusModel):
    """What runs of a queue have done."""

    admitted: Count = Field(default=0, description="Attempts that were admitted.")
    spent_usd: MicroUSD = Field(default=0, description="USD spent in the window.")
    spent_tokens: Count = Field(default=0, description="Tokens spent in the window.")


class QueueStatus(Sums):
    """The queue as of updateTime. It is written when something has changed, at most every five seconds, and while
    runs wait at least once a minute."""

    observed_generation: int = Field(default=-1, description="The generation of the spec that it works by.")
    pending: Count = Field(default=0, description="Runs that wait for a place.")
    running: Count = Field(default=0, description="Runs that hold a place.")
    oldest_wait_seconds: Count = Field(default=0, description="How long the run that waits longest had waited then.")
    window_start: str | None = Field(default=None, description="When the window of the budget began.")
    deleted: Sums | None = Field(
        default=None, description="The part of these sums that runs had which are deleted; the runs say the rest."
    )
    update_time: str | None = Field(default=None, description="When this was so.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=8,
        description="Active: whether it admits runs, and why not.",
        json_schema_extra={"x-map-key": "type"},
    )

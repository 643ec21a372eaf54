"""What an attempt may still spend, as the operator tells it to a runner in `names.ENV_ALLOWANCE`."""

from pydantic import ConfigDict, Field

from crewrun_api.model import Model
from crewrun_api.money import MicroUSD
from crewrun_api.outcome import MOST_COUNT, Count, Usage
from crewrun_api.settings import Budget


class Spent(Model):
    """What earlier attempts used, and what they can have used where nobody knows."""

    model_config = ConfigDict(extra="ignore")  # operator and runner may be of neighbouring releases

    requests: Count = 0
    tokens: Count = 0
    cost_usd: MicroUSD = 0

    @classmethod
    def of(cls, usage: Usage) -> "Spent":
        """Never beyond what can be told, whatever a runner said."""
        return cls(
            requests=min(usage.requests + usage.reserved_requests, MOST_COUNT),
            tokens=min(usage.total_tokens + usage.reserved_tokens, MOST_COUNT),
            cost_usd=min(usage.cost_usd + usage.reserved_cost_usd, MOST_COUNT),
        )


class Allowance(Model):
    """The budget of a run, and what is gone of it. Not a part of what runs: a larger budget must not make a new
    crew of the same one, whose checkpoint could not be used."""

    model_config = ConfigDict(extra="ignore")

    budget: Budget = Field(default=Budget())
    spent: Spent = Field(default=Spent())

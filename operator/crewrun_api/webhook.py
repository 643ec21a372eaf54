"""Webhooks: what a receiver is sent, what the Pod that sends it is given, and what that Pod leaves behind.

The body is a contract with receivers: fields are added to it, none is renamed. A receiver may be told twice of
one end, with the same header `X-CrewRun-Delivery`.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from crewrun_api.model import Model
from crewrun_api.outcome import Count, Usage
from crewrun_api.reasons import OutputFormat, Phase, WebhookOutcome

DELIVERY_HEADER = "X-CrewRun-Delivery"
USER_AGENT = "crewrun"


class WebhookEvent(StrEnum):
    """What a webhook is told of."""

    RUN_SUCCEEDED = "RunSucceeded"
    RUN_FAILED = "RunFailed"


class RunIdentity(Model):
    """Which run it is."""

    name: str
    namespace: str
    uid: str


class WebhookOutput(Model):
    """The crew's result as the status shows it."""

    value: str
    format: OutputFormat
    truncated: bool
    config_map: str | None = None


class WebhookBody(Model):
    """The JSON that is posted, from the status of the run."""

    event: WebhookEvent
    run: RunIdentity
    crew: str | None = None
    phase: Phase
    reason: str
    message: str
    start_time: str | None = None
    completion_time: str | None = None
    attempts: int
    usage: Usage | None = None
    output: WebhookOutput | None = None


class Delivery(Model):
    """What the Pod is given. Values of headers, and an address that is a secret, come as variables."""

    model_config = ConfigDict(extra="ignore")  # operator and runner may be of neighbouring releases

    url: str | None = None
    headers: list[str] = Field(default_factory=list)
    id: str
    body: dict[str, Any]


class WebhookRecord(Model):
    """What the Pod says of the end: the JSON in its termination message. While it goes on it says nothing."""

    model_config = ConfigDict(extra="ignore")

    outcome: WebhookOutcome
    status_code: Annotated[int, Field(ge=100, le=999)] | None = None
    tries: Count = 0
    message: str = Field(default="", max_length=1000)


def parse_webhook_record(message: str) -> WebhookRecord | None:
    """The record in a termination message; None when there is none that can be read."""
    try:
        record = WebhookRecord.model_validate_json(message)
    except ValidationError:
        return None
    return record if record.outcome is not WebhookOutcome.PENDING else None

"""Reports: what a runner tells the operator while it runs, and what it is answered.

`POST /v1/runs/{namespace}/{name}/attempts/{n}` with a `Report`; the answer is an `Answer`. A report is a
snapshot with a sequence number, so it may be sent again, and an older one is ignored. What comes with a
checkpoint or an outcome is answered 200 only when it is stored.
"""

from base64 import b64decode, b64encode
from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from crewrun_api.model import Model
from crewrun_api.outcome import RECORD_LIMIT_BYTES, Count, OutcomeRecord, Sighting, without_previews, without_tasks
from crewrun_api.reasons import Reason

REPORT_VERSION = 1
#: The largest body that is read: an output, its files and a checkpoint, each as large as a ConfigMap holds.
REPORT_LIMIT_BYTES = 4 * 1024 * 1024
#: What the values of one ConfigMap hold together; a kibibyte stays free for its keys and annotations.
STORED_LIMIT_BYTES = 1024 * 1024 - 1024
#: The time between two reports, seconds, unless the answer says otherwise.
INTERVAL_SECONDS = 2.0

Base64 = Annotated[str, StringConstraints(max_length=REPORT_LIMIT_BYTES)]


class Snapshot(Sighting):
    """Where an attempt stands. It goes with each report, and stands in the termination message while the runner
    runs: of a runner that is killed, kubelet still has the last one."""

    sequence: int = Field(ge=1, description="Counts up; of two snapshots the higher one is the newer.")


class Message(Model):
    """A part of a report or an answer. Runner and operator may be of neighbouring releases, so what the other one
    has added is not this one's to refuse."""

    model_config = ConfigDict(extra="ignore")


class Upload(Message):
    """Bytes on their way to a ConfigMap."""

    data: Base64 = Field(description="base64.")
    sha256: str = Field(description="Digest of the bytes.")

    @classmethod
    def of(cls, data: bytes) -> "Upload":
        return cls(data=b64encode(data).decode(), sha256=sha256(data).hexdigest())

    def content(self) -> bytes:
        """The bytes. Raises ValueError when they are not what the digest says."""
        data = b64decode(self.data, validate=True)
        if sha256(data).hexdigest() != self.sha256:
            raise ValueError("the data does not have its digest")
        return data


class OutputFile(Message):
    """A file that a task wrote."""

    name: str = Field(min_length=1, max_length=1024, description="Its path, relative to the runner's home.")
    bytes: Count = Field(description="Size of the whole file.")
    upload: Upload | None = Field(default=None, description="Its content; absent when it is too large to be kept.")


class Lease(Message):
    """A runner's part of the rate of its queue. Without one that holds, it makes no request."""

    requests_per_minute: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Absent: no bound.")
    tokens_per_minute: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Absent: no bound.")
    seconds: float = Field(
        ge=0, allow_inf_nan=False, description="How long it holds, from when the report was sent that it answers."
    )


class Paced(Lease):
    """The lease that a runner goes by, with the seconds that are left of it, and how it gets on with that."""

    requests_waited: bool = Field(default=False, description="Whether one had to wait for its turn, since the last.")
    tokens_waited: bool = Field(default=False, description="The same, for tokens.")
    requests_owed: float = Field(default=0, ge=0, allow_inf_nan=False, description="Made, and not yet paid off.")
    tokens_owed: float = Field(default=0, ge=0, allow_inf_nan=False, description="The same, tokens.")


class Report(Message):
    """One POST of a runner."""

    version: int = REPORT_VERSION
    snapshot: Snapshot
    checkpoint: Upload | None = Field(default=None, description="The finished tasks; only when there is a new one.")
    outcome: OutcomeRecord | None = Field(default=None, description="The end, with the whole output.")
    files: list[OutputFile] = Field(default_factory=list, max_length=256, description="With an outcome: its files.")
    paced: Paced | None = Field(default=None, description="Only if its queue has a rate.")


class Action(StrEnum):
    """What the runner is to do."""

    CONTINUE = "Continue"
    STOP = "Stop"  # no further LLM call; write the record and the checkpoint and end


class Answer(Message):
    """The operator's word. It comes with 200, and with 404 and 409 too."""

    action: Action
    reason: Reason | None = Field(default=None, description="With Stop: why.")
    message: str = Field(default="", description="The same, for people.")
    interval_seconds: float = Field(default=INTERVAL_SECONDS, gt=0, description="When to report next.")
    lease: Lease | None = Field(default=None, description="With 200 and Continue. Absent: no rate bounds this run.")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON that fits a termination message: previews go first, then tasks, then models."""
    for lean in (snapshot, without_previews(snapshot), without_tasks(snapshot), _without_models(snapshot)):
        data = lean.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True).encode()
        if len(data) <= RECORD_LIMIT_BYTES:
            return data
    raise ValueError(f"a snapshot cannot be brought under {RECORD_LIMIT_BYTES} bytes")


def parse_snapshot(message: str) -> Snapshot | None:
    """The snapshot in a termination message; None when there is none that can be read."""
    try:
        return Snapshot.model_validate_json(message)
    except ValidationError:
        return None


def _without_models(snapshot: Snapshot) -> Snapshot:
    usage = snapshot.usage.model_copy(update={"by_model": []})
    return without_tasks(snapshot).model_copy(update={"usage": usage, "checkpoint_refused": "", "warning": ""})

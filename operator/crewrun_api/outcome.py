"""The outcome record: the one thing that may say how an attempt ended.

The runner writes it as JSON to the container's termination message; the operator believes it only when
run, attempt and Pod are its own. kubelet keeps the last 4,096 bytes of that message, so the record is
encoded into at most 4,000: previews go for an output that fits without them; else the output is cut, and then the
previews, the tasks and the models go.
"""

import hashlib
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, ValidationError, field_validator

from crewrun_api.model import Model
from crewrun_api.money import MicroUSD, Priced
from crewrun_api.reasons import ExitCode, Outcome, OutputFormat, Reason, TaskState

RECORD_LIMIT_BYTES = 4000
RECORD_VERSION = 1
#: Bounded, so that a record full of nonsense still makes a status that the API server takes.
MOST_COUNT = 10**15
Count = Annotated[int, Field(ge=0, le=MOST_COUNT)]
_MESSAGE_LIMIT_BYTES = 1000
_LEAST_MESSAGE_BYTES = 200
_PREVIEW_LIMIT_BYTES = 80


class ModelUsage(Priced):
    """What one model was asked and answered, each answered request counted once."""

    model_config = ConfigDict(extra="ignore")  # as in Usage

    model: str = Field(description="The model, as the crew or profile names it.")
    requests: Count = Field(default=0, description="LLM requests that it answered.")
    prompt_tokens: Count = Field(default=0, description="Tokens of prompts, cached ones included.")
    cached_prompt_tokens: Count = Field(default=0, description="Prompt tokens read from a cache.")
    completion_tokens: Count = Field(default=0, description="Tokens of answers, reasoning included.")
    reasoning_tokens: Count = Field(default=0, description="Tokens of answers that were spent on reasoning.")
    price_key: str | None = Field(
        default=None,
        max_length=256,
        description="The entry of the price list; `spec.prices` for one of the run's own.",
    )
    price_date: str | None = Field(default=None, max_length=32, description="Date of the price list.")


class Usage(Priced):
    """LLM requests and tokens, each answered request counted once, summed over attempts on a run. A request that was
    answered and billed counts, also when nobody could use the answer.

    It stands in statuses too: figures that a newer release added there are not this one's to refuse."""

    model_config = ConfigDict(extra="ignore")

    requests: Count = Field(default=0, description="LLM requests that were answered.")
    prompt_tokens: Count = Field(default=0, description="Tokens of prompts, cached ones included.")
    cached_prompt_tokens: Count = Field(default=0, description="Prompt tokens read from a cache.")
    completion_tokens: Count = Field(default=0, description="Tokens of answers, reasoning included.")
    reasoning_tokens: Count = Field(default=0, description="Tokens of answers that were spent on reasoning.")
    total_tokens: Count = Field(default=0, description="Prompt and completion tokens together.")
    incomplete: bool = Field(
        default=False,
        description="True when an LLM request got no answer that says what it used, because its runner was lost or the "
        "connection was: it may be billed, and is not in these figures.",
    )
    reserved_requests: Count = Field(
        default=0, description="With incomplete: how many such requests there can have been; 0 when nobody can say."
    )
    reserved_tokens: Count = Field(
        default=0, description="With incomplete: tokens that they can have used at the most; 0 when nobody can say."
    )
    reserved_cost_usd: MicroUSD = Field(
        default=0,
        description="With incomplete: what they can have cost at the most, USD with six decimal places, as far as "
        "prices are known.",
    )
    by_model: list[ModelUsage] = Field(default_factory=list, description="The same, by model.")


class TaskRecord(Priced):
    """One task of the crew as the runner saw it."""

    name: str
    agent: str = ""
    state: TaskState
    start_time: str | None = None
    completion_time: str | None = None
    total_tokens: Count = Field(default=0)
    models: list[str] = Field(default_factory=list, description="The models that answered for it.")
    preview: str = ""
    attempt: int | None = Field(default=None, ge=1, description="The earlier attempt that finished it, if one did.")


class OutputRecord(Model):
    """The crew's result. `bytes` and `sha256` are of the whole, `value` may be cut."""

    value: str
    format: OutputFormat = OutputFormat.TEXT
    bytes: Count
    sha256: str
    truncated: bool = False

    @classmethod
    def of(cls, value: str, output_format: OutputFormat = OutputFormat.TEXT) -> "OutputRecord":
        """The record of a whole result."""
        data = value.encode()
        return cls(value=value, format=output_format, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Sighting(Model):
    """What the runner of one execution has seen so far."""

    model_config = ConfigDict(extra="ignore")  # what a newer runner has added

    run_uid: str
    attempt: int = Field(ge=1)
    pod_uid: str
    usage: Usage = Field(default_factory=Usage)
    tasks: list[TaskRecord] = Field(default_factory=list)
    tasks_total: Count = Field(default=0)
    tasks_succeeded: Count = Field(default=0)
    resumed_from_task: str | None = Field(default=None, description="The first task that no earlier attempt finished.")
    checkpoint_refused: str = Field(default="", description="Why a checkpoint that was there was not used.")
    warning: str = Field(default="", max_length=1000, description="What somebody should look at while it goes on.")


_Seen = TypeVar("_Seen", bound=Sighting)


class OutcomeRecord(Sighting):
    """What the runner says about the end of its attempt."""

    model_config = ConfigDict(extra="forbid")  # its version says what stands in it

    version: int = RECORD_VERSION
    outcome: Outcome
    reason: Reason
    message: str = ""
    exit_code: ExitCode
    start_time: str
    completion_time: str
    retry_after_seconds: float | None = Field(default=None, ge=0)
    output: OutputRecord | None = None

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != RECORD_VERSION:
            raise ValueError(f"unknown record version {version}, this release reads {RECORD_VERSION}")
        return version


def cut(text: str, limit: int) -> str:
    """The longest beginning of `text` that fits `limit` bytes of UTF-8, never half a character."""
    return text.encode()[: max(limit, 0)].decode(errors="ignore")


def parse(message: str) -> OutcomeRecord | None:
    """The record in a termination message; None when there is none that can be read."""
    try:
        return OutcomeRecord.model_validate_json(message)
    except ValidationError:
        return None


def encode(record: OutcomeRecord) -> bytes:
    """The record as JSON of at most `RECORD_LIMIT_BYTES`; an output that had to be cut says so."""
    record = record.model_copy(update={"message": cut(record.message, _MESSAGE_LIMIT_BYTES)})
    whole = _serialise(without_previews(record))  # a preview is not worth the end of an output
    if record.output is not None and len(whole) <= RECORD_LIMIT_BYTES < len(_serialise(record)):
        return whole
    for lean in (record, without_previews(record), without_tasks(record), _without_models(record), _terse(record)):
        if data := _with_fitting_output(lean):
            return data
    raise ValueError(f"an outcome record cannot be brought under {RECORD_LIMIT_BYTES} bytes")


def _serialise(record: OutcomeRecord) -> bytes:
    rest = record.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True, exclude={"version"})
    return f'{{"version":{record.version},{rest[1:]}'.encode()  # always there, for readers whose default is another


def _with_fitting_output(record: OutcomeRecord) -> bytes | None:
    """The record with as much of its output as fits; None when it is too large without any."""
    data = _serialise(record)
    if record.output is None or len(data) <= RECORD_LIMIT_BYTES:
        return data if len(data) <= RECORD_LIMIT_BYTES else None
    best, low, high = None, 0, len(record.output.value)
    while low <= high:  # JSON escapes make the size of a cut hard to foresee, so it is searched for
        middle = (low + high) // 2
        output = record.output.model_copy(update={"value": record.output.value[:middle], "truncated": True})
        data = _serialise(record.model_copy(update={"output": output}))
        if len(data) <= RECORD_LIMIT_BYTES:
            best, low = data, middle + 1
        else:
            high = middle - 1
    return best


def without_previews(seen: _Seen) -> _Seen:
    """The same without the beginnings of the tasks' outputs."""
    return seen.model_copy(update={"tasks": [task.model_copy(update={"preview": ""}) for task in seen.tasks]})


def without_tasks(seen: _Seen) -> _Seen:
    """The same without its tasks; their number stays."""
    return seen.model_copy(update={"tasks": []})


def _without_models(record: OutcomeRecord) -> OutcomeRecord:
    usage = record.usage.model_copy(update={"by_model": []})
    return without_tasks(record).model_copy(update={"usage": usage})


def _terse(record: OutcomeRecord) -> OutcomeRecord:
    """A message of control characters is six times as long in JSON."""
    message = cut(record.message, _LEAST_MESSAGE_BYTES)
    return _without_models(record).model_copy(update={"message": message, "checkpoint_refused": "", "warning": ""})


def preview(text: str) -> str:
    """One short line of a task's output, for a table."""
    return cut(" ".join(text.split()), _PREVIEW_LIMIT_BYTES)

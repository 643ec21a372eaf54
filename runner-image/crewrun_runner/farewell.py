"""The last report of an attempt, and how long the end may take. Purely computational."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crewrun_api.outcome import OutcomeRecord, OutputRecord, cut, parse
from crewrun_api.reasons import Outcome
from crewrun_api.report import STORED_LIMIT_BYTES, OutputFile
from crewrun_api.resolved import ResolvedRun

_MOST_PATIENCE_SECONDS = 10.0
#: Of the grace period: as much again may go to the last report, and the rest is for what cannot be foreseen.
_PATIENCE_SHARE = 0.4
#: For a report that says nothing which the termination message does not say.
_ONE_TRY_SECONDS = 2.0
#: As many as a report may list.
_MOST_FILES = 256


@dataclass(frozen=True)
class Limits:
    """Seconds that the parts of an end may take."""

    patience: float = _MOST_PATIENCE_SECONDS  # for LLM calls in flight: the provider bills them
    report_grace: float = 300.0  # for an output that does not fit the termination message

    @classmethod
    def of(cls, spec: ResolvedRun) -> "Limits":
        share = _PATIENCE_SHARE * spec.pod.termination_grace_period_seconds
        return cls(min(_MOST_PATIENCE_SECONDS, share), float(spec.report_grace_seconds))


@dataclass(frozen=True)
class Farewell:
    """The outcome as it is reported, and how much of the end waits for that."""

    outcome: OutcomeRecord
    files: list[OutputFile]
    seconds: float
    again: bool


def farewell(
    record: OutcomeRecord, message: bytes, files: Sequence[OutputFile], pending: bool, limits: Limits
) -> Farewell:
    """`message` is the record as it fits the termination message, `pending` whether a checkpoint waits too."""
    told = parse(message.decode())
    outcome = record.model_copy(update={"message": told.message if told else ""})
    output, kept = fitting(record.output, files)
    last = Farewell(outcome.model_copy(update={"output": output}), kept, _ONE_TRY_SECONDS, again=False)
    if record.outcome is Outcome.SUCCEEDED:
        whole = told is not None and told.output == record.output and not files
        return last if whole else replace(last, seconds=limits.report_grace, again=True)
    if not pending:
        return last
    most = limits.patience if record.outcome is Outcome.STOPPED else _MOST_PATIENCE_SECONDS
    return replace(last, seconds=min(limits.report_grace, most), again=True)


def fitting(
    output: OutputRecord | None, files: Sequence[OutputFile], limit: int = STORED_LIMIT_BYTES
) -> tuple[OutputRecord | None, list[OutputFile]]:
    """What can be kept together: the largest files lose their content first, then the output its end."""
    kept = list(files[:_MOST_FILES])
    size = len(output.value.encode()) if output else 0
    room = limit - size
    total = sum(file.bytes for file in kept if file.upload)
    for index in sorted(range(len(kept)), key=lambda index: -kept[index].bytes):
        if total <= max(room, 0):
            break
        if kept[index].upload:
            total -= kept[index].bytes
            kept[index] = kept[index].model_copy(update={"upload": None})
    if output and room < 0:
        output = output.model_copy(update={"value": cut(output.value, limit), "truncated": True})
    return output, kept

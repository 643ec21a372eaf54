"""The status of a run: phase and conditions that always say the same. Purely computational."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from crewrun_api.outcome import MOST_COUNT, ModelUsage, Sighting, TaskRecord, Usage, cut
from crewrun_api.reasons import ConditionType, Phase, TaskState
from crewrun_api.run import AttemptStatus, Condition, RunStatus, TaskStatus, WindowStatus
from crewrun_operator.definition import TaskOutline
from crewrun_operator.times import stamp

_KEPT_ATTEMPTS = 10
_KEPT_TASKS = 50
_KEPT_MODELS = 16
_MESSAGE_LIMIT_BYTES = 1000
_STATUS_LIMIT_BYTES = 10_000
_SHORT_MESSAGE_BYTES = 120
_SHORTEST_MESSAGE_BYTES = 80
_VERDICTS = {Phase.SUCCEEDED: "True", Phase.FAILED: "False", Phase.CANCELLED: "False"}


def settle(status: RunStatus, phase: Phase, reason: str, message: str, now: datetime, generation: int) -> RunStatus:
    """The status in this phase, with the conditions that follow from it."""
    update: dict[str, Any] = {"phase": phase, "observed_generation": generation}
    if phase.ended:
        update["next_attempt_time"] = None
        update["completion_time"] = status.completion_time or stamp(now)
    else:
        update["completion_time"] = None
    settled = status.model_copy(update=update)
    ended, failed = phase.ended, phase is Phase.FAILED
    for type_, value in (
        (ConditionType.SUCCEEDED, _VERDICTS.get(phase, "Unknown")),
        (ConditionType.RECONCILING, "False" if ended or phase is Phase.SUSPENDED else "True"),
        (ConditionType.STALLED, "True" if failed else "False"),
    ):
        settled = with_condition(settled, type_, value, reason, message, now, generation)
    return settled


def with_condition(
    status: RunStatus,
    type_: ConditionType,
    value: str,
    reason: str,
    message: str,
    now: datetime,
    generation: int,
) -> RunStatus:
    """The status with this condition; its transition time moves only when its value changes."""
    old = condition(status, type_)
    new = Condition(
        type=type_.value,
        status=value,
        reason=reason,
        message=cut(message, _MESSAGE_LIMIT_BYTES),
        last_transition_time=old.last_transition_time if old and old.status == value else stamp(now),
        observed_generation=generation,
    )
    if old is None:
        return status.model_copy(update={"conditions": [*status.conditions, new]})
    conditions = [new if each.type == type_.value else each for each in status.conditions]
    return status.model_copy(update={"conditions": conditions})


def without_condition(status: RunStatus, type_: ConditionType) -> RunStatus:
    """The status without the condition of this type."""
    return status.model_copy(update={"conditions": [each for each in status.conditions if each.type != type_.value]})


def condition(status: RunStatus, type_: ConditionType) -> Condition | None:
    """The condition of this type, if the status has one."""
    return next((each for each in status.conditions if each.type == type_.value), None)


def with_attempt(status: RunStatus, attempt: AttemptStatus) -> RunStatus:
    """The status with this attempt added, or put in place of the one with its number."""
    if attempt.message:
        attempt = attempt.model_copy(update={"message": cut(attempt.message, _MESSAGE_LIMIT_BYTES)})
    others = [each for each in status.attempts if each.number != attempt.number]
    attempts = sorted([*others, attempt], key=lambda each: each.number)[-_KEPT_ATTEMPTS:]
    return status.model_copy(update={"attempts": attempts, "attempt_count": max(status.attempt_count, attempt.number)})


def with_tasks(status: RunStatus, tasks: list[TaskOutline]) -> RunStatus:
    """The status of a run whose tasks are known and not begun. Those of an entrypoint are not: nothing is said of
    them until its runner does."""
    if not tasks:
        return status
    return status.model_copy(update={"task_count": len(tasks), "progress": f"0/{len(tasks)}"})


def with_sighting(status: RunStatus, seen: Sighting, *, over: bool) -> RunStatus:
    """The status with what a runner saw of its tasks. When it is over, no task runs any more."""
    update: dict[str, Any] = {}
    tasks = [_task(task, seen.attempt) for task in seen.tasks]
    tasks = tasks[:_KEPT_TASKS] or status.tasks
    if over:
        tasks = [
            task.model_copy(update={"state": TaskState.PENDING}) if task.state is TaskState.RUNNING else task
            for task in tasks
        ]
    total = seen.tasks_total or status.task_count
    done = seen.tasks_succeeded or sum(task.state is TaskState.SUCCEEDED for task in seen.tasks)
    if total:
        update = {"task_count": total, "progress": f"{done}/{total}"}
    return status.model_copy(update={**update, "tasks": tasks})


def _task(task: TaskRecord, attempt: int) -> TaskStatus:
    fields = {**task.model_dump(), "attempt": task.attempt or attempt, "models": task.models[:_KEPT_MODELS] or None}
    return TaskStatus(**fields)


def with_usage(status: RunStatus, attempt: int, usage: Usage) -> RunStatus:
    """The status with what this attempt has used so far, in place of what it had used when last seen."""
    if status.usage is None and usage == Usage():
        return status
    attempts, total = list(status.attempts), status.usage or Usage()
    for index, each in enumerate(attempts):
        if each.number == attempt:
            total = _replaced(total, each.usage or Usage(), usage)
            attempts[index] = each.model_copy(update={"usage": usage})
    return status.model_copy(update={"attempts": attempts, "usage": total})


def with_window(status: RunStatus, before: Usage | None, start: str) -> RunStatus:
    """The status with what was spent since then counted in the window that began at `start`."""
    was, now = before or Usage(), status.usage or Usage()
    tokens, micro = now.total_tokens - was.total_tokens, now.cost_usd - was.cost_usd
    if tokens <= 0 and micro <= 0:
        return status
    old = status.window if status.window and status.window.start == start else WindowStatus(start=start)
    update = {"total_tokens": old.total_tokens + max(0, tokens), "cost_usd": old.cost_usd + max(0, micro)}
    return status.model_copy(update={"window": old.model_copy(update=update)})


def so_far(usage: Usage) -> Usage:
    """What a runner has used that goes on: a call that is open now is no gap in the figures."""
    return usage.model_copy(
        update={"incomplete": False, "reserved_requests": 0, "reserved_tokens": 0, "reserved_cost_usd": 0}
    )


def _replaced(total: Usage, old: Usage, new: Usage) -> Usage:
    models = {each.model: each for each in total.by_model}
    for sign, part in ((-1, old), (1, new)):
        for each in part.by_model:
            known = models.get(each.model, ModelUsage(model=each.model))
            price = each if each.price_key else known
            told = {"price_key": price.price_key, "price_date": price.price_date}
            models[each.model] = known.model_copy(update={**_added(known, each, sign, _MODEL_COUNTS), **told})
    total = total.model_copy(update=_added(total, old, -1, _COUNTS))
    return total.model_copy(
        update={
            **_added(total, new, 1, _COUNTS),
            "incomplete": total.incomplete or new.incomplete,
            "by_model": [each for each in models.values() if any(getattr(each, count) for count in _MODEL_COUNTS)],
        }
    )


_MODEL_COUNTS = (
    "requests",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
)
_COUNTS = (*_MODEL_COUNTS, "total_tokens", "reserved_requests", "reserved_tokens", "reserved_cost_usd")


def _added(one: object, other: object, sign: int, fields: Iterable[str]) -> dict[str, int]:
    """Never below zero nor beyond what a status may say, whatever somebody edited in it."""
    sums = {field: getattr(one, field) + sign * getattr(other, field) for field in fields}
    return {field: min(max(0, count), MOST_COUNT) for field, count in sums.items()}


def bounded(status: RunStatus) -> RunStatus:
    """The status with no more words than fit `_STATUS_LIMIT_BYTES`: those of earlier attempts go first. What
    cannot be had elsewhere (output, figures, reasons, the newest attempt) stays, even if that is too much."""
    for shorten in (_short_attempts, _without_previews, _short_conditions):
        if len(status.model_dump_json(by_alias=True, exclude_none=True)) <= _STATUS_LIMIT_BYTES:
            break
        status = shorten(status)
    return status


def _short_attempts(status: RunStatus) -> RunStatus:
    earlier = [
        attempt.model_copy(
            update={
                "message": cut(attempt.message, _SHORTEST_MESSAGE_BYTES) if attempt.message else None,
                **dict.fromkeys(("pod", "pod_uid", "running_time", "usage", "warning")),  # the sum of usage stays
            }
        )
        for attempt in status.attempts[:-1]
    ]
    return status.model_copy(update={"attempts": [*earlier, *status.attempts[-1:]]})


def _without_previews(status: RunStatus) -> RunStatus:
    shorter = {"preview": "", "models": None}
    return status.model_copy(update={"tasks": [task.model_copy(update=shorter) for task in status.tasks]})


def _short_conditions(status: RunStatus) -> RunStatus:
    conditions = [
        each.model_copy(update={"message": cut(each.message, _SHORT_MESSAGE_BYTES)}) for each in status.conditions
    ]
    return status.model_copy(update={"conditions": conditions})


def as_document(status: RunStatus) -> dict[str, Any]:
    """The status as it stands on the resource."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `new` of `old`; empty when they are equal."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key in old and isinstance(old[key], dict) and isinstance(value, dict):
            if inner := merge_patch(old[key], value):
                patch[key] = inner
        elif key not in old or old[key] != value:
            patch[key] = value
    return patch

"""The status of a CrewQueue. Purely computational."""

from datetime import datetime, timedelta
from typing import Any

from crewrun_api.queue import QueueStatus, Sums
from crewrun_api.run import Condition
from crewrun_operator.queue_object import QueueObject
from crewrun_operator.queue_state import Hold, Queue
from crewrun_operator.times import parse, stamp

#: Changes are told at most this often, and how long runs wait at least this often, while some do.
_EVERY, _WAITS_TOLD = timedelta(seconds=5), timedelta(minutes=1)
_ACTIVE = "Active"


def queue_status(queue: Queue, now: datetime) -> QueueStatus | None:
    """The status that is to be written now; None when the one that is there says enough."""
    found = queue.object
    if found is None:
        return None
    told = found.status
    active = _active(queue, found, now)
    total, deleted = queue.sums(now)
    status = QueueStatus(
        **total.model_dump(),
        observed_generation=found.generation,
        pending=queue.pending,
        running=queue.running,
        oldest_wait_seconds=int(queue.oldest_wait_seconds(now)),
        window_start=queue.window(now) or None,
        deleted=deleted if deleted != Sums() else None,
        update_time=stamp(now),
        conditions=[active],
    )
    age = now - parse(told.update_time) if told.update_time else None
    if age is None or (_what(status) != _what(told) and (age >= _EVERY or _verdict(status) != _verdict(told))):
        return status
    return status if queue.pending and age >= _WAITS_TOLD else None


def _what(status: QueueStatus) -> dict[str, Any]:
    """What is told when it changes; of time alone it is not."""
    return status.model_dump(exclude={"update_time", "oldest_wait_seconds"})


def _verdict(status: QueueStatus) -> list[tuple[str, str]]:
    return [(each.status, each.reason) for each in status.conditions]


def _active(queue: Queue, found: QueueObject, now: datetime) -> Condition:
    value, reason, message = _says(queue, found)
    old = next((each for each in found.status.conditions if each.type == _ACTIVE), None)
    return Condition(
        type=_ACTIVE,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=old.last_transition_time if old and old.status == value else stamp(now),
        observed_generation=found.generation,
    )


def _says(queue: Queue, found: QueueObject) -> tuple[str, str, str]:
    match queue.hold:
        case Hold.INVALID:
            return "False", "InvalidSpec", found.problem
        case Hold.STOPPED:
            policy = found.spec.stop_policy if found.spec else ""
            return "False", "Stopped", f"it admits nothing (spec.stopPolicy: {policy})"
        case Hold.BUDGET_SPENT:
            return "False", "BudgetSpent", "the budget of this window is spent (spec.budget)"
    return "True", "Ready", "it admits runs"

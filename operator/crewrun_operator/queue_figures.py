"""What the gauges of queues say. Purely computational."""

from collections.abc import Iterator
from datetime import datetime

from crewrun_api.money import MICRO
from crewrun_operator import families
from crewrun_operator.queue_state import Hold, Queue

#: A queue without a free place is at work.
_ACTIVE = (None, Hold.FULL)


def queue_figures(queue: Queue, now: datetime) -> Iterator[tuple[str, float]]:
    """The metrics of one queue with their values; those are missing that its spec gives no reason for."""
    yield families.QUEUE_PENDING, queue.pending
    yield families.QUEUE_RUNNING, queue.running
    yield families.QUEUE_OLDEST, queue.oldest_wait_seconds(now)
    yield families.QUEUE_ACTIVE, queue.hold in _ACTIVE
    if queue.spec and queue.spec.max_concurrent_runs is not None:
        yield families.QUEUE_MOST, queue.spec.max_concurrent_runs
    cap = queue.object.cap if queue.object else None
    if cap is None:
        return
    total, _ = queue.sums(now)
    yield families.QUEUE_SPENT_USD, total.spent_usd / MICRO
    yield families.QUEUE_SPENT_TOKENS, total.spent_tokens
    if cap.micro_usd is not None:
        yield families.QUEUE_BUDGET_USD, cap.micro_usd / MICRO
    if cap.tokens is not None:
        yield families.QUEUE_BUDGET_TOKENS, cap.tokens

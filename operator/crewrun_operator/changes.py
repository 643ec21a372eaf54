"""What a new version of a run adds to the counters and histograms. Purely computational.

Only the operator writes statuses, so what happened to a run is the difference between two versions of it: whoever
has added up all differences from the first version to the last has counted each event once, whichever versions lie
between, and whether the answer of a write or a watch has told of them. The statuses are read as documents, since they
are compared at each write, and parsing them costs more than the rest of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from crewrun_api.money import MICRO, micro_usd
from crewrun_api.reasons import Phase, TaskState
from crewrun_operator.times import parse
from crewrun_operator.views import Manifest

Document = Mapping[str, Any]

#: The model of what is in a run's usage and in that of no model: a record too small to name them was all that was left.
UNKNOWN_MODEL = "unknown"
_ENDED = frozenset(str(phase) for phase in Phase if phase.ended)
_TASK_ENDED = frozenset({str(TaskState.SUCCEEDED), str(TaskState.FAILED)})
#: What a rerun leaves of a status.
_OVER_ALL_LIVES = ("attempts", "attemptCount", "usage")


class Told(StrEnum):
    """The metrics that differences tell of. Names are a contract."""

    RUNS_FINISHED = "crewrun_runs_finished_total"
    RUN_SECONDS = "crewrun_run_duration_seconds"
    START_SECONDS = "crewrun_start_latency_seconds"
    ATTEMPTS = "crewrun_attempts_total"
    ATTEMPT_SECONDS = "crewrun_attempt_duration_seconds"
    RETRIES = "crewrun_retries_total"
    DISRUPTIONS = "crewrun_disruptions_total"
    RESUMES = "crewrun_resumes_total"
    TASK_SECONDS = "crewrun_task_duration_seconds"
    TOKENS = "crewrun_tokens_total"
    TOKENS_SAVED = "crewrun_tokens_saved_total"
    COST = "crewrun_cost_usd_total"
    LLM_REQUESTS = "crewrun_llm_requests_total"
    QUEUE_ADMITTED = "crewrun_queue_admitted_total"
    QUEUE_WAIT = "crewrun_queue_wait_seconds"


@dataclass(frozen=True, slots=True)
class Change:
    """An amount to add to a counter, or to see in a histogram."""

    metric: Told
    amount: float
    labels: tuple[str, ...] = ()


def changes(before: Manifest, after: Manifest) -> Iterator[Change]:
    """What has happened to a run between two versions of it."""
    old, new = _status(before), _status(after)
    if old == new:
        return
    if new.get("rerun") != old.get("rerun") and old.get("phase") in _ENDED:
        old = {field: old[field] for field in _OVER_ALL_LIVES if field in old}
    metadata = after["metadata"]
    namespace, crew = metadata["namespace"], crew_of(new)
    yield from _of_the_run(namespace, crew, old, new)
    yield from _of_attempts(namespace, crew, old, new, metadata.get("creationTimestamp"))
    yield from _of_tasks(old, new)
    yield from _of_usage(namespace, crew, old.get("usage") or {}, new.get("usage") or {})


def crew_of(status: Document) -> str:
    """The Crew, as a label; empty for an inline crew, which has the name of its run."""
    crew = status.get("crew") or {}
    return str(crew.get("name") or "") if crew.get("uid") else ""


def _status(run: Manifest) -> Document:
    return run.get("status") or {}


def _of_the_run(namespace: str, crew: str, old: Document, new: Document) -> Iterator[Change]:
    phase = new.get("phase")
    if phase not in _ENDED or old.get("phase") in _ENDED:
        return
    yield Change(Told.RUNS_FINISHED, 1, (namespace, crew, phase))
    yield from _seconds(Told.RUN_SECONDS, new.get("startTime"), new.get("completionTime"), phase)


def _of_attempts(namespace: str, crew: str, old: Document, new: Document, created: str | None) -> Iterator[Change]:
    known: dict[int, Document] = {attempt["number"]: attempt for attempt in old.get("attempts") or ()}
    for attempt in new.get("attempts") or ():
        was = known.get(attempt["number"], {})
        if not was and (queue := new.get("queue")):
            begun = attempt.get("startTime")  # a later attempt of which nobody was told that it waits did not
            joined = old.get("queueTime") or (created if attempt["number"] == 1 else begun)
            yield Change(Told.QUEUE_ADMITTED, 1, (namespace, queue))
            yield from _seconds(Told.QUEUE_WAIT, joined, begun, namespace, queue)
        if attempt["number"] == 1 and not was.get("runningTime"):
            yield from _seconds(Told.START_SECONDS, created, attempt.get("runningTime"))
        if attempt.get("resumedFromTask") and not was.get("resumedFromTask"):
            yield Change(Told.RESUMES, 1, (namespace,))
            yield from _some(Told.TOKENS_SAVED, _done_before(attempt["number"], new), namespace, crew)
        if attempt.get("outcome") and not was.get("outcome"):
            yield from _of_an_end(namespace, attempt, old, new)


def _of_an_end(namespace: str, attempt: Document, old: Document, new: Document) -> Iterator[Change]:
    outcome, reason = attempt["outcome"], attempt.get("reason") or ""
    yield Change(Told.ATTEMPTS, 1, (namespace, outcome, reason))
    yield from _seconds(Told.ATTEMPT_SECONDS, attempt.get("startTime"), attempt.get("completionTime"), outcome)
    if _grown(old, new, "disruptions"):
        yield Change(Told.DISRUPTIONS, 1, (namespace, reason))
    elif _grown(old, new, "countedAttempts") and new.get("phase") not in _ENDED:
        yield Change(Told.RETRIES, 1, (namespace, reason))


def _done_before(attempt: int, status: Document) -> int:
    """The tokens of tasks that earlier attempts have finished."""
    tasks = status.get("tasks") or ()
    return sum(
        task.get("totalTokens", 0)
        for task in tasks
        if task.get("state") == TaskState.SUCCEEDED and task.get("attempt", attempt) < attempt
    )


def _of_tasks(old: Document, new: Document) -> Iterator[Change]:
    """The tasks that the newest attempt has ended: those of earlier ones were told of in their time, and a runner
    that goes on names them again."""
    attempts = new.get("attempts") or ()
    newest = attempts[-1]["number"] if attempts else 0
    known = dict(enumerate(old.get("tasks") or ()))
    for place, task in enumerate(new.get("tasks") or ()):
        was = known.get(place, {})
        told = was.get("state") in _TASK_ENDED and was.get("attempt") == newest
        if task.get("attempt") == newest and task.get("state") in _TASK_ENDED and not told:
            yield from _seconds(Told.TASK_SECONDS, task.get("startTime"), task.get("completionTime"), task["state"])


def _of_usage(namespace: str, crew: str, old: Document, new: Document) -> Iterator[Change]:
    """What was used by each model; what no model has is told too, so that the sum over models is that of the run."""
    if old == new:
        return
    rest = _growth(old, new)
    were = {each.get("model"): each for each in old.get("byModel") or ()}
    for each in new.get("byModel") or ():
        model = str(each.get("model") or UNKNOWN_MODEL)
        growth = _growth(were.get(each.get("model"), {}), each)
        rest = {count: rest[count] - growth[count] for count in rest}
        yield from _usage_of(namespace, crew, model, growth)
    yield from _usage_of(namespace, crew, UNKNOWN_MODEL, rest)


def _usage_of(namespace: str, crew: str, model: str, growth: Mapping[str, int]) -> Iterator[Change]:
    for type_ in ("prompt", "cached_prompt", "completion"):
        yield from _some(Told.TOKENS, growth[type_], namespace, crew, model, type_)
    yield from _some(Told.COST, growth["micro_usd"] / MICRO, namespace, crew, model)
    yield from _some(Told.LLM_REQUESTS, growth["requests"], namespace, crew, model)


def _growth(old: Document, new: Document) -> dict[str, int]:
    """Figures of a usage never shrink, but for models that a short record leaves out and whatever people edit."""
    were, are = _figures(old), _figures(new)
    return {count: max(0, are[count] - were[count]) for count in are}


def _figures(usage: Document) -> dict[str, int]:
    """A usage in parts that add up: its prompt tokens are counted with the cached ones."""
    cached = usage.get("cachedPromptTokens", 0)
    return {
        "prompt": usage.get("promptTokens", 0) - cached,
        "cached_prompt": cached,
        "completion": usage.get("completionTokens", 0),
        "requests": usage.get("requests", 0),
        "micro_usd": known_micro_usd(usage.get("costUSD", "")),
    }


def known_micro_usd(amount: str) -> int:
    """A cost as a status says it; nothing where it is unknown."""
    try:
        return micro_usd(amount)
    except ValueError:  # unknown
        return 0


def _grown(old: Document, new: Document, count: str) -> bool:
    return bool(new.get(count, 0) > old.get(count, 0))


def _some(metric: Told, amount: float, *labels: str) -> Iterator[Change]:
    if amount > 0:
        yield Change(metric, amount, labels)


def _seconds(metric: Told, begin: str | None, end: str | None, *labels: str) -> Iterator[Change]:
    """A duration, if both ends are known and can be read; clocks of nodes may make it negative."""
    if not begin or not end:
        return
    try:
        passed = parse(end) - parse(begin)
    except (TypeError, ValueError):
        return
    yield Change(metric, max(passed, timedelta()).total_seconds(), labels)

"""What the difference of two versions of a run adds to which metric."""

from itertools import pairwise
from typing import Any

import pytest

from crewrun_api.outcome import ModelUsage, Usage
from crewrun_api.reasons import Outcome, Phase, Reason, TaskState
from crewrun_api.run import AttemptStatus, CrewStatus, RunStatus, TaskStatus
from crewrun_operator.changes import Told, changes
from tests.unit.builders import RunBuilder

CREW = CrewStatus(name="research", uid="c0c0c0c0", digest="sha256:00")
NEVER = RunStatus()


def at(second: int) -> str:
    return f"2026-03-01T12:00:{second:02}Z"


def attempt(number: int = 1, **fields: Any) -> AttemptStatus:
    return AttemptStatus(number=number, job=f"report-0f3ab-{number}", **{"start_time": at(1), **fields})


def ended(number: int = 1, reason: Reason = Reason.TASK_FAILED, **fields: Any) -> AttemptStatus:
    succeeded = reason is Reason.COMPLETED
    outcome = Outcome.SUCCEEDED if succeeded else Outcome.FAILED
    return attempt(number, **{"outcome": outcome, "reason": reason, "completion_time": at(31), **fields})


def task(name: str, state: TaskState, number: int = 1, tokens: int = 0) -> TaskStatus:
    over = {"completion_time": at(9)} if state in (TaskState.SUCCEEDED, TaskState.FAILED) else {}
    return TaskStatus(name=name, state=state, attempt=number, start_time=at(4), total_tokens=tokens, **over)


def status(**fields: Any) -> RunStatus:
    return RunStatus(crew=CREW, **fields)


def used(model: str, prompt: int, cached: int, completion: int, micro: int) -> ModelUsage:
    return ModelUsage(
        model=model,
        requests=1,
        prompt_tokens=prompt,
        cached_prompt_tokens=cached,
        completion_tokens=completion,
        cost_usd=micro,
    )


def usage(*models: ModelUsage, **more: int) -> Usage:
    counts = ("requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "cost_usd")
    sums = {count: sum(getattr(each, count) for each in models) + more.get(count, 0) for count in counts}
    return Usage(by_model=list(models), total_tokens=sums["prompt_tokens"] + sums["completion_tokens"], **sums)


def between(before: RunStatus, after: RunStatus, **metadata: Any) -> list[tuple[str, float, tuple[str, ...]]]:
    made = (RunBuilder().metadata(creationTimestamp=at(0), **metadata).status(each).build() for each in (before, after))
    return [(str(each.metric), each.amount, each.labels) for each in changes(*made)]


ENDED = {"phase": Phase.SUCCEEDED, "start_time": at(1), "completion_time": at(41)}
GPT, MINI = used("openai/gpt-4o", 100, 30, 10, 2_000), used("openai/gpt-4o-mini", 50, 0, 5, 100)
MODEL = ("team-a", "research", "openai/gpt-4o")
FINISHED = [
    ("crewrun_runs_finished_total", 1, ("team-a", "research", "Succeeded")),
    ("crewrun_run_duration_seconds", 40, ("Succeeded",)),
]
FAILED = [
    ("crewrun_attempts_total", 1, ("team-a", "Failed", "TaskFailed")),
    ("crewrun_attempt_duration_seconds", 30, ("Failed",)),
]
CASES: dict[str, tuple[RunStatus, RunStatus, list[tuple[str, float, tuple[str, ...]]]]] = {
    "nothing has changed": (status(**ENDED), status(**ENDED), []),
    "a phase that is no end": (NEVER, status(phase=Phase.STARTING), []),
    "a run ends": (status(phase=Phase.RUNNING), status(**ENDED), FINISHED),
    "a run ends that never began": (
        NEVER,
        RunStatus(phase=Phase.CANCELLED, completion_time=at(3)),
        [("crewrun_runs_finished_total", 1, ("team-a", "", "Cancelled"))],
    ),
    "the run of an inline crew, which has its name, ends": (
        NEVER,
        RunStatus(crew=CREW.model_copy(update={"uid": None, "name": "report"}), phase=Phase.FAILED),
        [("crewrun_runs_finished_total", 1, ("team-a", "", "Failed"))],
    ),
    "an ended run gets a condition": (status(**ENDED), status(**ENDED, observed_generation=3), []),
    "a run is run again": (
        status(**ENDED, attempts=[ended(reason=Reason.COMPLETED)]),
        status(phase=Phase.STARTING, rerun="x", attempts=[ended(reason=Reason.COMPLETED), attempt(2)]),
        [],
    ),
    "a run is run again, and ends in the same write": (status(**ENDED), status(**ENDED, rerun="x"), FINISHED),
    "a rerun fails at once, after as many failures as the last life had": (
        status(phase=Phase.FAILED, counted_attempts=1, attempts=[ended()]),
        status(phase=Phase.BACKING_OFF, rerun="x", counted_attempts=1, attempts=[ended(), ended(2)]),
        [*FAILED, ("crewrun_retries_total", 1, ("team-a", "TaskFailed"))],
    ),
    "an attempt begins": (NEVER, status(attempts=[attempt()]), []),
    "an attempt is admitted at once": (
        status(),
        status(queue="nightly", attempts=[attempt(start_time=at(2))]),
        [
            ("crewrun_queue_admitted_total", 1, ("team-a", "nightly")),
            ("crewrun_queue_wait_seconds", 2, ("team-a", "nightly")),
        ],
    ),
    "an attempt is admitted that has waited": (
        status(queue="nightly", queue_time=at(5), attempts=[ended()]),
        status(queue="nightly", attempts=[ended(), attempt(2, start_time=at(35))]),
        [
            ("crewrun_queue_admitted_total", 1, ("team-a", "nightly")),
            ("crewrun_queue_wait_seconds", 30, ("team-a", "nightly")),
        ],
    ),
    "a later attempt is admitted at once": (
        status(queue="nightly", attempts=[ended()]),
        status(queue="nightly", attempts=[ended(), attempt(2)]),
        [
            ("crewrun_queue_admitted_total", 1, ("team-a", "nightly")),
            ("crewrun_queue_wait_seconds", 0, ("team-a", "nightly")),
        ],
    ),
    "the first runner runs": (
        status(attempts=[attempt()]),
        status(attempts=[attempt(running_time=at(3))]),
        [("crewrun_start_latency_seconds", 3, ())],
    ),
    "a later runner runs": (
        status(attempts=[ended(), attempt(2)]),
        status(attempts=[ended(), attempt(2, running_time=at(40))]),
        [],
    ),
    "an attempt fails, and another follows": (
        status(phase=Phase.RUNNING, attempts=[attempt()]),
        status(phase=Phase.BACKING_OFF, counted_attempts=1, attempts=[ended()]),
        [*FAILED, ("crewrun_retries_total", 1, ("team-a", "TaskFailed"))],
    ),
    "the last attempt fails": (
        status(counted_attempts=2, attempts=[attempt(3)]),
        status(phase=Phase.FAILED, counted_attempts=3, attempts=[ended(3)]),
        [("crewrun_runs_finished_total", 1, ("team-a", "research", "Failed")), *FAILED],
    ),
    "an attempt is interrupted": (
        status(phase=Phase.RUNNING, attempts=[attempt()]),
        status(phase=Phase.BACKING_OFF, disruptions=1, attempts=[ended(reason=Reason.EVICTED)]),
        [
            ("crewrun_attempts_total", 1, ("team-a", "Failed", "Evicted")),
            ("crewrun_attempt_duration_seconds", 30, ("Failed",)),
            ("crewrun_disruptions_total", 1, ("team-a", "Evicted")),
        ],
    ),
    "the oldest of many attempts is forgotten": (
        status(attempts=[ended(number) for number in range(1, 11)]),
        status(attempts=[ended(number) for number in range(2, 12)]),
        FAILED,
    ),
    "an attempt goes on where another has ended": (
        status(attempts=[ended(), attempt(2)]),
        status(
            attempts=[ended(), attempt(2, resumed_from_task="report")],
            tasks=[
                task("facts", TaskState.SUCCEEDED, 1, 410),
                task("risks", TaskState.SUCCEEDED, 1, 90),
                task("report", TaskState.RUNNING, 2, 7),
            ],
        ),
        [
            ("crewrun_resumes_total", 1, ("team-a",)),
            ("crewrun_tokens_saved_total", 500, ("team-a", "research")),
        ],
    ),
    "two of three tasks end": (
        status(attempts=[attempt()], tasks=[task("facts", TaskState.RUNNING)]),
        status(
            attempts=[attempt()],
            tasks=[
                task("facts", TaskState.SUCCEEDED),
                task("risks", TaskState.FAILED),
                task("report", TaskState.PENDING),
            ],
        ),
        [("crewrun_task_duration_seconds", 5, ("Succeeded",)), ("crewrun_task_duration_seconds", 5, ("Failed",))],
    ),
    "a task that ended in an earlier attempt is named again": (
        status(attempts=[ended(), attempt(2)], tasks=[task("facts", TaskState.PENDING, 2)]),
        status(attempts=[ended(), attempt(2)], tasks=[task("facts", TaskState.SUCCEEDED, 1)]),
        [],
    ),
    "a task ends once more, from scratch": (
        status(attempts=[ended(), attempt(2)], tasks=[task("facts", TaskState.SUCCEEDED, 1)]),
        status(attempts=[ended(), attempt(2)], tasks=[task("facts", TaskState.SUCCEEDED, 2)]),
        [("crewrun_task_duration_seconds", 5, ("Succeeded",))],
    ),
    "the first usage": (
        NEVER,
        status(usage=usage(GPT)),
        [
            ("crewrun_tokens_total", 70, (*MODEL, "prompt")),
            ("crewrun_tokens_total", 30, (*MODEL, "cached_prompt")),
            ("crewrun_tokens_total", 10, (*MODEL, "completion")),
            ("crewrun_cost_usd_total", 0.002, MODEL),
            ("crewrun_llm_requests_total", 1, MODEL),
        ],
    ),
    "another model is used too": (
        status(usage=usage(GPT)),
        status(usage=usage(GPT, MINI)),
        [
            ("crewrun_tokens_total", 50, ("team-a", "research", "openai/gpt-4o-mini", "prompt")),
            ("crewrun_tokens_total", 5, ("team-a", "research", "openai/gpt-4o-mini", "completion")),
            ("crewrun_cost_usd_total", 0.0001, ("team-a", "research", "openai/gpt-4o-mini")),
            ("crewrun_llm_requests_total", 1, ("team-a", "research", "openai/gpt-4o-mini")),
        ],
    ),
    "a record was too short for its models": (
        NEVER,
        status(usage=usage(requests=2, prompt_tokens=8)),
        [
            ("crewrun_tokens_total", 8, ("team-a", "research", "unknown", "prompt")),
            ("crewrun_llm_requests_total", 2, ("team-a", "research", "unknown")),
        ],
    ),
    "a short record takes back a model, and not its sum": (
        status(usage=usage(GPT)),
        status(
            usage=usage(requests=1, prompt_tokens=100, cached_prompt_tokens=30, completion_tokens=10, cost_usd=2_000)
        ),
        [],
    ),
    "an unknown price": (
        NEVER,
        status(usage=Usage(requests=1, unpriced_requests=1)),
        [("crewrun_llm_requests_total", 1, ("team-a", "research", "unknown"))],
    ),
    "figures that somebody took back": (status(usage=usage(GPT)), status(), []),
}


@pytest.mark.parametrize("name", CASES)
def test_a_difference_tells_what_has_happened(name: str) -> None:
    before, after, want_changes = CASES[name]
    assert between(before, after) == want_changes


def test_a_run_that_has_no_status_yet_is_compared_too() -> None:
    unseen = RunBuilder().build()
    del unseen["status"]
    after = RunBuilder().status(status(**ENDED)).build()
    assert [each.metric for each in changes(unseen, after)] == [Told.RUNS_FINISHED, Told.RUN_SECONDS]


@pytest.mark.parametrize(
    ("begin", "end", "want_seconds"),
    [
        (at(1), at(4), [3.0]),
        (at(4), at(1), [0.0]),
        (None, at(1), []),
        (at(1), None, []),
        ("yesterday", at(1), []),
        ("2026-03-01T12:00:00", at(1), []),
    ],
    ids=["a duration", "clocks that disagree", "no beginning", "no end", "no time", "no time zone"],
)
def test_a_duration_is_told_if_it_can_be_read(begin: str | None, end: str | None, want_seconds: list[float]) -> None:
    after = status(phase=Phase.FAILED, start_time=begin, completion_time=end)
    assert [amount for metric, amount, _ in between(NEVER, after) if metric == Told.RUN_SECONDS] == want_seconds


def test_it_does_not_matter_which_versions_lie_between() -> None:
    """A watch may leave out what the operator's own writes have shown, and the other way round."""
    lives = [
        NEVER,
        status(phase=Phase.STARTING, attempts=[attempt()]),
        status(phase=Phase.RUNNING, attempts=[attempt(running_time=at(3))], usage=usage(GPT)),
        status(
            phase=Phase.RUNNING,
            attempts=[attempt(running_time=at(3))],
            tasks=[task("facts", TaskState.SUCCEEDED)],
            usage=usage(GPT, MINI),
        ),
        status(
            **ENDED,
            attempts=[ended(reason=Reason.COMPLETED, running_time=at(3))],
            tasks=[task("facts", TaskState.SUCCEEDED)],
            usage=usage(GPT, MINI),
        ),
    ]

    def total(*versions: RunStatus) -> dict[tuple[str, tuple[str, ...]], float]:
        sums: dict[tuple[str, tuple[str, ...]], float] = {}
        for before, after in pairwise(versions):
            for metric, amount, labels in between(before, after):
                sums[metric, labels] = sums.get((metric, labels), 0) + amount
        return sums

    want_total = total(*lives)
    assert len(want_total) >= 10
    for left_out in range(1, len(lives) - 1):
        assert total(*lives[:left_out], *lives[left_out + 1 :]) == pytest.approx(want_total)

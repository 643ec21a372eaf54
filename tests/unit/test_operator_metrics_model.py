"""Whatever happens to runs and to the operator, its counters say what the statuses say, to the token."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st

from crewrun_api.run import RunStatus
from crewrun_operator.metrics import Metrics
from crewrun_operator.runs import Key
from crewrun_operator.store import Store
from crewrun_operator.views import Manifest
from tests.unit.builders import DEFAULTS
from tests.unit.test_operator_model import ON, RUNNING, SERVED, STEPS, History, World, play

#: A run that is gone has no status to compare with, and a rerun takes figures back.
_LEFT_OUT = {"a run is deleted", "a run goes after all it owns", "a run is to run again"}
histories = st.lists(
    st.tuples(
        st.sampled_from([name for name, (weight, _) in STEPS.items() if name not in _LEFT_OUT for _ in range(weight)]),
        st.integers(0, 7),
    ),
    min_size=20,
    max_size=80,
)


class FirstSights(Store):
    """A store that keeps the first version of each run that this process has seen: it has counted from there on."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(DEFAULTS, changed=metrics.changed)
        self.first: dict[str, RunStatus] = {}

    def put_run(self, manifest: Manifest) -> list[Key]:
        self.first.setdefault(manifest["metadata"]["name"], RunStatus.model_validate(manifest.get("status") or {}))
        return super().put_run(manifest)


class CountingWorld(World):
    def make_store(self, metrics: Metrics) -> Store:
        self.store = FirstSights(metrics)
        return self.store


def figures(status: RunStatus) -> Counter[str]:
    """What a status says, in the words of the metrics."""
    usage = status.usage
    by_outcome = Counter(f"attempts {each.outcome} {each.reason}" for each in status.attempts if each.outcome)
    sums = {
        "tokens": usage.total_tokens if usage else 0,
        "requests": usage.requests if usage else 0,
        "micro-USD": usage.cost_usd if usage else 0,
        "disruptions": status.disruptions,
        f"ended as {status.phase}": int(status.phase is not None and status.phase.ended),
    }
    return Counter({name: figure for name, figure in {**sums, **by_outcome}.items() if figure})


def counted(metrics: Metrics) -> Counter[str]:
    """What the counters say, in the same words."""
    found: Counter[str] = Counter()
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels = sample.labels
            word = {
                "crewrun_tokens_total": "tokens",
                "crewrun_llm_requests_total": "requests",
                "crewrun_cost_usd_total": "micro-USD",
                "crewrun_disruptions_total": "disruptions",
                "crewrun_runs_finished_total": f"ended as {labels.get('phase')}",
                "crewrun_attempts_total": f"attempts {labels.get('outcome')} {labels.get('reason')}",
            }.get(sample.name)
            if word:
                found[word] += round(sample.value * 1_000_000) if word == "micro-USD" else int(sample.value)
    return found


def check(history: History, spec: dict[str, Any]) -> Counter[str]:
    """Play it; what was counted."""
    world = play(history, spec, CountingWorld)
    assert isinstance(world, CountingWorld)
    want: Counter[str] = Counter()
    for name, status in world.statuses().items():
        want += figures(status)
        want.subtract(figures(world.store.first[name]))
    told = counted(world.metrics)
    assert {word: told[word] for word in want.keys() | told.keys() if told[word]} == +want
    return told


@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    suppress_health_check=[*HealthCheck],
    database=None,
    phases=[Stage.generate, Stage.shrink],
)
@given(histories)
def test_counters_are_the_sums_over_all_statuses(history: History) -> None:
    check(history, {})


LOST_ANSWER = [*RUNNING, ("a runner succeeds", 0), ON, ("a watch delivers all it has", 0), ("an answer is lost", 0)]
FAILS_ONCE = [*RUNNING, ("a runner fails", 0), SERVED]


@pytest.mark.parametrize(
    ("history", "want_attempts"),
    [
        ([], {"Succeeded Completed": 1}),
        (FAILS_ONCE, {"Failed TaskFailed": 1, "Succeeded Completed": 1}),
        ([*RUNNING, ("a Pod is evicted", 0), SERVED, ON, SERVED], {"Stopped Evicted": 1, "Succeeded Completed": 1}),
        (LOST_ANSWER, {"Succeeded Completed": 1}),
        ([*FAILS_ONCE, ("the operator is killed", 0)], {"Succeeded Completed": 1}),
    ],
    ids=["nothing", "a failure", "an eviction", "the answer to the last write is lost", "a killed operator"],
)
def test_what_is_counted_once_is_not_counted_again(history: History, want_attempts: dict[str, int]) -> None:
    told = check(history, {})
    assert {word.removeprefix("attempts "): n for word, n in told.items() if "attempts" in word} == want_attempts

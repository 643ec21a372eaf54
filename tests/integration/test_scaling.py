"""What each example of scaling would have seen of 300 runs that go through a queue of 20: by a real Prometheus."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.test_prometheus import FILES, PANELS
from tests.support.kube import GROUP, VERSION, Kube, crew, document, run
from tests.support.operator import Operator
from tests.support.prometheus import Prometheus
from tests.support.scaling import Scaler, scalers

RUNS, PLACES = 300, 20
BUDGET_USD, BUDGET_TOKENS = 1, 1_000_000
LATEST = 5  # seconds
PER_SECOND, STEP = 5, 0.2  # what is scraped each second may come a little sooner or later: no scrape is overlooked
#: Panels about what does not happen in this load: kwok's runners report nothing and have no tasks.
NOTHING_HAPPENS = {
    "Attempts that went on",
    "Reports of runners",
    "Retries and disruptions by reason",
    "Time of a task",
    "Tokens that no attempt paid again, in 24 hours",
}
CREWS = (*["fine"] * 5, *["research"] * 3, "fails-once", "always-fails")
POD = {"nodeSelector": {"pool": "crews"}, "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}}}
WAITING = 'sum(crewrun_demand_pods{state="waiting",node_selector="pool=crews"})'
PRESENT = 'sum(crewrun_demand_pods{state!="waiting",node_selector="pool=crews"})'
CLASS = '{node_selector="pool=crews"}'
History = list[tuple[float, float]]


@dataclass(frozen=True)
class Load:
    """What Prometheus knows of a load that is over."""

    prometheus: Prometheus
    space: Kube
    begin: float
    end: float

    def history(self, query: str, step: float = 1) -> History:
        return self.prometheus.history(query, self.end - int(self.end - self.begin), self.end, step)

    @property
    def of_queue(self) -> str:
        return f'{{namespace="{self.space.namespace}",queue="nightly"}}'


@pytest.fixture(scope="module")
def load(kube: Kube, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """The runs of four crews, one of which fails once and one always, wait before a stopped queue until it opens."""
    space = kube.within("scaling")
    target = str(operator.url).removeprefix("http://")
    with Prometheus(target, FILES / "alerts.yaml", tmp_path_factory.mktemp("prometheus")) as prometheus:
        prometheus.await_value("max(crewrun_build_info)", 1)
        prometheus.await_value(scalers()[0].query, 0)
        begin = time.time()
        kube.kubectl("label", "nodes", "--all", "pool=crews", "--overwrite")
        budget = {"window": "Month", "maxCostUSD": str(BUDGET_USD), "maxTokens": BUDGET_TOKENS}
        queue = document("CrewQueue", "nightly", {"default": True, "maxConcurrentRuns": PLACES, "budget": budget})
        queue["spec"]["stopPolicy"] = "Hold"
        space.apply(queue, *map(crew, dict.fromkeys(CREWS)))
        retry = {"maxAttempts": 2, "backoff": {"initialSeconds": 0}}
        for number in range(RUNS):
            manifest = run(f"run-{number:03}", CREWS[number % len(CREWS)], pod=POD, retry=retry)
            space.custom.create_namespaced_custom_object(GROUP, VERSION, space.namespace, "crewruns", manifest)
        prometheus.await_value(WAITING, RUNS)
        prometheus.await_value(scalers()[0].query, 0)
        space.kubectl("patch", "crewqueue", "nightly", "--type=merge", "-p", '{"spec":{"stopPolicy":"None"}}')
        for number in range(RUNS):
            space.await_end(f"run-{number:03}", seconds=300)
        prometheus.await_value(scalers()[0].query, 0)
        yield Load(prometheus, space, begin, time.time())


@pytest.mark.parametrize("scaler", scalers(), ids=lambda scaler: scaler.example)
def test_a_scaler_sees_the_demand_rise_to_what_the_queue_admits_and_fall_to_nothing(scaler: Scaler, load: Load) -> None:
    seen = [value for _, value in load.history(scaler.query)]
    print(f"\n{scaler.example}: {[round(value) for value in seen]}\nreplicas: {[*map(scaler.replicas, seen)]}")
    assert (seen[0], max(seen), seen[-1]) == pytest.approx((0, PLACES, 0))
    assert max(map(scaler.replicas, seen)) == 5


def test_the_scalers_answer_follows_the_demand(load: Load) -> None:
    queries = (f"crewrun_queue_active{load.of_queue}", WAITING, PRESENT, f"sum(crewrun:demand_pods:admissible{CLASS})")
    active, waiting, present, admissible = (dict(load.history(query, STEP)) for query in queries)
    moments = sorted(active.keys() & waiting.keys() & admissible.keys())
    want = [min(PLACES, waiting[at] + present[at]) if active[at] else present[at] for at in moments]
    print("\nwaiting, with a Job, admissible, a second each:")
    print("\n".join(f"{waiting[at]:7.0f} {present[at]:7.0f} {admissible[at]:7.0f}" for at in moments[::PER_SECOND]))
    assert max(waiting.values()) == RUNS
    assert max(present.values()) <= PLACES
    # A rule is computed some time after the scrape that it is of.
    late = [
        admissible[at]
        for place, at in enumerate(moments)
        if admissible[at] not in map(pytest.approx, want[max(0, place - LATEST * PER_SECOND) : place + 1])
    ]
    assert late == []


def test_the_figures_of_the_queue_are_the_sums_over_its_runs(load: Load) -> None:
    runs = [each["status"] for each in load.space.items("crewruns")]
    attempts = sum(each["attemptCount"] for each in runs)
    tokens = sum(each["usage"]["totalTokens"] for each in runs)
    micro = sum(round(float(each["usage"]["costUSD"]) * 1_000_000) for each in runs)
    succeeded = sum(each["phase"] == "Succeeded" for each in runs)
    assert (len(runs), attempts, succeeded) == (RUNS, RUNS + RUNS // 5, RUNS - RUNS // 10)
    ours = load.of_queue
    for query, want in {
        f"crewrun_queue_admitted_total{ours}": attempts,
        f"crewrun_queue_wait_seconds_count{ours}": attempts,
        f"crewrun_queue_spent_tokens{ours}": tokens,
        f"round(crewrun_queue_spent_usd{ours} * 1e6)": micro,
        f"crewrun_queue_pending_runs{ours}": 0,
        f"crewrun_queue_running_runs{ours}": 0,
        f"crewrun_queue_max_concurrent_runs{ours}": PLACES,
        f"crewrun_queue_budget_usd{ours}": BUDGET_USD,
        f"crewrun_queue_budget_tokens{ours}": BUDGET_TOKENS,
        f"crewrun_queue_active{ours}": 1,
        f'crewrun_runs{{namespace="{load.space.namespace}",queue="nightly",phase="Succeeded"}}': succeeded,
        f'sum(crewrun_tokens_total{{namespace="{load.space.namespace}"}})': tokens,
    }.items():
        load.prometheus.await_value(query, want)
    assert max(value for _, value in load.history(f"crewrun_queue_running_runs{ours}")) <= PLACES


def test_every_panel_about_runs_and_queues_shows_something(load: Load) -> None:
    answers = {
        (panel["title"], each["refId"]): load.prometheus.range(
            each["expr"].replace("$namespace", load.space.namespace).replace("$__rate_interval", "15s"),
            load.begin,
            load.end,
        )
        for panel in PANELS
        for each in panel["targets"]
    }
    if picture := os.environ.get("CREWRUN_DASHBOARD_ANSWERS"):  # docs/pictures/draw.py makes a picture of them
        Path(picture).write_text(json.dumps([[*asked, answer] for asked, answer in answers.items()]))
    assert {title for (title, _), answer in answers.items() if not answer} <= NOTHING_HAPPENS

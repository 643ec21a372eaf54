"""What Prometheus would read of a real operator, compared with the statuses of all runs on the API server."""

import urllib.request
from collections import Counter
from collections.abc import Callable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from crewrun_api.money import MICRO
from crewrun_api.run import RunStatus
from crewrun_operator.families import FAMILIES, LABELS
from tests.support.kube import Document, Kube, crew, document, run
from tests.support.operator import Operator

RETRY = {"maxAttempts": 2, "backoff": {"initialSeconds": 0}}
FINE, FLAKY, BROKEN, LOST = 12, 4, 2, 1
Figures = Counter[tuple[str, ...]]


def scraped(operator: Operator) -> dict[str, Metric]:
    with urllib.request.urlopen(f"{operator.url}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def counted(families: dict[str, Metric], name: str, namespace: str, *labels: str, scale: int = 1) -> Figures:
    """The counter by these labels, of one namespace."""
    found: Figures = Counter()
    for sample in families[name.removesuffix("_total")].samples:
        if sample.name == name and sample.labels["namespace"] == namespace:
            found[tuple(sample.labels[label] for label in labels)] += round(sample.value * scale)
    return found


def summed(runs: list[Document], figures: Callable[[str, RunStatus], Figures]) -> Figures:
    """The same, of the statuses; the crew is empty for an inline one."""
    total: Figures = Counter()
    for each in runs:
        total += figures(
            (each["spec"].get("crewRef") or {"name": ""})["name"], RunStatus.model_validate(each["status"])
        )
    return total


def of_usage(name: str, status: RunStatus) -> Figures:
    assert status.usage is not None
    prompt, cached = status.usage.prompt_tokens, status.usage.cached_prompt_tokens
    types = {"prompt": prompt - cached, "cached_prompt": cached, "completion": status.usage.completion_tokens}
    return Counter({(name, type_): tokens for type_, tokens in types.items() if tokens})


def of_models(name: str, status: RunStatus) -> Figures:
    return Counter({(name, each.model): each.requests for each in (status.usage.by_model if status.usage else ())})


def of_cost(name: str, status: RunStatus) -> Figures:
    return Counter({(name,): status.usage.cost_usd} if status.usage and status.usage.cost_usd else {})


def of_attempts(_: str, status: RunStatus) -> Figures:
    return Counter((str(each.outcome), str(each.reason)) for each in status.attempts)


def test_counters_equal_the_statuses_of_all_runs(space: Kube, operator: Operator) -> None:
    space.apply(*map(crew, ("fine", "fails-once", "always-fails", "no-record")))
    names = {
        **{f"good-{number}": "fine" for number in range(FINE)},
        **{f"flaky-{number}": "fails-once" for number in range(FLAKY)},
        **{f"broken-{number}": "always-fails" for number in range(BROKEN)},
        **{f"lost-{number}": "no-record" for number in range(LOST)},
    }
    space.apply(*(run(name, crew_name, retry=RETRY) for name, crew_name in names.items()))
    inline = document("CrewRun", "inline", {"crew": crew("")["spec"], "inputs": {"topic": "AI"}})
    space.apply(inline, run("unaccepted", "missing", cancel=True))
    for name in (*names, "inline", "unaccepted"):
        space.await_end(name)

    runs, families, namespace = space.items("crewruns"), scraped(operator), space.namespace
    ended = [each for each in runs if each["metadata"]["name"] != "unaccepted"]
    assert counted(families, "crewrun_tokens_total", namespace, "crew", "type") == summed(ended, of_usage)
    assert counted(families, "crewrun_attempts_total", namespace, "outcome", "reason") == summed(ended, of_attempts)
    assert counted(families, "crewrun_runs_finished_total", namespace, "crew", "phase") == {
        ("fine", "Succeeded"): FINE,
        ("fails-once", "Succeeded"): FLAKY,
        ("always-fails", "Failed"): BROKEN,
        ("no-record", "Failed"): LOST,
        ("", "Succeeded"): 1,
        ("", "Cancelled"): 1,
    }
    assert counted(families, "crewrun_retries_total", namespace, "reason") == {
        ("LLMUnavailable",): FLAKY,
        ("TaskFailed",): BROKEN,
        ("RunnerLost",): LOST,
    }
    assert counted(families, "crewrun_llm_requests_total", namespace, "crew", "model") == summed(ended, of_models)
    assert counted(families, "crewrun_cost_usd_total", namespace, "crew", scale=MICRO) == summed(ended, of_cost)

    samples = [sample for family in families.values() for sample in family.samples]
    ours = [sample for sample in samples if sample.name.startswith("crewrun_")]
    assert {label for sample in ours for label in sample.labels} <= {*LABELS, "le"}
    values = {value for sample in samples for value in sample.labels.values()}
    assert not values & {each["metadata"]["name"] for each in runs}
    known = {family.name.removesuffix("_total") for family in FAMILIES}
    assert {name for name in families if name.startswith("crewrun_")} <= known


def test_demand_is_shown_while_a_run_has_its_pod_and_gone_afterwards(space: Kube, operator: Operator) -> None:
    pod = {"resources": {"requests": {"cpu": "300m", "memory": "64Mi"}}, "nodeSelector": {"metrics-test": "yes"}}

    def demand() -> dict[str, float]:
        """By the metric's name, of running runs that want these nodes."""
        place = {"namespace": space.namespace, "queue": ""}
        wanted = {**place, "state": "running", "node_selector": "metrics-test=yes"}
        found = [sample for family in scraped(operator).values() for sample in family.samples]
        return {sample.name: sample.value for sample in found if sample.labels == wanted}

    space.kubectl("label", "nodes", "--all", "metrics-test=yes", "--overwrite")
    space.apply(crew("never-ends"), run("a", "never-ends", pod=pod), run("b", "never-ends", pod=pod))

    def shown(want: dict[str, float]) -> bool:
        """A watch may tell a test of a status some milliseconds before the operator has the answer to its write."""
        return any(demand() == want for _ in range(100))

    for name in ("a", "b"):
        space.await_phase(name, "Running")
    want_demand = {
        "crewrun_demand_cpu_cores": 0.6,
        "crewrun_demand_memory_bytes": 2 * 64 * 2**20,
        "crewrun_demand_pods": 2,
    }
    assert shown(want_demand), demand()
    for name in ("a", "b"):
        space.kubectl("patch", "crewrun", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
        space.await_end(name)
    assert shown(dict.fromkeys(want_demand, 0)), demand()

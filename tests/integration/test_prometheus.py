"""A real Prometheus reads a real operator: its figures, the chart's rules, and every query of the dashboard."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kube import Kube, crew, run
from tests.support.operator import Operator
from tests.support.prometheus import Prometheus

FILES = Path(__file__).parents[2] / "charts/crewrun/files"
PANELS = [panel for panel in json.loads((FILES / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]
RUNS = 5
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def prometheus(operator: Operator, tmp_path: Path) -> Iterator[Prometheus]:
    target = str(operator.url).removeprefix("http://")
    with Prometheus(target, FILES / "alerts.yaml", tmp_path) as running:
        yield running


def test_prometheus_sees_what_the_statuses_say(space: Kube, operator: Operator, prometheus: Prometheus) -> None:
    space.apply(crew("fine"), *(run(f"r-{number}", "fine") for number in range(RUNS)))
    for number in range(RUNS):
        space.await_end(f"r-{number}")
    usages = [each["status"]["usage"] for each in space.items("crewruns")]
    ours = f'{{namespace="{space.namespace}"}}'
    prometheus.await_value(f"sum(crewrun_tokens_total{ours})", sum(usage["totalTokens"] for usage in usages))
    prometheus.await_value(f"sum(crewrun_runs_finished_total{ours})", RUNS)
    micro = sum(round(float(usage["costUSD"]) * 1_000_000) for usage in usages)
    prometheus.await_value(f"round(sum(crewrun_cost_usd_total{ours}) * 1e6)", micro)
    for panel in PANELS:
        for each in panel["targets"]:
            asked = each["expr"].replace("$namespace", ".+").replace("$__rate_interval", "1m")
            prometheus.query(asked)
    prometheus.await_value('absent(ALERTS{alertname="CrewRunOperatorDown"})', 1)
    healths = {rule["name"]: rule["health"] for rule in prometheus.rules()}
    assert {name for name, health in healths.items() if health not in ("ok", "unknown")} == set()


def test_a_duration_leads_to_the_trace_of_its_run(space: Kube, prometheus: Prometheus) -> None:
    begun = time.time()
    traced, plain = run("traced", "fine"), run("plain", "fine")
    traced["metadata"]["annotations"] = {"crewrun.dev/traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    space.apply(crew("fine"), traced, plain)
    for name in ("traced", "plain"):
        space.await_end(name)
    for metric in ("crewrun_run_duration_seconds", "crewrun_attempt_duration_seconds"):
        prometheus.await_exemplars(f"{metric}_bucket", begun, [TRACE])

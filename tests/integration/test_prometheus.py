"""A real Prometheus reads a real operator: its figures, the chart's rules, and every query of the dashboard."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kube import Kube, crew, run
from tests.support.operator import Operator
from tests.support.prometheus import Prometheus

FILES = Path(__file__).parents[2] / "charts/crewrun/files"
PANELS = [panel for panel in json.loads((FILES / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]
RUNS = 5


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

"""Rules, alerts and the dashboard ask for metrics and labels that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewrun_operator.families import FAMILIES, Kind
from crewrun_operator.metrics_reference import reference

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts/crewrun/files"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SUFFIXES = {Kind.COUNTER: ("",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
#: The labels of each series; those of a recorded one are what its expression sums by.
SERIES = {f"{family.name}{suffix}": {*family.labels, "le"} for family in FAMILIES for suffix in SUFFIXES[family.kind]}
RECORDED = {
    rule["record"]: {*re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])))}
    for rule in RULES
    if "record" in rule
}
QUERIES = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']}, {each['refId']}": each["expr"] for panel in PANELS for each in panel["targets"]},
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_what_there_is(name: str) -> None:
    query = QUERIES[name]
    asked = set(re.findall(r"crewrun[\w:]+", query))
    assert asked and asked <= SERIES.keys() | RECORDED.keys()
    labels = set().union(*((SERIES | RECORDED)[series] for series in asked))
    matched = set(re.findall(r"[{,](\w+)=", query))
    summed = {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}
    made = set(re.findall(r'"(\w+)", "\w+", "", ""\)', query))  # by label_replace
    assert matched | summed <= labels | made


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_names_labels_that_its_query_leaves(panel: dict[str, Any]) -> None:
    for each in panel["targets"]:
        shown, query = set(re.findall(r"{{(\w+)}}", each["legendFormat"])), each["expr"]
        series = set(re.findall(r"crewrun[\w:]+", query))
        summed = {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}
        assert shown <= (summed or set().union(*((SERIES | RECORDED)[name] for name in series)))


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    asked = " ".join(QUERIES.values())
    assert [family.name for family in FAMILIES if family.name not in asked] == ["crewrun_build_info"]


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_reference_is_what_the_table_says() -> None:
    assert (ROOT / "docs/reference/metrics.md").read_text() == reference()

"""Draws `dashboard.png`: the chart's dashboard, with the answers of a real Prometheus, but not by Grafana.

The panels, their titles, places, units and legends are those of `charts/crewrun/files/dashboard.json`; uPlot draws the
lines, as it does in Grafana, and Chromium makes the picture. Neither is needed for anything else here:

    CREWRUN_DASHBOARD_ANSWERS=/tmp/answers.json .venv/bin/pytest tests/integration/test_scaling.py
    npm install --prefix /tmp/uplot uplot@1.6.32
    apt-get install chromium
    python docs/pictures/draw.py /tmp/answers.json /tmp/uplot/node_modules/uplot/dist
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DASHBOARD = HERE.parents[1] / "charts/crewrun/files/dashboard.json"
ROWS = ("Overview", "Queues", "Tokens and cost", "Reliability", "Demand")
WIDTH, CELL = 1140, 29


def shown_panels() -> list[dict[str, Any]]:
    """The panels of the rows that the picture shows, with the titles of the rows."""
    found, row = [], ""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if row in ROWS:
            found.append(panel)
    return found


def legend(template: str, labels: dict[str, str]) -> str:
    """The name of a series, as Grafana writes it."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), template) or "value"


def lines(panel: dict[str, Any], answers: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """A panel with its series on one axis of time."""
    series: dict[str, dict[float, float]] = {}
    for target in panel.get("targets", ()):
        for answer in answers.get((panel["title"], target["refId"]), ()):
            points = {float(moment): float(value) for moment, value in answer["values"]}
            series[legend(target["legendFormat"], answer["metric"])] = points
    moments = sorted({moment for points in series.values() for moment in points})
    data = [moments, *([points.get(moment) for moment in moments] for points in series.values())]
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    its = {key: panel[key] for key in ("title", "type", "gridPos")}
    return {**its, "unit": unit, "names": list(series), "data": data}


def page(panels: list[dict[str, Any]], uplot: Path) -> str:
    moments = [moment for panel in panels for moment in panel["data"][0]]
    begin, end = min(moments), max(moments)
    texts = {
        "STYLE": (uplot / "uPlot.min.css").read_text(),
        "SCRIPT": (uplot / "uPlot.iife.min.js").read_text(),
        "PANELS": json.dumps(panels).replace("NaN", "null"),
        "BEGIN": str(begin),
        "SECONDS": str(end - begin),
        "CELL": str(CELL),
        "WIDTH": str(WIDTH),
    }
    return re.sub(r"%(\w+)%", lambda found: texts.get(found[1], found[0]), (HERE / "page.html").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("uplot", type=Path)
    given = parser.parse_args()
    answers = {(title, target): answer for title, target, answer in json.loads(given.answers.read_text())}
    panels = [lines(panel, answers) for panel in shown_panels()]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * CELL + 20
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "dashboard.html"
        html.write_text(page(panels, given.uplot))
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{height}"]
        picture = f"--screenshot={HERE / 'dashboard.png'}"
        subprocess.run([*command, f"--user-data-dir={folder}/profile", picture, html.as_uri()], check=True)


if __name__ == "__main__":
    main()

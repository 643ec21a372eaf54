"""The chart's recording rules and alerts, computed by Prometheus' own promtool. No cluster is needed."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.unpacked import ensure_unpacked

HERE = Path(__file__).parent
RULES = HERE.parent.parent / "charts/crewrun/files/alerts.yaml"
TESTS = yaml.safe_load((HERE / "rules.yaml").read_text())
ALERTS: dict[str, dict[str, str]] = {
    rule["alert"]: rule["annotations"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.fixture(scope="session")
def promtool() -> Path:
    return ensure_unpacked("promtool")


def with_annotations(name: str, alert: dict[str, Any]) -> dict[str, Any]:
    """What promtool compares word by word is not worth writing twice."""

    def told(text: str) -> str:
        return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: alert["exp_labels"][found[1]], text)

    return {**alert, "exp_annotations": {key: told(text) for key, text in ALERTS[name].items()}}


def test_rules_compute_what_they_say(promtool: Path, tmp_path: Path) -> None:
    for test in TESTS["tests"]:
        for each in test.get("alert_rule_test", ()):
            each["exp_alerts"] = [with_annotations(each["alertname"], alert) for alert in each["exp_alerts"]]
    document = tmp_path / "rules.yaml"
    document.write_text(yaml.safe_dump({"rule_files": [str(RULES)], **TESTS}))
    done = subprocess.run([promtool, "test", "rules", document], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire_and_to_keep_still() -> None:
    seen: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for test in TESTS["tests"]:
        for each in test.get("alert_rule_test", ()):
            seen[each["alertname"]].add(bool(each["exp_alerts"]))
    assert seen == {name: {True, False} for name in ALERTS}


def test_each_recording_rule_is_computed() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    asked = {each["expr"].split(" ")[0] for test in TESTS["tests"] for each in test.get("promql_expr_test", ())}
    assert recorded == asked

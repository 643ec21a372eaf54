"""The values of the chart: what is generated from their model, and what templates ask for."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from charts.generate import CHART, rows, schema
from charts.values import ChartValues

DEFAULTS = ChartValues().model_dump(mode="json", by_alias=True)
PATHS = [path for path, _, _ in rows(ChartValues(), "")]
SECTIONS = sorted({path.rpartition(".")[0] for path in PATHS if "." in path})
VALIDATOR = jsonschema_rs.validator_for(schema())
TEMPLATES = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())


#: Documents in which people are shown values.
GUIDES = [*sorted(Path("docs").rglob("*.md")), CHART / "README.md"]


def examples() -> list[Any]:
    """Each block of YAML in the guides that speaks of values alone."""
    found = []
    for guide in GUIDES:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", guide.read_text(), re.DOTALL)):
            top = re.findall(r"^(\w+):", block, re.MULTILINE)
            if top and {*top} <= DEFAULTS.keys():
                found.append(pytest.param(block, id=f"{guide.name}-{number}"))
    return found


def merged(defaults: Any, given: Any) -> Any:
    """What Helm makes of values and those that are given."""
    if not (isinstance(defaults, dict) and isinstance(given, dict)):
        return given
    return {**defaults, **{key: merged(defaults.get(key), value) for key, value in given.items()}}


def test_the_defaults_are_what_the_schema_takes() -> None:
    assert [error.message for error in VALIDATOR.iter_errors(DEFAULTS)] == []


@pytest.mark.parametrize("block", examples())
def test_values_that_the_guides_show_are_taken(block: str) -> None:
    top = re.findall(r"^(\w+):", block, re.MULTILINE)
    assert len(top) == len({*top}), "each key stands there once"
    assert [error.message for error in VALIDATOR.iter_errors(merged(DEFAULTS, yaml.safe_load(block)))] == []


def test_there_are_such_examples() -> None:
    assert len(examples()) >= 2


@pytest.mark.parametrize("path", [*PATHS, *SECTIONS])
def test_a_value_that_was_taken_away_is_refused_with_its_path(path: str) -> None:
    """Null in a file of values takes the default away, and so does --reuse-values with an older chart's."""
    values: dict[str, Any] = deepcopy(DEFAULTS)
    *above, last = path.split(".")
    part = values
    for name in above:
        part = part[name]
    del part[last]
    (error,) = VALIDATOR.iter_errors(values)
    assert ([*error.instance_path], f'"{last}" is a required property') == (above, error.message)


def test_each_value_is_asked_for_by_a_template() -> None:
    given_whole = "reports.tls.issuerRef."  # to cert-manager
    used = {path for path in PATHS if re.search(rf"\.{path.rpartition('.')[2]}\b", TEMPLATES)}
    assert [path for path in PATHS if path not in used and not path.startswith(given_whole)] == []


def test_templates_ask_for_no_value_that_there_is_not() -> None:
    asked = set(re.findall(r"\.Values\.([A-Za-z]+(?:\.[A-Za-z]+)*)", TEMPLATES))
    assert len(asked) > 30
    assert asked - {*PATHS, *SECTIONS} == set()

"""The examples say what the contract knows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crewrun_api.kinds import ProfileSpec

PROFILES = Path(__file__).parents[2] / "examples/profiles"


def profile(name: str) -> ProfileSpec:
    document: dict[str, Any] = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
    assert (document["kind"], document["metadata"]["name"]) == ("CrewProfile", name)
    return ProfileSpec.model_validate(document["spec"])


@pytest.mark.parametrize("name", [path.stem for path in PROFILES.glob("*.yaml")])
def test_an_example_profile_is_one(name: str) -> None:
    assert profile(name).secrets


def test_development_and_production_differ_in_what_they_say_and_cost() -> None:
    development, production = profile("development"), profile("production")
    assert (development.verbose, production.verbose) == (True, False)
    assert development.memory is not None and development.memory.enabled
    assert production.memory is not None and not production.memory.enabled
    assert (development.max_rpm, production.max_rpm) == (None, 10)
    assert production.budget is not None and production.llm.fallback_models

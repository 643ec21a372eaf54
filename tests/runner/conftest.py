"""The fixtures of the runner's tests with the real crewai; `harness` says how they work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, runner_python


@pytest.fixture
def llm() -> Iterator[ThreadedLLM]:
    with ThreadedLLM() as running:
        yield running


@pytest.fixture
def runner(tmp_path: Path, llm: ThreadedLLM) -> Runner:
    python = runner_python()
    if not python.exists():
        pytest.fail(f"the runner's environment is missing: no {python}; `make .venv-runner/.synced` makes it")
    return Runner(python, tmp_path, llm.base_url)

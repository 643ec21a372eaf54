"""What is refused costs no token; most of it is refused before crewai is imported."""

from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Reason
from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, crew, task

CREW, INPUTS = Reason.INVALID_CREW, Reason.INVALID_INPUTS

REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    (crew(task("report", tools=["custom:shell"])), CREW, "definition.tasks[0].tools[0]: custom:shell runs Python"),
    (crew(task("report", tools=["SerperDevTool"])), CREW, "the runner image leaves out crewai[tools]"),
    (crew(task("report", output_pydantic={"python": "a.b"})), CREW, "definition.tasks[0].output_pydantic: "),
    (crew(memory=True), CREW, "definition.memory: the runner image leaves out lancedb"),
    (crew(task("report", human_input=True)), Reason.INPUT_REQUIRED, "definition.tasks[0].human_input"),
    (crew(task("report", agent="editor")), CREW, "references agent 'editor'"),
    (crew(task("report", colour="red")), CREW, "unsupported field(s): colour"),
    (crew(task("{audience}", agent="writer")), INPUTS, "uses {audience}: give an input of this name"),
    ({"agents": {"a": {"role": "r", "goal": "g", "backstory": "b", "llm": "anthropic/claude-sonnet-4-5"}},
      "tasks": [task("report", agent="a")]}, CREW, "leaves out crewai[anthropic]"),
    ({"agents": {"a": {"role": "r", "goal": "g", "backstory": "b", "llm": "nobody/model"}},
      "tasks": [task("report", agent="a")]}, CREW, "leaves out crewai[litellm]"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "want", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_crew_that_cannot_run_is_refused_without_a_call(
    runner: Runner, llm: ThreadedLLM, definition: dict[str, Any], want: Reason, text: str
) -> None:
    finished = runner.run(definition)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, want), finished.end.message
    assert text in finished.end.message
    assert llm.ledger.totals.calls == 0


def test_a_wrong_digest_is_found_before_anything_else(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), digest="sha256:0")
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, Reason.CREW_CHANGED)
    assert finished.seconds < 1.5


def test_without_its_variables_the_runner_does_not_start(runner: Runner) -> None:
    finished = runner.run(crew(), env={"CREWRUN_RUN_UID": ""})
    assert (finished.exit_code, finished.message) == (ExitCode.INTERNAL, b"")
    assert "CREWRUN_RUN_UID" in finished.stderr


def test_an_unwritable_home_is_said_clearly(runner: Runner) -> None:
    finished = runner.run(crew(), env={"HOME": "/proc"})
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INTERNAL, Reason.RUNNER_CRASHED)
    assert "HOME and /tmp must be writable" in finished.end.message

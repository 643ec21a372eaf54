"""Definitions that carry Python, where the profile allows it, and inputs that Secrets hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome, OutputFormat, Reason
from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, crew, task

CUSTOMER = "canary-customer-91"

PARTS = """
from pydantic import BaseModel

class Verdict(BaseModel):
    good: bool

def louder(inputs):
    return {**inputs, "topic": inputs["topic"].upper()}

def checked(output):
    return (True, output.raw)
"""
TOOL = """
from crewai.tools import BaseTool

class Shout(BaseTool):
    name: str = "shout"
    description: str = "Shouts a text."

    def _run(self, text: str) -> str:
        return text.upper() + "!"
"""


@pytest.fixture
def app(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "app"
    (folder / "tools").mkdir(parents=True)
    (folder / "parts.py").write_text(PARTS)
    (folder / "tools/shout.py").write_text(TOOL)
    return {"CREWRUN_APP_DIR": str(folder)}


DEFINITION = crew(
    task(
        "report",
        tools=["custom:shout"],
        output_pydantic={"python": "parts.Verdict"},
        guardrail={"python": "parts.checked"},
    ),
    before_kickoff_callbacks=[{"python": "parts.louder"}],
)


def test_a_definition_takes_python_from_the_image_where_the_profile_allows_it(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    calls = [{"toolCalls": [{"name": "shout", "arguments": {"text": "hey"}}]}, {"text": '{"good": true}'}]
    rules = [{"name": "report", "match": {"user": "Do report on AI"}, "replies": calls}]
    llm.set_script({"rules": rules, "default": {"text": '{"good": true}'}})
    finished = runner.run(DEFINITION, allowPython=True, env=app, inputs={"topic": "ai"})
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message + finished.stderr
    assert finished.end.output is not None and finished.end.output.format is OutputFormat.JSON
    assert json.loads(finished.end.output.value) == {"good": True}


def test_python_that_the_image_lacks_is_refused_by_its_name(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(DEFINITION, allowPython=True, env={"CREWRUN_APP_DIR": "/nowhere"})
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, Reason.INVALID_CREW)
    assert "shout" in finished.end.message
    assert llm.ledger.totals.calls == 0


def secret(runner: Runner, schema: dict[str, Any], **options: Any) -> Any:
    definition = crew(task("report", description="Write to {customer} about {topic}."))
    return runner.run(
        definition,
        secretInputs={"customer": "CREWRUN_INPUT_0"},
        inputSchema=schema,
        env={"CREWRUN_INPUT_0": CUSTOMER},
        **options,
    )


def test_a_secret_input_reaches_the_model_and_nothing_else(runner: Runner, llm: ThreadedLLM) -> None:
    rules = [{"name": "told", "match": {"user": f"Write to {CUSTOMER}"}, "replies": [{"text": f"Dear {CUSTOMER},"}]}]
    llm.set_script({"rules": rules, "default": {"fault": {"status": 400}}})
    finished = secret(runner, {"properties": {"customer": {"type": "string"}}}, verbose=True)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert finished.end.output is not None and finished.end.output.value == "Dear [redacted],"
    assert CUSTOMER not in finished.everything


def test_a_secret_input_that_does_not_fit_the_schema_costs_no_call(runner: Runner, llm: ThreadedLLM) -> None:
    finished = secret(runner, {"properties": {"customer": {"maxLength": 3}}})
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, Reason.INVALID_INPUTS)
    assert "inputs.customer: the value is longer than 3 characters" in finished.end.message
    assert (llm.ledger.totals.calls, CUSTOMER in finished.everything) == (0, False)

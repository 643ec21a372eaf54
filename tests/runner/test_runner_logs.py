"""The lines of a run's log, with the real crewai."""

from typing import Any

import pytest

from crewrun_runner.narrator import TEXT_LIMIT_BYTES
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, Finished, Runner, crew, task

PROMPT, ANSWER = "quokkas in spring", "an answer about wombats"
ARGUMENT, RESULT = "look up numbats", "a result about bilbies"
DELEGATE = {
    "name": "delegate_work_to_coworker",
    "arguments": {"task": ARGUMENT, "context": "for the report", "coworker": "Researcher"},
}


def a_crew_that_delegates() -> dict[str, Any]:
    definition = crew(task("report"))
    writer = {**definition["agents"]["writer"], "allow_delegation": True}
    return {**definition, "agents": {**definition["agents"], "writer": writer}}


def script(*calls: dict[str, Any], answer: str = ANSWER) -> dict[str, Any]:
    """The writer calls tools first; the researcher answers at once."""
    replies = [*({"toolCalls": [call], "repeat": 1} for call in calls), {"text": answer}]
    return {"rules": [{"match": {"user": "Do report"}, "replies": replies}], "default": {"text": RESULT}}


def told(finished: Finished) -> list[tuple[str, str, str | None]]:
    """Event, agent and tool of the lines between the crew's loading and the end."""
    lines = [(line["event"], line.get("agent", ""), line.get("tool")) for line in finished.lines]
    return [line for line in lines if not line[0].startswith(("run", "crew"))]


@pytest.mark.parametrize(
    ("level", "want_lines"),
    [
        pytest.param(
            "",
            [
                ("task_started", "Writer", None),
                ("llm_call_completed", "Writer", None),
                ("llm_call_completed", "Researcher", None),
                ("tool_completed", "Writer", "delegate_work_to_coworker"),
                ("llm_call_completed", "Writer", None),
                ("task_completed", "Writer", None),
            ],
            id="info, when nothing is said",
        ),
        pytest.param(
            "DEBUG",
            [
                ("task_started", "Writer", None),
                ("agent_started", "Writer", None),
                ("llm_call_started", "Writer", None),
                ("llm_call_completed", "Writer", None),
                ("tool_started", "Writer", "delegate_work_to_coworker"),
                ("agent_started", "Researcher", None),
                ("llm_call_started", "Researcher", None),
                ("llm_call_completed", "Researcher", None),
                ("agent_completed", "Researcher", None),
                ("tool_completed", "Writer", "delegate_work_to_coworker"),
                ("llm_call_started", "Writer", None),
                ("llm_call_completed", "Writer", None),
                ("agent_completed", "Writer", None),
                ("task_completed", "Writer", None),
            ],
            id="debug",
        ),
        pytest.param("warning", [], id="warning"),
    ],
)
def test_a_tool_is_told_of_as_far_as_the_level_says(
    runner: Runner, llm: ThreadedLLM, level: str, want_lines: list[tuple[str, str, str | None]]
) -> None:
    llm.set_script(script(DELEGATE))
    finished = runner.run(a_crew_that_delegates(), env={"LOG_LEVEL": level}, inputs={"topic": PROMPT})
    assert told(finished) == want_lines
    assert not [text for text in (PROMPT, ANSWER, ARGUMENT, RESULT) if text in finished.stdout + finished.stderr]
    assert {line.get("task") for line in finished.lines if "agent" in line} <= {"report"}
    ended = [line for line in finished.lines if line["event"].endswith("_completed")]
    assert all(line["durationSeconds"] >= 0 for line in ended)


def test_an_unknown_level_is_said_once_and_info_counts(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), env={"LOG_LEVEL": "loud"})
    complaints = [line["message"] for line in finished.lines if line["event"] == "log_level_unknown"]
    assert complaints == ["LOG_LEVEL is 'loud'; it must be one of debug, info, warning, error: info is used"]
    assert ("task_started", "Writer", None) in told(finished)
    assert not [line for line in finished.lines if line["level"] == "debug"]


def test_a_tool_that_fails_is_a_warning_and_the_agent_goes_on(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script(script({"name": "no_such_tool", "arguments": {}}))
    finished = runner.run(a_crew_that_delegates())
    (line,) = [line for line in finished.lines if line["event"] == "tool_failed"]
    assert (line["level"], line["tool"], line["error"]) == ("warning", "no_such_tool", "unknown_tool")
    assert finished.lines[-1]["event"] == "run_completed"


def test_a_call_that_fails_is_told_of_once_with_the_class_of_its_error(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"fault": {"status": 401, "echoKey": True}}})
    finished = runner.run(crew())
    want_lines = [
        ("llm_call_failed", "warning", "AuthenticationError"),
        ("agent_failed", "warning", "AuthenticationError"),
        ("task_failed", "error", "AuthenticationError"),
        ("run_failed", "error", "AuthenticationError"),
    ]
    failed = [line for line in finished.lines if line["event"].endswith("_failed")]
    assert [(line["event"], line["level"], line["error"]) for line in failed] == want_lines
    assert failed[0]["model"] == "openai/gpt-4o"
    assert KEY not in finished.everything


def test_a_guardrail_that_refuses_is_told_of(runner: Runner, llm: ThreadedLLM) -> None:
    refusal = '{"valid": false, "feedback": "too short"}'
    llm.set_script({"rules": [{"match": {"anyMessage": "(?i)guardrail"}, "replies": [{"text": refusal}]}]})
    finished = runner.run(crew(task("report", guardrail="At least a page.", guardrail_max_retries=0)))
    (line,) = [line for line in finished.lines if line["event"].startswith("guardrail")]
    assert (line["event"], line["task"], line["error"]) == ("guardrail_failed", "report", "Refused")
    assert "too short" not in finished.stdout


def test_a_verbose_run_shows_what_was_said_and_no_secret(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script(script(DELEGATE, answer=f"{ANSWER} with {KEY}"))
    finished = runner.run(a_crew_that_delegates(), verbose=True, inputs={"topic": f"{PROMPT} {KEY}"})
    (tool,) = [line for line in finished.lines if line["event"] == "tool_completed"]
    assert ARGUMENT in tool["arguments"] and tool["result"] == RESULT
    first, delegated, last = [line for line in finished.lines if line["event"] == "llm_call_completed"]
    assert f"Do report on {PROMPT} [redacted]." in first["prompt"]
    assert ARGUMENT in delegated["prompt"] and delegated["answer"] == RESULT
    assert last["prompt"].startswith("tool: ") and RESULT in last["prompt"]
    assert last["answer"] == f"{ANSWER} with [redacted]"
    assert KEY not in finished.everything


def test_a_long_text_is_cut_after_it_was_redacted(runner: Runner, llm: ThreadedLLM) -> None:
    answer = "x" * (TEXT_LIMIT_BYTES - 8) + KEY + "y" * 5000
    llm.set_script({"default": {"text": answer}})
    finished = runner.run(crew(), verbose=True)
    (line,) = [line for line in finished.lines if line["event"] == "llm_call_completed"]
    assert KEY[:8] not in line["answer"]
    assert line["answer"].startswith("x" * (TEXT_LIMIT_BYTES - 8) + "[redacte ... [cut: ")

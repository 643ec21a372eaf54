"""What a definition may not carry."""

from typing import Any

import pytest

from crewrun_api.reasons import Reason
from crewrun_runner.definition import check
from crewrun_runner.refusal import Refusal

AGENT = {"role": "Writer", "goal": "Explain {topic}", "backstory": "Concise."}
TASK = {"name": "report", "description": "Write on {topic}.", "expected_output": "Text.", "agent": "writer"}


def crew(agent: dict[str, Any] | None = None, task: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"agents": {"writer": {**AGENT, **(agent or {})}}, "tasks": [{**TASK, **(task or {})}]} | fields


def refusal(definition: dict[str, Any], inputs: dict[str, Any] | None = None, *installed: str) -> Refusal | None:
    try:
        check(definition, {"topic": "AI"} if inputs is None else inputs, lambda module: module in installed)
    except Refusal as found:
        return found
    return None


ALLOWED: list[dict[str, Any]] = [
    crew(),
    crew(memory=False, planning=False, knowledge_sources=[], tracing=None),
    crew(task={"async_execution": True, "output_file": "{topic}.md", "guardrail": "A page at least."}),
    crew(agent={"llm": {"model": "openai/gpt-4o", "max_tokens": 10}, "max_iter": 3, "tools": []}),
    crew(inputs={"python": "3.11", "nested": {"python": "x.y"}}),
    {"agents": [{"name": "writer", **AGENT}], "tasks": [TASK]},
    {"agents": {"python": AGENT}, "tasks": [{**TASK, "agent": "python"}]},
    crew(task={"description": 'Answer as JSON: {"key": "value"}'}),
]


@pytest.mark.parametrize("definition", ALLOWED, ids=str)
def test_what_crewai_can_run_from_data_alone_passes(definition: dict[str, Any]) -> None:
    assert refusal(definition) is None


CREW = Reason.INVALID_CREW
REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    (crew(agent={"tools": ["custom:shell"]}), CREW, "definition.agents.writer.tools[0]: custom:shell runs Python"),
    (crew(task={"tools": [{"tool_type": "os.system"}]}), CREW, "definition.tasks[0].tools[0]: a tool as an object"),
    (crew(task={"tools": ["platform:gmail"]}), CREW, "needs CrewAI's own platform"),
    (crew(task={"tools": ["SerperDevTool"]}), CREW, "leaves out crewai[tools]"),
    (crew(task={"tools": ["acme.tools:Search"]}), CREW, "the image has no module acme"),
    (crew(agent={"type": {"python": "a.B"}}), CREW, "definition.agents.writer.type: {python: a.B} runs Python"),
    (crew(agent={"llm": {"model": "m", "client": {"python": "a.b"}}}), CREW, "definition.agents.writer.llm.client"),
    (crew(manager_agent={"python": "a.b"}), CREW, "definition.manager_agent: {python: a.b}"),
    (crew(before_kickoff_callbacks=["os.system"]), CREW, "definition.before_kickoff_callbacks: runs Python"),
    (crew(task={"callback": "os.system"}), CREW, "definition.tasks[0].callback: runs Python"),
    (crew(agent={"settings": {"step_callback": "os.system"}}), CREW, "definition.agents.writer.settings.step_callback"),
    (crew(memory=True), CREW, "definition.memory: the runner image leaves out lancedb"),
    (crew(agent={"knowledge_sources": [{}]}), CREW, "knowledge_sources: the runner image leaves out chromadb"),
    (crew(agent={"mcps": ["https://x"]}), CREW, "mcps: the runner image leaves out mcp"),
    (crew(planning=True), CREW, "definition.planning: is not supported yet"),
    (crew(agent={"from_repository": "x"}), CREW, "loads the agent from CrewAI's own platform"),
    (crew(agent={"allow_code_execution": True}), CREW, "runs code that a model wrote"),
    (crew(tracing=True), CREW, "definition.tracing: sends prompts and answers to CrewAI"),
    (crew(checkpoint=True), CREW, "definition.checkpoint: would write API keys"),
    (crew(task={"human_input": True}), Reason.INPUT_REQUIRED, "definition.tasks[0].human_input: asks a person"),
    (crew(task={"description": "For {audience}."}), Reason.INVALID_INPUTS, "tasks[0].description uses {audience}"),
    ({"agents": [{"w": {**AGENT, "goal": "{x}"}}], "tasks": [TASK]}, Reason.INVALID_INPUTS, "agents[0].goal uses {x}"),
    (crew(process="hierarchical", tasks=[{**TASK, "async_execution": True}] * 2), CREW, "tasks[1].async_execution"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "want", "text"), REFUSED, ids=[text for *_, text in REFUSED])
def test_a_refusal_names_the_path_and_the_way_out(definition: dict[str, Any], want: Reason, text: str) -> None:
    found = refusal(definition)
    assert found is not None
    assert found.reason is want
    assert text in found.message


def test_an_image_that_has_the_package_may_use_it() -> None:
    assert refusal(crew(memory=True), None, "lancedb") is None
    assert refusal(crew(task={"tools": ["acme.tools:Search", "SerperDevTool"]}), None, "acme", "crewai_tools") is None


SERVERS: list[tuple[object, str | None]] = [
    ({"url": "http://towns.team-a.svc/mcp"}, None),
    ("https://towns.example/mcp#population", None),
    ({"command": "sh", "args": ["-c", "id"]}, "definition.agents.writer.mcps[0].command: runs a program"),
    ("notion", "definition.agents.writer.mcps[0]: notion needs CrewAI's own platform"),
    ("crewai-amp:notion#search", "needs CrewAI's own platform"),
]


@pytest.mark.parametrize(("server", "want"), SERVERS, ids=str)
def test_an_mcp_server_is_an_address(server: object, want: str | None) -> None:
    found = refusal(crew(agent={"mcps": [server]}), None, "mcp")
    assert found is None if want is None else found is not None and want in found.message


def test_with_no_inputs_at_all_a_template_variable_is_still_missing() -> None:
    found = refusal(crew(), {})
    assert found is not None and found.reason is Reason.INVALID_INPUTS


@pytest.mark.parametrize("broken", [{}, {"agents": None, "tasks": 3}, {"agents": "x", "tasks": ["y"]}], ids=str)
def test_a_shape_that_is_wrong_is_left_to_crewais_loader(broken: dict[str, Any]) -> None:
    assert refusal(broken) is None


PYTHON: list[dict[str, Any]] = [
    crew(agent={"tools": ["custom:shell", {"tool_type": "mine.Tool"}]}),
    crew(agent={"type": {"python": "a.B"}}, before_kickoff_callbacks=[{"python": "a.b"}]),
    crew(task={"callback": "mine.seen", "output_pydantic": {"python": "a.B"}}),
]


@pytest.mark.parametrize("definition", PYTHON, ids=str)
def test_python_passes_where_the_profile_allows_it(definition: dict[str, Any]) -> None:
    assert refusal(definition) is not None
    check(definition, {"topic": "AI"}, lambda _: False, allow_python=True)


def test_what_the_image_cannot_do_is_refused_where_python_is_allowed_too() -> None:
    with pytest.raises(Refusal, match="leaves out lancedb"):
        check(crew(memory=True), {"topic": "AI"}, lambda _: False, allow_python=True)

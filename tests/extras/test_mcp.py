"""A crew whose agent uses a server of the Model Context Protocol, with the extra mcp."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from crewrun_api.reasons import Outcome, Reason
from crewrun_testing import ThreadedLLM
from tests.extras.mcp_server import McpServer
from tests.runner.harness import Runner, runner_python, task


@pytest.fixture
def runner(tmp_path: Path, llm: ThreadedLLM) -> Runner:
    return Runner(runner_python("mcp"), tmp_path, llm.base_url)


def crew_with(url: str) -> dict[str, Any]:
    agent = {"role": "Researcher", "goal": "Find out about {topic}", "backstory": "Careful.", "mcps": [{"url": url}]}
    return {"agents": {"researcher": agent}, "tasks": [task("report", "researcher")]}


def test_an_agent_calls_a_tool_of_an_mcp_server(runner: Runner, llm: ThreadedLLM) -> None:
    with McpServer() as server:
        tool = f"mcp_127_0_0_1_{urlsplit(server.url).port}_mcp_population"
        call = {"toolCalls": [{"name": tool, "arguments": {"town": "Ulm"}}]}
        llm.set_script({"rules": [{"replies": [call, {"text": "48 people live there."}]}]})
        finished = runner.run(crew_with(server.url))
        assert server.calls == [{"name": "population", "arguments": {"town": "Ulm"}}]
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert finished.end.output is not None and finished.end.output.value == "48 people live there."


def test_a_server_that_cannot_be_reached_fails_the_run_before_a_call(runner: Runner, llm: ThreadedLLM) -> None:
    with McpServer() as server:
        url = server.url
    finished = runner.run(crew_with(url))
    assert finished.end.reason is Reason.TASK_FAILED
    assert "Failed to connect to MCP server" in finished.end.message
    assert llm.ledger.totals.calls == 0

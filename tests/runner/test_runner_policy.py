"""The policy's list for definitions knows every field of the pinned CrewAI: one that a new release brings is refused
by itself, and makes this test fail, so that somebody thinks about it. And no name of a model takes another's key."""

import json
import subprocess
from typing import Any

import pytest

from crewrun_api.allowed import AGENT, DEFINITION, LLM, MODEL, PROVIDERS, TASK
from crewrun_api.policy import UNBOUNDED
from crewrun_api.shapes import Fields
from tests.runner.harness import ROOT, runner_python

assert isinstance(LLM.fields, Fields)
ALLOWED: dict[str, Fields] = {"agent": AGENT, "task": TASK, "crew": DEFINITION, "llm": LLM.fields}
#: In the documents of the loader alone.
OF_THE_LOADER = {
    "agent": {"name", "settings", "tools", "type"},
    "task": {"type"},
    "crew": {"inputs"},
    "llm": {"timeout", "top_k"},
}
#: Thought about, and refused: they read or write files, reach other addresses, carry code or keys, hide fields from
#: the check, or are of no use in a runner.
REFUSED: dict[str, set[str]] = {
    "agent": {
        *("a2a", "agent_executor", "allow_code_execution", "apps", "callbacks", "checkpoint", "code_execution_mode"),
        *("config", "embedder", "entity_type", "executor_class", "from_repository", "i18n", "knowledge_config"),
        *("knowledge_sources", "max_reasoning_attempts", "mcps", "multimodal", "planning", "planning_config"),
        *("reasoning", "security_config", "skills", "step_callback"),
    },
    "task": {
        *("callback", "config", "converter_cls", "input_files", "output_json", "output_pydantic", "prompt_context"),
        *("response_model", "security_config"),
    },
    "crew": {
        *("after_kickoff_callbacks", "before_kickoff_callbacks", "chat_llm", "checkpoint", "config", "embedder"),
        *("entity_type", "knowledge", "knowledge_sources", "output_log_file", "planning", "planning_llm"),
        *("prompt_file", "security_config", "share_crew", "skills", "step_callback", "task_callback", "tracing"),
        "trained_agents_file",
    },
    "llm": {
        *("additional_params", "api", "api_base", "api_key", "auto_chain", "auto_chain_reasoning", "base_url"),
        *("builtin_tools", "client_params", "custom_openai", "default_headers", "default_query", "include"),
        *("instructions", "interceptor", "is_gpt4_model", "is_litellm", "is_o1_model", "llm_type", "logprobs", "n"),
        *("organization", "parse_tool_outputs", "prefer_upload", "previous_response_id", "project", "provider"),
        *("response_format", "store", "stream", "top_logprobs"),
    },
}
#: With slashes where a provider wants them, and names that each of them knows.
MODELS = [*(f"{provider}/{name}" for provider in PROVIDERS for name in ("x", "deepseek-x", "org/x", "gpt-4o"))]


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    environment = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner-image'}", "HOME": "/nonexistent"}
    command = [runner_python(), ROOT / "tests/runner/crewai_fields.py", json.dumps(MODELS)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("part", list(ALLOWED))
def test_each_field_of_crewai_is_allowed_or_refused_on_purpose(part: str, facts: dict[str, Any]) -> None:
    known = set(ALLOWED[part].fields) - OF_THE_LOADER[part] | REFUSED[part]
    assert set(facts["fields"][part]) - OF_THE_LOADER[part] == known


def test_no_model_that_may_be_named_takes_the_key_of_another_provider(facts: dict[str, Any]) -> None:
    assert all(MODEL.allows(model, UNBOUNDED) for model in MODELS)
    takes = {model.partition("/")[0] for model, key in facts["keys"].items() if key == "openai"}
    assert takes == {"openai"}

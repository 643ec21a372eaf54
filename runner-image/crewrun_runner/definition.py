"""What a definition may not carry, checked before crewai is imported. Purely computational.

Two kinds of things are refused: what would run Python out of a manifest, and what the runner image cannot do,
which CrewAI itself would notice late or not at all. The first finding names its path and the way out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crewrun_api import carried_python
from crewrun_api.carried_python import parts
from crewrun_api.reasons import Reason
from crewrun_runner.absent import advice
from crewrun_runner.refusal import Refusal
from crewrun_runner.servers import check_servers

#: Whether a top-level module can be imported in this image.
Installed = Callable[[str], bool]

#: Fields that need a module which the image may lack.
_NEEDS = {
    "memory": "lancedb",
    "embedder": "chromadb",
    "knowledge": "chromadb",
    "knowledge_sources": "chromadb",
    "knowledge_config": "chromadb",
    "mcps": "mcp",
    "input_files": "crewai_files",
}

#: Fields that cannot work in a runner, and what to do instead.
_UNUSABLE = {
    "a2a": "asks agents elsewhere, which is not supported; remove it",
    "apps": "needs CrewAI's own platform; remove it",
    "allow_code_execution": "runs code that a model wrote, which is not supported; remove it",
    "chat_llm": "is for a chat with a person; remove it",
    "checkpoint": "would write API keys to disk in plain text; remove it",
    "config": "hides fields from the checks; write them into the definition itself",
    "from_repository": "loads the agent from CrewAI's own platform; write it out in the definition",
    "output_log_file": "writes a file that goes with the Pod; read the runner's log instead, and remove it",
    "planning": "is not supported yet, since its LLM calls cannot be counted exactly; remove it",
    "planning_config": "is not supported yet, since its LLM calls cannot be counted exactly; remove it",
    "prompt_file": "names a file that the runner does not have; remove it",
    "reasoning": "is not supported yet, since its LLM calls cannot be counted exactly; remove it",
    "share_crew": "sends the crew to CrewAI; remove it",
    "skills": "names files that the runner does not have; remove it",
    "trained_agents_file": "names a file that the runner does not have; remove it",
    "tracing": "sends prompts and answers to CrewAI; remove it",
}

_TEMPLATE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_\-]*)\}")
_TEMPLATED = ("role", "goal", "backstory", "description", "expected_output", "output_file")


def check(
    definition: Mapping[str, Any], inputs: Mapping[str, Any], installed: Installed, allow_python: bool = False
) -> None:
    """Raises the first Refusal, if there is a reason for one."""
    if not allow_python:
        for where, what in carried_python.found(definition, "definition"):
            raise Refusal(Reason.INVALID_CREW, f"{where}: {what}")
    _fields(definition, "definition", installed, allow_python)
    for path, part in parts(definition, "definition"):
        _fields(part, path, installed, allow_python)
        _tools(part.get("tools"), f"{path}.tools", installed)
        if part.get("human_input"):
            raise Refusal(Reason.INPUT_REQUIRED, f"{path}.human_input: asks a person, and nobody is there; remove it")
    _parallel_manager(definition)
    _templates(definition, inputs)


def _fields(part: Mapping[str, Any], path: str, installed: Installed, allow_python: bool) -> None:
    """Raises a Refusal for the first field that asks for what cannot be had."""
    for field, value in part.items():
        if not value:  # an empty list or false asks for nothing
            continue
        if (module := _NEEDS.get(field)) and not installed(module):
            raise Refusal(Reason.INVALID_CREW, f"{path}.{field}: {advice(module)}")
        if field in _UNUSABLE:
            raise Refusal(Reason.INVALID_CREW, f"{path}.{field}: {_UNUSABLE[field]}")
        if field == "mcps":
            check_servers(value, f"{path}.mcps", allow_python)


def _tools(tools: object, path: str, installed: Installed) -> None:
    for index, tool in enumerate(tools if isinstance(tools, Sequence) and not isinstance(tools, str) else ()):
        where = f"{path}[{index}]"
        if not isinstance(tool, str) or tool.startswith("custom:"):
            continue  # Python, if it may be carried at all
        prefix, colon, _ = tool.partition(":")
        if colon and prefix == "platform":
            raise Refusal(Reason.INVALID_CREW, f"{where}: {tool} needs CrewAI's own platform; remove it")
        module = prefix.partition(".")[0] if colon else "crewai_tools"
        if not installed(module):
            known = module == "crewai_tools"
            raise Refusal(
                Reason.INVALID_CREW,
                f"{where}: {tool}: "
                + (advice(module) if known else f"the image has no module {module}; name in pod.image one that has"),
            )


def _parallel_manager(definition: Mapping[str, Any]) -> None:
    """CrewAI's one manager cannot work on two tasks at once: the second would fail at run time."""
    if definition.get("process") != "hierarchical":
        return
    tasks = definition.get("tasks")
    running = False
    for index, task in enumerate(tasks if isinstance(tasks, Sequence) else ()):
        parallel = isinstance(task, Mapping) and bool(task.get("async_execution"))
        if parallel and running:
            raise Refusal(
                Reason.INVALID_CREW,
                f"definition.tasks[{index}].async_execution: the manager of a hierarchical crew works on one "
                "task at a time; remove async_execution, or use process: sequential",
            )
        running = parallel


def _templates(definition: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """With no inputs at all CrewAI would send the braces to the model."""
    for path, part in parts(definition, "definition"):
        for field in _TEMPLATED:
            text = part.get(field)
            for name in _TEMPLATE.findall(text) if isinstance(text, str) else ():
                if name not in inputs:
                    raise Refusal(Reason.INVALID_INPUTS, f"{path}.{field} uses {{{name}}}: give an input of this name")

"""What a definition may not carry, checked before crewai is imported. Purely computational.

Two kinds of things are refused: what would run Python out of a manifest, and what the runner image cannot do,
which CrewAI itself would notice late or not at all. The first finding names its path and the way out.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from crewrun_api.reasons import Reason
from crewrun_runner.absent import advice
from crewrun_runner.refusal import Refusal

#: Whether a top-level module can be imported in this image.
Installed = Callable[[str], bool]

_PYTHON = "runs Python, and a definition is data alone: put the code in an image of your own"
_CALLABLE = {
    "callback",
    "callbacks",
    "condition",
    "step_callback",
    "task_callback",
    "before_kickoff_callbacks",
    "after_kickoff_callbacks",
    "converter_cls",
    "executor_class",
    "agent_executor",
}

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


def check(definition: Mapping[str, Any], inputs: Mapping[str, Any], installed: Installed) -> None:
    """Raises the first Refusal, if there is a reason for one."""
    _python_references(definition, "definition")
    _fields(definition, "definition", installed)
    for path, part in parts(definition):
        _fields(part, path, installed)
        _tools(part.get("tools"), f"{path}.tools", installed)
        if part.get("human_input"):
            raise Refusal(Reason.INPUT_REQUIRED, f"{path}.human_input: asks a person, and nobody is there; remove it")
    _parallel_manager(definition)
    _templates(definition, inputs)


def parts(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every agent, its settings and every task, with its path."""
    for path, agent in agents(definition):
        yield path, agent
        if isinstance(settings := agent.get("settings"), Mapping):
            yield f"{path}.settings", settings
    tasks = definition.get("tasks")
    for index, task in enumerate(tasks if isinstance(tasks, Sequence) else ()):
        if isinstance(task, Mapping):
            yield f"definition.tasks[{index}]", task


def agents(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every agent with its path: CrewAI takes them by name, or as a list."""
    given = definition.get("agents")
    if isinstance(given, Mapping):
        named = [(f"definition.agents.{name}", agent) for name, agent in given.items()]
    else:
        listed = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
        named = [(f"definition.agents[{index}]", _unwrapped(agent)) for index, agent in enumerate(listed)]
    for path, agent in named:
        if isinstance(agent, Mapping):
            yield path, agent


def _unwrapped(agent: object) -> object:
    """An agent of a list is {name: ..., role: ...} or {researcher: {role: ...}}."""
    if isinstance(agent, Mapping) and "name" not in agent and len(agent) == 1:
        return next(iter(agent.values()))
    return agent


def _python_references(value: object, path: str) -> None:
    """`{python: module.name}` counts anywhere but in the inputs, which are the crew author's own data."""
    if isinstance(value, Mapping):
        if isinstance(value.get("python"), str):
            raise Refusal(Reason.INVALID_CREW, f"{path}: {{python: {value['python']}}} {_PYTHON}")
        for key, item in value.items():
            if path != "definition" or key != "inputs":
                _python_references(item, f"{path}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            _python_references(item, f"{path}[{index}]")


def _fields(part: Mapping[str, Any], path: str, installed: Installed) -> None:
    for field, value in part.items():
        if not value:  # an empty list or false asks for nothing
            continue
        if field in _CALLABLE:
            raise Refusal(Reason.INVALID_CREW, f"{path}.{field}: {_PYTHON}")
        if (module := _NEEDS.get(field)) and not installed(module):
            raise Refusal(Reason.INVALID_CREW, f"{path}.{field}: {advice(module)}")
        if field in _UNUSABLE:
            raise Refusal(Reason.INVALID_CREW, f"{path}.{field}: {_UNUSABLE[field]}")


def _tools(tools: object, path: str, installed: Installed) -> None:
    for index, tool in enumerate(tools if isinstance(tools, Sequence) and not isinstance(tools, str) else ()):
        where = f"{path}[{index}]"
        if not isinstance(tool, str):
            raise Refusal(Reason.INVALID_CREW, f"{where}: a tool as an object {_PYTHON}, and name it as module:Class")
        prefix, colon, _ = tool.partition(":")
        if colon and prefix == "custom":
            raise Refusal(Reason.INVALID_CREW, f"{where}: {tool} {_PYTHON}, and name it as module:Class")
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
    for path, part in parts(definition):
        for field in _TEMPLATED:
            text = part.get(field)
            for name in _TEMPLATE.findall(text) if isinstance(text, str) else ():
                if name not in inputs:
                    raise Refusal(Reason.INVALID_INPUTS, f"{path}.{field} uses {{{name}}}: give an input of this name")

"""Where a crew definition carries Python: what the operator and the runner refuse alike. Purely computational.

A manifest is data, and whoever may write one must not be able to run code of their own by it, unless the profile
says so. Data that only looks odd is no concern of this module.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PYTHON = (
    "runs Python, and a definition is data alone unless the CrewProfile says allowPython: "
    "put the code in an image of your own"
)
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


def found(definition: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Each place that carries Python, below `path`, and what is wrong with it. References come first."""
    yield from _references(definition, path, but="inputs")
    yield from _callables(definition, path)
    for where, part in parts(definition, path):
        yield from _callables(part, where)
        yield from _tools(part.get("tools"), f"{where}.tools")


def parts(definition: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every agent, its settings and every task, with its path."""
    for where, agent in _agents(definition, path):
        yield where, agent
        if isinstance(settings := agent.get("settings"), Mapping):
            yield f"{where}.settings", settings
    tasks = definition.get("tasks")
    for index, task in enumerate(tasks if isinstance(tasks, Sequence) else ()):
        if isinstance(task, Mapping):
            yield f"{path}.tasks[{index}]", task


def _agents(definition: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every agent with its path: CrewAI takes them by name, or as a list."""
    given = definition.get("agents")
    if isinstance(given, Mapping):
        named = [(f"{path}.agents.{name}", agent) for name, agent in given.items()]
    else:
        listed = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
        named = [(f"{path}.agents[{index}]", _unwrapped(agent)) for index, agent in enumerate(listed)]
    for where, agent in named:
        if isinstance(agent, Mapping):
            yield where, agent


def _unwrapped(agent: object) -> object:
    """An agent of a list is {name: ..., role: ...} or {researcher: {role: ...}}."""
    if isinstance(agent, Mapping) and "name" not in agent and len(agent) == 1:
        return next(iter(agent.values()))
    return agent


def _references(value: object, path: str, but: str | None = None) -> Iterator[tuple[str, str]]:
    """`{python: module.name}` counts anywhere but in the inputs, which are the crew author's own data."""
    if isinstance(value, Mapping):
        if isinstance(value.get("python"), str):
            yield path, f"{{python: {value['python']}}} {_PYTHON}"
        for key, item in value.items():
            if key != but:
                yield from _references(item, f"{path}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _references(item, f"{path}[{index}]")


def _callables(part: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Fields that name a function. An empty list or false asks for nothing."""
    yield from ((f"{path}.{field}", _PYTHON) for field, value in part.items() if value and field in _CALLABLE)


def _tools(tools: object, path: str) -> Iterator[tuple[str, str]]:
    for index, tool in enumerate(tools if isinstance(tools, Sequence) and not isinstance(tools, str) else ()):
        if not isinstance(tool, str):
            yield f"{path}[{index}]", f"a tool as an object {_PYTHON}, and name it as module:Class"
        elif tool.startswith("custom:"):
            yield f"{path}[{index}]", f"{tool} {_PYTHON}, and name it as module:Class"

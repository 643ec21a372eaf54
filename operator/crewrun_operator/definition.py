"""Checks a CrewAI definition without CrewAI: does it load, and which inputs does it need?

Purely computational. It refuses what CrewAI's loader would refuse, before any Pod starts, and says where.
What needs CrewAI itself (a tool's arguments, a model's name) is left to the runner.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_\-]*)}")  # what CrewAI itself replaces
_AGENT_TEXTS = ("role", "goal", "backstory")
_TASK_TEXTS = ("description", "expected_output", "output_file")
_PROCESSES = ("sequential", "hierarchical")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, and the path of the field it is in."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskOutline:
    """A task's name and the role of its agent, for the status."""

    name: str
    agent: str


def problems(definition: Mapping[str, Any], path: str) -> list[Problem]:
    """Everything that keeps the definition from being loaded."""
    return [
        *_agent_problems(definition, path),
        *_task_problems(definition, path),
        *_crew_problems(definition, path),
    ]


def variables(definition: Mapping[str, Any], path: str) -> dict[str, str]:
    """The template variables, each with the path of the first field that uses it."""
    found: dict[str, str] = {}
    for where, text in _texts(definition, path):
        for variable in _VARIABLE.findall(text):
            found.setdefault(variable, where)
    return found


def outline(definition: Mapping[str, Any]) -> list[TaskOutline]:
    """The tasks in order. One without a name is called by its position, from 1."""
    agents = agents_of(definition)
    return [
        TaskOutline(
            name=str(task.get("name") or f"task-{number}"),
            agent=str(agents.get(str(task.get("agent")), {}).get("role", "")),
        )
        for number, task in enumerate(definition["tasks"], start=1)
    ]


def agents_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The agents by name; CrewAI takes a list of named agents too."""
    agents = definition.get("agents")
    if not isinstance(agents, list):
        return dict(agents) if isinstance(agents, Mapping) else {}
    named: dict[str, Any] = {}
    for agent in agents:
        if isinstance(agent, Mapping) and "name" in agent:
            named[str(agent["name"])] = {key: value for key, value in agent.items() if key != "name"}
        elif isinstance(agent, Mapping) and len(agent) == 1:
            named.update(agent)
    return named


def _agent_problems(definition: Mapping[str, Any], path: str) -> Iterator[Problem]:
    agents = agents_of(definition)
    if not agents:
        yield Problem(f"{path}.agents", "must name at least one agent, each with role, goal and backstory")
    for name, agent in agents.items():
        where = f"{path}.agents.{name}"
        if not isinstance(agent, Mapping):
            yield Problem(where, "must be an object with role, goal and backstory")
            continue
        if "from_repository" in agent:
            continue  # the repository supplies what is missing
        yield from _required_texts(agent, _AGENT_TEXTS, where)


def _task_problems(definition: Mapping[str, Any], path: str) -> Iterator[Problem]:
    tasks = definition.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        yield Problem(f"{path}.tasks", "must be a list with at least one task")
        return
    agents, earlier = agents_of(definition), set[str]()
    hierarchical = definition.get("process") == "hierarchical"
    for index, task in enumerate(tasks):
        where = f"{path}.tasks[{index}]"
        if not isinstance(task, Mapping):
            yield Problem(where, "must be an object with description and expected_output")
            continue
        yield from _required_texts(task, ("description", "expected_output"), where)
        agent = task.get("agent")
        if agent is not None and not (isinstance(agent, str) and agent in agents):
            known = ", ".join(sorted(agents)) or "none"
            yield Problem(f"{where}.agent", f"there is no agent {agent!r}; the definition names {known}")
        if agent is None and not hierarchical:
            yield Problem(f"{where}.agent", "is required: in a sequential process each task names its agent")
        yield from _context_problems(task.get("context"), earlier, f"{where}.context")
        if isinstance(name := task.get("name"), str):
            if name in earlier:
                yield Problem(f"{where}.name", f"there is an earlier task {name!r}; names must differ")
            earlier.add(name)


def _context_problems(context: Any, earlier: set[str], where: str) -> Iterator[Problem]:
    if context is None:
        return
    if not isinstance(context, list):
        yield Problem(where, "must be a list of names of earlier tasks")
        return
    for index, name in enumerate(context):
        if not (isinstance(name, str) and name in earlier):
            known = ", ".join(sorted(earlier)) or "none"
            yield Problem(f"{where}[{index}]", f"there is no earlier task {name!r}; earlier tasks are {known}")


def _crew_problems(definition: Mapping[str, Any], path: str) -> Iterator[Problem]:
    process = definition.get("process", "sequential")
    if process not in _PROCESSES:
        yield Problem(f"{path}.process", f"{process!r} is not a process; use {' or '.join(_PROCESSES)}")
    if process == "hierarchical" and not (definition.get("manager_llm") or definition.get("manager_agent")):
        yield Problem(path, "a hierarchical process needs manager_llm or manager_agent")
    if not isinstance(definition.get("inputs", {}), Mapping):
        yield Problem(f"{path}.inputs", "must be an object with default inputs")


def _required_texts(body: Mapping[str, Any], fields: tuple[str, ...], where: str) -> Iterator[Problem]:
    for field in fields:
        value = body.get(field)
        if not isinstance(value, str) or not value.strip():
            yield Problem(f"{where}.{field}", "is required and must be a text")


def _texts(definition: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, agent in agents_of(definition).items():
        for field in _AGENT_TEXTS:
            if isinstance(text := agent.get(field), str):
                yield f"{path}.agents.{name}.{field}", text
    for index, task in enumerate(definition["tasks"]):
        for field in _TASK_TEXTS:
            if isinstance(text := task.get(field), str):
                yield f"{path}.tasks[{index}].{field}", text

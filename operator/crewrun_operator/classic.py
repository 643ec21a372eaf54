"""CrewAI's classic files as one crew definition. Purely computational: texts in, a definition out.

`agents.yaml` and `tasks.yaml` name agents and tasks by their keys; CrewAI's definition has the tasks as a list, and
the crew's own fields, here those of `crew.yaml`, beside both. Nothing is checked but the shape of the files: what
CrewAI wants of agents and tasks is checked as of any definition, and told with the file and the line.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from crewrun_operator.yaml_text import Unreadable, read

AGENTS, TASKS, CREW = "agents.yaml", "tasks.yaml", "crew.yaml"
REQUIRED = (AGENTS, TASKS)
_TASK = re.compile(r"\.tasks\[(\d+)\]")
#: What people fold over lines with `>`, which leaves a line break at its end.
_TEXTS = ("role", "goal", "backstory", "description", "expected_output")
_Lines = Mapping[tuple[str, ...], int]


class Malformed(Exception):
    """A file that is not what its name says; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Classic:
    """A definition that was written as files, and where each part of it is written."""

    definition: Mapping[str, Any]
    lines: Mapping[str, _Lines]

    def place(self, path: str) -> str:
        """File, line and key of a path in the definition, such as `.tasks[0].agent`."""
        if match := _TASK.match(path):
            name = self.definition["tasks"][int(match[1])]["name"]
            return self._at(TASKS, name, path[match.end() :])
        if path == ".tasks":
            return TASKS
        for name in sorted(self.definition["agents"], key=len, reverse=True):
            rest = path.removeprefix(f".agents.{name}")
            if rest != path and (not rest or rest[0] in ".["):
                return self._at(AGENTS, name, rest)
        return AGENTS if path == ".agents" else self._at(CREW, path.lstrip("."), "")

    def _at(self, file: str, key: str, rest: str) -> str:
        lines = self.lines[file]
        inner = re.split(r"[.\[]", rest.lstrip("."))[0]
        line = lines.get((key, inner)) or lines.get((key,)) or lines.get((re.split(r"[.\[]", key)[0],))
        return ": ".join(part for part in (file, f"line {line}" if line else "", f"{key}{rest}") if part)


@lru_cache(maxsize=16)
def convert(agents: str, tasks: str, crew: str) -> Classic:
    """The definition of these files; raises Malformed. Remembered, since one crew has many runs: nobody may change
    what comes out."""
    agents_by_name, agent_lines = _mapping(AGENTS, agents, "agents by name")
    tasks_by_name, task_lines = _mapping(TASKS, tasks, "tasks by name")
    own, crew_lines = _mapping(CREW, crew, "the crew's own fields", optional=True)
    for field, file in (("agents", AGENTS), ("tasks", TASKS)):
        if field in own:
            raise Malformed(f"{CREW}: line {crew_lines[field,]}: {field} belong into {file}")
    for name, task in tasks_by_name.items():
        if not isinstance(task, Mapping):
            message = "must be an object with description and expected_output"
            raise Malformed(f"{TASKS}: line {task_lines[name,]}: {name}: {message}")
        if task.get("name", name) != name:
            line = task_lines.get((name, "name"), task_lines[name,])
            raise Malformed(f"{TASKS}: line {line}: {name}.name: a task is called by its key; remove it")
    definition = {
        **own,
        "agents": {name: _trimmed(agent) for name, agent in agents_by_name.items()},
        "tasks": [{"name": name, **_trimmed(task)} for name, task in tasks_by_name.items()],
    }
    return Classic(definition, {AGENTS: agent_lines, TASKS: task_lines, CREW: crew_lines})


def _mapping(file: str, text: str, what: str, *, optional: bool = False) -> tuple[dict[str, Any], _Lines]:
    try:
        found = read(text)
    except Unreadable as error:
        raise Malformed(f"{file}: {error}") from None
    if found.value is None and optional:
        return {}, {}
    if not isinstance(found.value, dict):
        raise Malformed(f"{file}: line 1: must hold {what}")
    return found.value, found.lines


def _trimmed(body: Any) -> Any:
    if not isinstance(body, Mapping):
        return body
    return {key: value.strip() if key in _TEXTS and isinstance(value, str) else value for key, value in body.items()}

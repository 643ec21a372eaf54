"""Checks of a definition: every problem with the path of its field, and no exception for any document."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_operator.definition import TaskOutline, outline, problems, variables
from tests.unit.builders import DEFINITION

AGENT = {"role": "Writer", "goal": "Write.", "backstory": "Brief."}
TASK = {"name": "facts", "description": "List.", "expected_output": "Facts.", "agent": "writer"}


class DefinitionBuilder:
    def __init__(self) -> None:
        self._document: dict[str, Any] = {"agents": {"writer": {**AGENT}}, "tasks": [{**TASK}]}

    def with_(self, **values: Any) -> "DefinitionBuilder":
        self._document.update(values)
        return self

    def task(self, index: int = 0, **values: Any) -> "DefinitionBuilder":
        task = {**TASK, "name": f"task-{index}", **values}
        self._document["tasks"][index : index + 1] = [{k: v for k, v in task.items() if v is not ...}]
        return self

    def agent(self, name: str = "writer", **values: Any) -> "DefinitionBuilder":
        self._document["agents"][name] = {k: v for k, v in {**AGENT, **values}.items() if v is not ...}
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._document)


def a() -> DefinitionBuilder:
    return DefinitionBuilder()


def managed() -> DefinitionBuilder:
    return a().with_(process="hierarchical", manager_llm="gpt").task(agent=...)


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(a(), id="plain"),
        pytest.param(a().with_(agents=[{"name": "writer", **AGENT}]), id="list of named agents"),
        pytest.param(a().with_(agents=[{"writer": AGENT}]), id="list of agents by key"),
        pytest.param(a().agent(from_repository="x", role=..., goal=...), id="agent from a repository"),
        pytest.param(a().with_(process="hierarchical", manager_llm="gpt").task(agent=...), id="hierarchical"),
        pytest.param(a().with_(process="hierarchical", manager_agent="m"), id="hierarchical with an agent"),
        pytest.param(a().task(0).task(1, context=["task-0"]), id="context of an earlier task"),
        pytest.param(a().task(name=...), id="task without a name"),
        pytest.param(a().with_(inputs={"topic": "bees"}, planning=True), id="more of CrewAI's own fields"),
        pytest.param(a().with_(process="sequential"), id="process said"),
    ],
)
def test_a_definition_that_loads_has_no_problem(definition: DefinitionBuilder) -> None:
    assert problems(definition.build(), "spec.definition") == []


@pytest.mark.parametrize(
    ("definition", "want_problem"),
    [
        pytest.param(managed().with_(agents={}), ".agents: must name at least one agent", id="no agent"),
        pytest.param(managed().with_(agents="writer"), ".agents: must name at least one agent", id="agents of no kind"),
        pytest.param(a().with_(agents={"writer": "W"}), ".agents.writer: must be an object", id="agent of no kind"),
        pytest.param(a().agent(role=...), ".agents.writer.role: is required", id="agent without a role"),
        pytest.param(a().agent(goal=" "), ".agents.writer.goal: is required", id="agent with a blank goal"),
        pytest.param(a().agent(backstory=7), ".agents.writer.backstory: is required", id="backstory of no kind"),
        pytest.param(a().with_(tasks=[]), ".tasks: must be a list with at least one task", id="no task"),
        pytest.param(a().with_(tasks={"a": {}}), ".tasks: must be a list", id="tasks of no kind"),
        pytest.param(a().with_(tasks=["t"]), ".tasks[0]: must be an object", id="task of no kind"),
        pytest.param(a().task(description=...), ".tasks[0].description: is required", id="no description"),
        pytest.param(a().task(expected_output=""), ".tasks[0].expected_output: is required", id="no expected output"),
        pytest.param(a().task(agent="wrtier"), ".tasks[0].agent: there is no agent 'wrtier'; the definition names writ",
                     id="unknown agent"),
        pytest.param(a().task(agent=["writer"]), ".tasks[0].agent: there is no agent ['writer']", id="agent list"),
        pytest.param(a().task(agent={"name": "writer"}), ".tasks[0].agent: there is no agent {", id="agent in place"),
        pytest.param(a().task(agent=...), ".tasks[0].agent: is required", id="no agent in a sequential process"),
        pytest.param(a().task(0).task(1, name="task-0"), ".tasks[1].name: there is an earlier task 'task-0'",
                     id="two tasks of one name"),
        pytest.param(a().task(0, context=["task-1"]).task(1), ".tasks[0].context[0]: there is no earlier task 'task-1'",
                     id="context of a later task"),
        pytest.param(a().task(0, context=["task-0"]), ".tasks[0].context[0]: there is no earlier task",
                     id="context of itself"),
        pytest.param(a().task(context="task-0"), ".tasks[0].context: must be a list", id="context of no kind"),
        pytest.param(a().task(context=[{"name": "x"}]), ".tasks[0].context[0]: there is no earlier task",
                     id="context in place"),
        pytest.param(a().with_(process="parallel"), ".process: 'parallel' is not a process", id="unknown process"),
        pytest.param(a().with_(process=["sequential"]), ".process: ['sequential'] is not", id="process of no kind"),
        pytest.param(a().with_(process="hierarchical"), ": a hierarchical process needs manager_llm", id="no manager"),
        pytest.param(a().with_(inputs=["topic"]), ".inputs: must be an object", id="inputs of no kind"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_path(definition: DefinitionBuilder, want_problem: str) -> None:
    (found,) = problems(definition.build(), "spec.definition")
    assert str(found).startswith("spec.definition" + want_problem)


def test_all_problems_are_told_at_once() -> None:
    definition = a().agent(role=...).task(agent="x", description=...).with_(process="x").build()
    assert [problem.path for problem in problems(definition, "d")] == [
        "d.agents.writer.role",
        "d.tasks[0].description",
        "d.tasks[0].agent",
        "d.process",
    ]


def test_variables_are_those_that_crewai_replaces_each_with_its_first_place() -> None:
    definition = a().agent(goal="About {topic} and {depth_2}").task(description='{topic} {"json": 1} {1} {} {a-b}')
    assert variables(definition.build(), "d") == {
        "topic": "d.agents.writer.goal",
        "depth_2": "d.agents.writer.goal",
        "a-b": "d.tasks[0].description",
    }


def test_variables_stand_in_every_text_that_crewai_fills() -> None:
    agent = {"role": "{a}", "goal": "{b}", "backstory": "{c}", "llm": "{no}"}
    task = {**TASK, "description": "{d}", "expected_output": "{e}", "output_file": "{f}.md", "name": "{no}"}
    assert variables({"agents": {"x": agent}, "tasks": [task]}, "d").keys() == {"a", "b", "c", "d", "e", "f"}


def test_tasks_are_outlined_by_name_and_role() -> None:
    tasks = [{**TASK}, {**TASK, "name": None}, {"agent": None}]
    assert outline({**DEFINITION, "tasks": tasks}) == [
        TaskOutline("facts", "Writer"),
        TaskOutline("task-2", "Writer"),
        TaskOutline("task-3", ""),
    ]


_leaf = st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "writer", "facts", "{topic}", "x"])
_json = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "agent", "context", "role", "goal", "backstory", "description", "writer", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["agents", "tasks", "process", "inputs", "manager_llm"]),
        _json | st.lists(st.fixed_dictionaries({"agent": _json, "context": _json, "name": _json}), max_size=2),
    )
)
def test_no_document_raises(document: dict[str, Any]) -> None:
    if not problems(document, "d"):
        variables(document, "d")
        outline(document)

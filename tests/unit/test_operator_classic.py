"""Classic files: what they become, and that a fault is told with its file and line."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_operator.classic import Malformed, convert
from crewrun_operator.yaml_text import Unreadable, read
from tests.unit.builders import DEFINITION, classic_files

AGENTS = "writer:\n  role: Writer\n  goal: Write.\n  backstory: Brief.\n"
TASKS = "facts:\n  description: List.\n  expected_output: Facts.\n  agent: writer\n"


def bomb(levels: int) -> str:
    """A few lines that stand for nine to the power of `levels` texts."""
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    return first + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, levels))


@pytest.mark.parametrize(
    ("text", "want_value"),
    [
        pytest.param("a: 1\nb: [x, 1.5, true, null]", {"a": 1, "b": ["x", 1.5, True, None]}, id="plain values"),
        pytest.param("", None, id="nothing"),
        pytest.param("# words\n", None, id="a comment"),
        pytest.param("a: 2024-01-01", {"a": "2024-01-01"}, id="a date is a text"),
        pytest.param("a: yes\nb: 'yes'", {"a": True, "b": "yes"}, id="words of YAML 1.1, as CrewAI reads them"),
        pytest.param("a: >\n  two\n  lines\n", {"a": "two lines\n"}, id="a folded text"),
        pytest.param("a: &a {x: 1}\nb: *a", {"a": {"x": 1}, "b": {"x": 1}}, id="an alias"),
        pytest.param("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3", {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}},
                     id="merged keys, of which the own are stronger"),
        pytest.param("a: &a {<<: &b {x: 1}, x: 2}\nb: {<<: *a}\nc: *a", {"a": {"x": 2}, "b": {"x": 2}, "c": {"x": 2}},
                     id="merged keys of merged keys"),
        pytest.param(bomb(3), ..., id="aliases within bounds"),
        pytest.param("[" * 64 + "]" * 64, ..., id="as deep as may be"),
    ],
)  # fmt: skip
def test_yaml_is_read_as_plain_data(text: str, want_value: Any) -> None:
    found = read(text).value
    assert want_value is ... or found == want_value


@pytest.mark.parametrize(
    ("text", "want_fault"),
    [
        pytest.param("a: 1\nb: [1\nc", "line 4: while parsing a flow sequence", id="no YAML"),
        pytest.param("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice", id="a key twice"),
        pytest.param("a:\n  b: 1\n  b: 2", "line 3: the key 'b' stands twice", id="an inner key twice"),
        pytest.param("x: 1\n1: x", "line 2: the key 1 is not a text; put it in quotes", id="a number as a key"),
        pytest.param("no: x", "line 1: the key no is not a text", id="a truth value as a key"),
        pytest.param("? [a]\n: b", "line 1: a key is not a text", id="a list as a key"),
        pytest.param("a: 1\nb: !!python/object/apply:os.system [x]", "line 2: the tag !!python/object/apply:os.system",
                     id="Python"),
        pytest.param("a: !mine 1", "line 1: the tag !mine is not supported", id="a tag"),
        pytest.param("a: <<", "line 1: << is a key and no value", id="a merge that is none"),
        pytest.param("a: {<<: 3}", "line 1: while constructing a mapping", id="a merge of a number"),
        pytest.param(bomb(7), "line 5: holds too much, with every alias followed", id="a bomb"),
        pytest.param(f"a: &a '{'x' * 9000}'\nb: [{', '.join(['*a'] * 200)}]", "line 2: holds too much",
                     id="a bomb of one text"),
        pytest.param("[" + "1," * 10_000 + "]", "line 1: holds too much", id="too many values"),
        pytest.param("a: &a [*a]", "line 1: the alias *a stands within what it stands for", id="a circle"),
        pytest.param("a: *b", "line 1: the alias *b has no anchor before it", id="an alias of nothing"),
        pytest.param("[" * 65 + "]" * 65, "line 1: is nested more than 64 levels deep", id="too deep"),
        pytest.param("[" * 100_000, "line 1: is nested more than 64 levels deep", id="much too deep"),
        pytest.param(f"a: &a {'[' * 40}{']' * 40}\nb: {'[' * 30}*a{']' * 30}", "line 2: is nested more than 64 levels",
                     id="too deep by an alias"),
        pytest.param(f"a: &a [[{'[' * 30}{']' * 30}], 1]\nb: &b [[{'[' * 30}*a{']' * 30}]]",
                     "line 2: is nested more than 64", id="too deep by what came before the end of an anchor"),
        pytest.param("a: .inf", "line 1: the number .inf is out of range", id="infinity"),
        pytest.param("a: 1.0e+999", "line 1: the number 1.0e+999 is out of range", id="a float beyond floats"),
        pytest.param("a: 1" + "0" * 5000, "line 1: the number 1000", id="more digits than Python reads"),
        pytest.param("a: 0x" + "f" * 50_000, "line 1: the number 0xff", id="more digits than Python writes"),
        pytest.param("a: 1\n---\na: 2", "line 2: expected a single document", id="two documents"),
        pytest.param("a: 1\nb: \x00", "line 2: the character 0 cannot stand in YAML", id="a control character"),
        pytest.param("a: \ud800", "line 1: 'utf-8' codec can't encode", id="half a surrogate pair"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_line(text: str, want_fault: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert str(caught.value).startswith(want_fault)


def test_the_files_of_a_definition_become_that_definition() -> None:
    files = classic_files()
    assert convert(files["agents.yaml"], files["tasks.yaml"], "").definition == DEFINITION


def test_tasks_stand_in_the_order_of_their_file_and_the_crews_own_fields_beside_them() -> None:
    tasks = "b:\n  description: x\na:\n  description: y\n  context: [b]\n"
    found = convert(AGENTS, tasks, "process: hierarchical\nmanager_llm: openai/gpt-4o\nverbose: true\n").definition
    assert [task["name"] for task in found["tasks"]] == ["b", "a"]
    assert found["tasks"][1]["context"] == ["b"]
    assert (found["process"], found["manager_llm"], found["verbose"]) == ("hierarchical", "openai/gpt-4o", True)


@pytest.mark.parametrize("crew", ["", "\n", "# process: sequential\n"])
def test_a_crew_of_no_own_fields_is_no_fault(crew: str) -> None:
    assert convert(AGENTS, TASKS, crew).definition.keys() == {"agents", "tasks"}


def test_a_folded_text_loses_the_line_break_that_nobody_meant() -> None:
    found = convert("writer:\n  role: >\n    Senior\n    writer\n  llm: 'x '\n", TASKS, "").definition
    assert found["agents"]["writer"] == {"role": "Senior writer", "llm": "x "}


@pytest.mark.parametrize(
    ("agents", "tasks", "crew", "want_fault"),
    [
        pytest.param("a: [", TASKS, "", "agents.yaml: line 2: while parsing a flow", id="no YAML"),
        pytest.param("", TASKS, "", "agents.yaml: line 1: must hold agents by name", id="an empty file"),
        pytest.param("- writer", TASKS, "", "agents.yaml: line 1: must hold agents by name", id="a list of agents"),
        pytest.param(AGENTS, "- facts", "", "tasks.yaml: line 1: must hold tasks by name", id="a list of tasks"),
        pytest.param(AGENTS, TASKS + "more: words\n", "", "tasks.yaml: line 5: more: must be an object", id="a text"),
        pytest.param(AGENTS, "facts:\n  agent: a\n  name: other\n", "", "tasks.yaml: line 3: facts.name: a task is",
                     id="another name"),
        pytest.param(AGENTS, TASKS, "verbose", "crew.yaml: line 1: must hold the crew's own fields", id="a word"),
        pytest.param(AGENTS, TASKS, "verbose: true\nagents: {}", "crew.yaml: line 2: agents belong into agents.yaml",
                     id="agents of the crew"),
        pytest.param(AGENTS, TASKS, "tasks: []", "crew.yaml: line 1: tasks belong into tasks.yaml", id="its tasks"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_told_with_its_name_and_line(agents: str, tasks: str, crew: str, want_fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        convert(agents, tasks, crew)
    assert str(caught.value).startswith(want_fault)


@pytest.mark.parametrize(
    ("path", "want_place"),
    [
        (".agents", "agents.yaml"),
        (".agents.writer", "agents.yaml: line 2: writer"),
        (".agents.writer.goal", "agents.yaml: line 4: writer.goal"),
        (".agents.writer.tools[0]", "agents.yaml: line 2: writer.tools[0]"),
        (".agents.writer.b.goal", "agents.yaml: line 7: writer.b.goal"),
        (".tasks", "tasks.yaml"),
        (".tasks[1].agent", "tasks.yaml: line 6: more.agent"),
        (".tasks[1].context[0]", "tasks.yaml: line 5: more.context[0]"),
        (".process", "crew.yaml: line 2: process"),
        (".inputs.topic", "crew.yaml: line 3: inputs.topic"),
        (".planning", "crew.yaml: planning"),
        ("", "crew.yaml"),
    ],
)
def test_a_path_in_the_definition_is_told_by_where_it_is_written(path: str, want_place: str) -> None:
    agents = f"# words\n{AGENTS}writer.b:\n  goal: Write.\n"
    files = convert(agents, TASKS + "more:\n  agent: writer\n", "\nprocess: x\ninputs: {topic: y}\n")
    assert files.place(path) == want_place


_yaml = st.text(max_size=60) | st.recursive(
    st.sampled_from(["a", "1", "<<", "*x", "!t", "&x", "'", '"', "~", "2024-01-01", ".nan", "{", "-", ":", "|", "\t"]),
    lambda inner: st.lists(inner, max_size=4).flatmap(
        lambda some: st.sampled_from(["{}", "[{}]", "{{{}}}", "\n  {}", "a: {}", "&x {}"]).map(
            lambda shape: shape.format(", ".join(some))
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_yaml, _yaml, _yaml)
def test_no_file_raises_anything_but_what_it_should(agents: str, tasks: str, crew: str) -> None:
    try:
        found = convert(agents, tasks, crew)
    except Malformed as error:
        assert "yaml: line" in str(error)
    else:
        assert isinstance(found.definition["tasks"], list)

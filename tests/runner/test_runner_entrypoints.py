"""Crews, factories, @CrewBase classes and Flows that an image carries, with the real crewai."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome, OutputFormat, Reason, TaskState
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, ROOT, Finished, Runner, wait_for
from tests.runner.test_runner_resume import Drive, answer, asked, drive

__all__ = ["drive"]  # the fixture

EXAMPLE = ROOT / "examples/custom-image"
CREW, INPUTS = Reason.INVALID_CREW, Reason.INVALID_INPUTS

#: A module of a user: the names below are what entrypoints name.
MODULE = """
import json, os, pathlib
from crewai import Agent, Crew, LLM, Task
from crewai.flow import Flow, human_feedback, listen, start
from crewai.project import CrewBase, agent, crew, task
from pydantic import BaseModel

print("hello from an import")
print('{"event": "run_completed"}', flush=True)

def one(role="Writer", **fields):
    return Agent(role=role, goal="Explain {topic}", backstory="Concise.", **fields)

def do(name, agent, **fields):
    return Task(name=name, description=f"Do {name} on {{topic}}.", expected_output="Text.", agent=agent, **fields)

def make(**fields):
    writer = one()
    return Crew(agents=[writer], tasks=[do("facts", writer), do("report", writer, output_file="out.md")], **fields)

def keyed():
    writer = one(llm=LLM(model="openai/gpt-4o", api_key="canary-in-code"))
    return Crew(agents=[writer], tasks=[do("report", writer)])

def factory(hint: str = "x"):
    return make()

async def later():
    return make()

def parallel():
    writer = one()
    tasks = [do("facts", writer, async_execution=True), do("risks", writer, async_execution=True)]
    crew = Crew(agents=[writer], tasks=[*tasks, do("report", writer, context=tasks)])
    crew.before_kickoff_callbacks.append(lambda inputs: {**inputs, "topic": "MARS"})
    return crew

def settings():
    def kept(llm):
        return {k: getattr(llm, k, None) for k in ("model", "temperature", "timeout", "max_retries", "base_url")}
    own = LLM(model="openai/gpt-4o-mini", temperature=0.9, max_retries=3, timeout=5)
    agents = [one("plain"), one("named", llm="gpt-4o-mini"), one("own", llm=own, max_retry_limit=1)]
    crew = Crew(agents=agents, tasks=[do("report", agents[0])], max_rpm=7)
    seen = {a.role: {**kept(a.llm), "tries": a.max_retry_limit} for a in agents}
    seen["crew"] = {"max_rpm": crew.max_rpm, "cache": crew.cache, "environ": os.environ.get("MODEL")}
    pathlib.Path("seen.json").write_text(json.dumps(seen))
    return crew

class ObjectFlow(Flow):
    @start()
    def begin(self):
        return make().kickoff(inputs={"topic": self.state["topic"]})

    @listen(begin)
    async def end(self, first):
        second = await make().akickoff(inputs={"topic": "more " + self.state["topic"]})
        return first.raw + " and " + second.raw

class DirectFlow(Flow):
    @start()
    def begin(self):
        return LLM(model="openai/gpt-4o").call("Say it") + " " + one().kickoff("Say more").raw

class Typed(BaseModel):
    depth: int = 0

class TypedFlow(Flow[Typed]):
    @start()
    def begin(self):
        return {"depth": self.state.depth, "path": pathlib.Path("x")}

class AskingFlow(Flow):
    @start()
    def begin(self):
        self.ask("Which topic?")
        return make().kickoff(inputs={"topic": "x"}).raw

class ReviewedFlow(Flow):
    @start()
    @human_feedback(message="Good?")
    def begin(self):
        return "text"

class PlanningFlow(Flow):
    @start()
    def begin(self):
        return make(planning=True).kickoff(inputs={"topic": "x"}).raw

flow = ObjectFlow()
nothing = 42
made = make()

def gives_nothing():
    return None

def needs(topic, *, depth):
    return make()

class Needs:
    def __init__(self, topic):
        pass

def leaks():
    raise RuntimeError("key " + os.environ["OPENAI_API_KEY"] + " is bad")

def leaves():
    raise SystemExit(3)

def asks():
    writer = one()
    return Crew(agents=[writer], tasks=[do("report", writer, human_input=True)])

def plans():
    return make(planning=True)

def remembers():
    return make(memory=True)

def searches():
    import crewai_tools

def trees():
    import pandas

def claude():
    return Crew(agents=[one(llm="anthropic/claude-sonnet-4-5")], tasks=[])
"""
CRASHING = {"broken.py": "import sys\nx = unknown\n", "syntax.py": "def\n", "leaving.py": "import sys\nsys.exit(0)\n"}


@pytest.fixture
def app(tmp_path: Path) -> dict[str, str]:
    """The variables of a runner whose image has the module above, and some that cannot be imported."""
    folder = tmp_path / "app"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine/__init__.py").touch()
    (folder / "mine/crews.py").write_text(MODULE)
    (folder / "json.py").write_text("raise RuntimeError('a file of the user took the place of a module')")
    for name, text in CRASHING.items():
        (folder / "mine" / name).write_text(dedent(text))
    return {"CREWRUN_APP_DIR": str(folder)}


def run(runner: Runner, app: dict[str, str], name: str, **options: Any) -> Finished:
    return runner.run(None, entrypoint=f"mine.crews:{name}", env=app, **options)


def names(finished: Finished) -> list[tuple[str, TaskState]]:
    return [(task.name, task.state) for task in finished.end.tasks]


@pytest.mark.parametrize("name", ["made", "make", "factory", "later"])
def test_a_crew_runs_whichever_way_its_module_gives_it(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str], name: str
) -> None:
    answer(llm, facts="", report="the facts")
    finished = run(runner, app, name)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert names(finished) == [("facts", TaskState.SUCCEEDED), ("report", TaskState.SUCCEEDED)]
    assert finished.end.output is not None and finished.end.output.value == "the report"
    assert [used.model for used in finished.end.usage.by_model] == ["openai/gpt-4o"]
    assert finished.end.usage.total_tokens == llm.ledger.totals.total_tokens
    assert {line["run"] for line in finished.lines} == {"team-a/research-x7k2p"}
    assert "hello from an import" in finished.stderr


def test_the_example_crew_runs_with_what_the_profile_gives_it(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [], "default": {"text": "the report"}})
    target, env = "my_project.crew:ResearchCrew", {"CREWRUN_APP_DIR": str(EXAMPLE)}
    finished = runner.run(None, entrypoint=target, env=env, inputs={"topic": "AI"})
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert [(task.name, task.agent) for task in finished.end.tasks] == [
        ("facts", "Senior researcher"),
        ("report", "Writer"),
    ]


def test_the_example_flow_runs_its_crew_until_the_report_is_short(runner: Runner, llm: ThreadedLLM) -> None:
    reports = [{"text": "word " * 501}, {"text": "short"}]
    rules = [{"name": "report", "match": {"user": "Write a report about AI"}, "replies": reports}]
    llm.set_script({"rules": rules, "default": {"text": "facts"}})
    target, env = "my_project.flow:ReportFlow", {"CREWRUN_APP_DIR": str(EXAMPLE)}
    finished = runner.run(None, entrypoint=target, env=env, inputs={"topic": "AI"})
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert [task.name for task in finished.end.tasks] == ["facts", "report", "facts", "report"]
    assert finished.end.output is not None and finished.end.output.format is OutputFormat.JSON
    assert json.loads(finished.end.output.value) == {"report": "short", "tries": 2}


def test_what_the_code_leaves_out_comes_from_the_settings_and_what_it_says_is_stronger(
    runner: Runner, tmp_path: Path, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    answer(llm, report="")
    settings = {"temperature": 0.5, "timeoutSeconds": 60, "maxRetries": 1}
    finished = run(runner, app, "settings", llm=settings, maxRPM=10)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    want = {"temperature": 0.5, "timeout": 60, "max_retries": 1, "base_url": llm.base_url, "tries": 0}
    own = {"temperature": 0.9, "timeout": 5, "max_retries": 3, "base_url": llm.base_url, "tries": 1}
    assert json.loads((tmp_path / "home/seen.json").read_text()) == {
        "plain": {"model": "gpt-4o", **want},
        "named": {"model": "gpt-4o-mini", **want},
        "own": {"model": "gpt-4o-mini", **own},
        "crew": {"max_rpm": 7, "cache": True, "environ": "openai/gpt-4o"},
    }


def test_a_key_that_only_the_code_knows_is_masked(runner: Runner, llm: ThreadedLLM, app: dict[str, str]) -> None:
    llm.set_script({"rules": [], "default": {"text": "my key is canary-in-code"}})
    finished = run(runner, app, "keyed")
    assert finished.end.output is not None and finished.end.output.value == "my key is [redacted]"
    assert "canary-in-code" not in finished.everything


def test_a_crew_without_any_model_is_refused(runner: Runner, llm: ThreadedLLM, app: dict[str, str]) -> None:
    finished = run(runner, app, "factory", llm={"model": None})
    assert (finished.end.reason, llm.ledger.totals.calls) == (CREW, 0)
    assert "an agent names no model" in finished.end.message


def test_parallel_tasks_of_one_agent_get_the_inputs_that_the_crews_own_callback_made(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    rules = [
        {"name": name, "match": {"system": "Explain MARS", "user": f"Do {name} on MARS"}, "replies": [{"text": name}]}
        for name in ("facts", "risks", "report")
    ]
    llm.set_script({"rules": rules, "default": {"fault": {"status": 400}}})
    finished = run(runner, app, "parallel")
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert sorted(name or "" for name in asked(llm)) == ["facts", "report", "risks"]


def test_a_crew_of_an_image_goes_on_at_its_first_unfinished_task(
    drive: Drive, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    answer(llm, facts="")
    first = drive(None, entrypoint="mine.crews:factory", env=app)
    assert (asked(llm), [kept["record"]["name"] for kept in first["finished"]]) == (["facts", "default"], ["facts"])
    answer(llm, report="the facts")
    second = drive(None, {"finished": first["finished"]}, entrypoint="mine.crews:factory", env=app)
    assert (asked(llm), second["answer"]) == (["report"], "the report")
    assert [file["name"] for file in second["files"]] == ["out.md"]


def test_a_checkpoint_of_other_code_is_not_used(drive: Drive, llm: ThreadedLLM, app: dict[str, str]) -> None:
    answer(llm, facts="")
    kept = drive(None, entrypoint="mine.crews:factory", env=app)["finished"]
    kept[0]["record"]["name"] = "sources"
    seen = drive(None, {"finished": kept}, entrypoint="mine.crews:factory", env=app)
    assert "has task sources where the crew has facts" in seen["unusable"]


def test_a_flow_tells_of_the_tasks_of_its_crews_and_starts_from_its_beginning(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    llm.set_script({"rules": [], "default": {"text": "text"}})
    finished = run(runner, app, "flow")
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert names(finished) == [(name, TaskState.SUCCEEDED) for name in ("facts", "report", "facts", "report")]
    assert all(task.total_tokens > 0 and task.agent == "Writer" for task in finished.end.tasks)
    assert finished.end.usage.total_tokens == llm.ledger.totals.total_tokens
    assert finished.end.output is not None and finished.end.output.value == "text and text"
    assert "a Flow starts from its beginning: " in finished.end.checkpoint_refused


def test_calls_that_a_flow_makes_without_a_task_are_counted(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str]
) -> None:
    llm.set_script({"rules": [], "default": {"text": "text"}})
    finished = run(runner, app, "DirectFlow")
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert finished.end.output is not None and finished.end.output.value == "text text"
    usage = finished.end.usage
    assert (usage.requests, usage.incomplete, finished.end.tasks) == (2, False, [])
    assert usage.total_tokens == llm.ledger.totals.total_tokens


def test_a_flow_ends_like_a_crew_when_its_model_fails(runner: Runner, llm: ThreadedLLM, app: dict[str, str]) -> None:
    answer(llm, facts="")
    finished = run(runner, app, "ObjectFlow")
    assert (finished.exit_code, finished.end.reason) == (ExitCode.LLM_PERMANENT, Reason.LLM_BAD_REQUEST)
    assert "task report, agent Writer, model openai/gpt-4o" in finished.end.message
    assert names(finished) == [("facts", TaskState.SUCCEEDED), ("report", TaskState.FAILED)]


def test_a_flow_that_is_stopped_makes_no_further_call(runner: Runner, llm: ThreadedLLM, app: dict[str, str]) -> None:
    llm.set_script({"rules": [], "default": {"text": "text", "delaySeconds": 1}})
    running = runner.start(None, entrypoint="mine.crews:flow", env=app)
    wait_for(lambda: llm.ledger.totals.calls == 1)
    running.stop()
    finished = running.finish()
    assert (finished.exit_code, finished.end.outcome) == (ExitCode.STOPPED, Outcome.STOPPED)
    assert (llm.ledger.totals.calls, finished.end.usage.requests) == (1, 1)


def test_what_a_flow_returns_is_its_answer(runner: Runner, app: dict[str, str]) -> None:
    finished = run(runner, app, "TypedFlow", inputs={"depth": 3})
    assert finished.end.output is not None, finished.end.message
    assert finished.end.output.format is OutputFormat.JSON
    assert json.loads(finished.end.output.value) == {"depth": 3, "path": "x"}


REFUSED = [
    ("mine.crews", CREW, "must be package.module:Name"),
    ("mine.crewz:made", CREW, "entrypoint mine.crewz:made: there is no module mine.crewz; put its package into /app"),
    ("other.crews:made", CREW, "there is no module other"),
    ("mine.crews:crewz", CREW, "mine.crews has no crewz; it has "),
    ("mine.crews:nothing", CREW, "is an object of class int; it must be a Crew, a function that returns one"),
    ("mine.crews:gives_nothing", CREW, "gives an object of class NoneType"),
    ("mine.crews:needs", CREW, "needs arguments (topic, depth)"),
    ("mine.crews:Needs", CREW, "needs arguments (topic)"),
    ("mine.crews:leaks", CREW, "RuntimeError: key [redacted] is bad"),
    ("mine.crews:leaks", CREW, "mine/crews.py, line "),
    ("mine.crews:leaves", CREW, "SystemExit: 3; remove the call of sys.exit()"),
    ("mine.broken:made", CREW, "mine/broken.py, line 2: NameError: name 'unknown' is not defined"),
    ("mine.syntax:made", CREW, "mine/syntax.py, line 1: SyntaxError"),
    ("mine.leaving:made", CREW, "importing it failed in "),
    ("mine.crews:asks", Reason.INPUT_REQUIRED, "crew.tasks[0].human_input: asks a person"),
    ("mine.crews:plans", CREW, "crew.planning: is not supported yet"),
    ("mine.crews:remembers", CREW, "the runner image leaves out lancedb"),
    ("mine.crews:searches", CREW, "the runner image leaves out crewai[tools]"),
    ("mine.crews:trees", CREW, "put pandas into the image"),
    ("mine.crews:claude", CREW, "leaves out crewai[anthropic]"),
    ("mine.crews:TypedFlow", INPUTS, "the inputs do not fit the Flow's state"),
    ("mine.crews:AskingFlow", Reason.INPUT_REQUIRED, "the Flow uses ask()"),
    ("mine.crews:ReviewedFlow", Reason.INPUT_REQUIRED, "the Flow uses @human_feedback"),
    ("mine.crews:PlanningFlow", CREW, "crew.planning: is not supported yet"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "want", "text"), REFUSED, ids=[f"{one[0]}-{one[2][:20]}" for one in REFUSED])
def test_what_cannot_run_is_refused_with_what_to_do(
    runner: Runner, llm: ThreadedLLM, app: dict[str, str], target: str, want: Reason, text: str
) -> None:
    finished = runner.run(None, entrypoint=target, env=app, inputs={"topic": "AI", "depth": "deep"})
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, want), finished.end.message
    assert text in finished.end.message
    assert llm.ledger.totals.calls == 0
    assert KEY not in finished.everything

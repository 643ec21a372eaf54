"""Going on from the outputs of finished tasks, with the real crewai."""

import itertools
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from crewrun_api import names
from crewrun_api.reasons import Outcome, Reason
from crewrun_runner.checkpoint import ENV_CHECKPOINT_DIR, ENV_KEYS_DIR, FinishedTask, pack
from crewrun_testing import ThreadedLLM
from tests.runner.harness import AGENTS, ROOT, RUN_UID, Runner, crew, task

Seen = dict[str, Any]
Drive = Callable[..., Seen]

SCHEMA = {
    "title": "Verdict",
    "type": "object",
    "properties": {"good": {"type": "boolean"}, "sources": {"type": "array", "items": {"type": "string"}}},
    "required": ["good", "sources"],
}
FAULT = {"fault": {"status": 400}}
VERDICT = '{"good": true, "sources": ["a", "b"]}'


PARALLEL = (
    task("facts", "researcher", async_execution=True),
    task("risks", "writer", async_execution=True),
    task("report", context=["facts", "risks"]),
)


@pytest.fixture
def drive(runner: Runner, tmp_path: Path, llm: ThreadedLLM) -> Drive:
    """Runs `drive_crew`, each time in a new home, and gives what it saw."""
    count = itertools.count(1)

    def run(definition: Mapping[str, Any] | None, order: Mapping[str, Any] | None = None, **options: Any) -> Seen:
        folder = tmp_path / f"run-{next(count)}"
        folder.mkdir()
        arguments = (str(ROOT / "tests/runner/drive_crew.py"),)
        env = {"DRIVE": json.dumps(order or {}), **options.pop("env", {})}
        done = Runner(runner._python, folder, llm.base_url).run(definition, arguments=arguments, env=env, **options)
        assert len(done.lines) == 1, done.stderr
        return {**done.lines[0], "home": folder / "home"}

    return run


def done(index: int, name: str, raw: str, **output: Any) -> Seen:
    """A task as a checkpoint holds it."""
    record = {"name": name, "agent": "Writer", "state": "Succeeded", "totalTokens": 7, "attempt": 1, "preview": raw}
    fields = {"name": name, "description": f"Do {name} on AI.", "expected_output": "Text.", "agent": "Writer"}
    return {"index": index, "record": record, "output": {**fields, "raw": raw, "output_format": "raw", **output}}


def answer(llm: ThreadedLLM, **matches: str) -> None:
    """Each of these tasks answers when its prompt matches; all other calls fail."""
    rules = [
        {"name": name, "match": {"user": f"(?s)Do {name} on AI.*{match}"}, "replies": [{"text": f"the {name}"}]}
        for name, match in matches.items()
    ]
    llm.reset()
    llm.set_script({"rules": rules, "default": {"fault": {"status": 400}}})


def asked(llm: ThreadedLLM) -> list[str | None]:
    return [entry.rule for entry in llm.ledger.entries]


def test_finished_tasks_are_not_asked_for_again_and_later_ones_get_their_outputs(
    drive: Drive, llm: ThreadedLLM
) -> None:
    tasks = [task(name) for name in ("one", "two", "three")]
    definition = crew(*tasks, task("four", context=["one", "three"]), task("five"))
    answer(llm, one="", two="", three="")
    first = drive(definition)
    assert (asked(llm), first["error"]) == (["one", "two", "three", "default"], "BadRequestError")
    assert [kept["record"]["name"] for kept in first["finished"]] == ["one", "two", "three"]
    assert {kept["record"]["attempt"] for kept in first["finished"]} == {2}
    assert all(kept["record"]["totalTokens"] > 0 for kept in first["finished"])

    answer(llm, four="the one.*the three", five="the one.*the two.*the three.*the four")
    second = drive(definition, {"finished": first["finished"]})
    assert asked(llm) == ["four", "five"], second
    assert [name for name, _ in second["calls"]] == ["four", "five"]
    assert second["answer"] == "the five"
    assert second["finished"][:3] == first["finished"]
    assert [kept["index"] for kept in second["finished"]] == [0, 1, 2, 3, 4]
    assert [record["state"] for record in second["records"]] == ["Succeeded"] * 5


def test_a_finished_task_that_stands_after_an_unfinished_one_is_not_asked_for_again(
    drive: Drive, llm: ThreadedLLM
) -> None:
    late = {"name": "facts", "match": {"user": "Do facts"}, "replies": [{**FAULT, "delaySeconds": 1}]}
    llm.set_script({"rules": [late], "default": {"text": "the risks"}})
    first = drive(crew(*PARALLEL))
    assert [kept["index"] for kept in first["finished"]] == [1]
    answer(llm, facts="", report="the facts.*the risks")
    second = drive(crew(*PARALLEL), {"finished": first["finished"]})
    assert asked(llm) == ["facts", "report"], second
    assert (second["answer"], [kept["index"] for kept in second["finished"]]) == ("the report", [0, 1, 2])


def test_a_crew_whose_tasks_are_all_finished_costs_no_call(drive: Drive, llm: ThreadedLLM) -> None:
    answer(llm)
    seen = drive(crew(task("one"), task("two")), {"finished": [done(0, "one", "1"), done(1, "two", "2")]})
    assert (seen["answer"], asked(llm)) == ("2", [])


def test_a_hierarchical_crew_goes_on_too(drive: Drive, llm: ThreadedLLM) -> None:
    answer(llm, report="the facts")
    definition = crew(task("facts", "researcher"), task("report"), process="hierarchical")
    seen = drive(definition, {"finished": [done(0, "facts", "the facts")]})
    assert (seen.get("answer"), asked(llm)) == ("the report", ["report"]), seen


def test_files_of_finished_tasks_are_there_again(drive: Drive, llm: ThreadedLLM) -> None:
    tasks = (task("facts", output_file="out/{topic}-facts.md"), task("report", output_file="report.md"))
    answer(llm, facts="")
    first = drive(crew(*tasks))
    answer(llm, report="")
    second = drive(crew(*tasks), {"finished": first["finished"]})
    assert asked(llm) == ["report"]
    assert (second["home"] / "out/AI-facts.md").read_text() == "the facts"
    files = {file["name"]: b64decode(file["upload"]["data"]) for file in second["files"]}
    assert files == {"out/AI-facts.md": b"the facts", "report.md": b"the report"}
    assert [file["bytes"] for file in second["files"]] == [9, 10]


def test_a_task_whose_file_cannot_be_written_is_not_finished(drive: Drive, llm: ThreadedLLM) -> None:
    answer(llm, facts="", report="")
    seen = drive(crew(task("facts", output_file="facts.md"), task("report", output_file="facts.md/report.md")))
    assert (seen["error"], [kept["index"] for kept in seen["finished"]]) == ("RuntimeError", [0])


@pytest.mark.parametrize("field", ["output_json", "output_pydantic"])
def test_structured_outputs_come_back_as_what_they_were(drive: Drive, llm: ThreadedLLM, field: str) -> None:
    definition = crew(task("verdict", output_file="verdict.json", **{field: SCHEMA}), task("report"))
    llm.set_script({"rules": [{"match": {"user": "Do verdict"}, "replies": [{"text": VERDICT}]}], "default": FAULT})
    first = drive(definition)
    assert [kept["index"] for kept in first["finished"]] == [0], first
    held = first["finished"][0]["output"]["json_dict" if field == "output_json" else "pydantic"]
    assert held == json.loads(VERDICT)
    file = (first["home"] / "verdict.json").read_text()

    answer(llm, report='"sources"')
    second = drive(definition, {"finished": first["finished"]})
    assert (second["answer"], asked(llm)) == ("the report", ["report"])
    assert (second["home"] / "verdict.json").read_text() == file

    answer(llm)  # as the crew's last task, the answer is the structure itself
    definition = crew(task("report"), definition["tasks"][0])
    verdict = {**first["finished"][0], "index": 1}
    third = drive(definition, {"finished": [done(0, "report", "x"), verdict]})
    assert (json.loads(third["answer"]), third["format"]) == (json.loads(VERDICT), "JSON")


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (done(2, "third", "x"), "has a task that the crew does not: third"),
        (done(0, "one", "x", pydantic={"good": 1}), "the stored output of task one does not fit the task"),
        (done(0, "one", "x", agent=None), "the stored output of task one does not fit the task"),
    ],
)
def test_outputs_that_do_not_fit_the_crew_are_unusable(drive: Drive, llm: ThreadedLLM, kept: Seen, why: str) -> None:
    seen = drive(crew(task("one"), task("two")), {"finished": [kept]})
    assert why in seen["unusable"] and seen["unusable"].endswith("the attempt starts from scratch")
    assert asked(llm) == []


def test_each_call_is_announced_with_a_bound_of_its_tokens_and_can_be_stopped(drive: Drive, llm: ThreadedLLM) -> None:
    delegate = {
        "name": "delegate_work_to_coworker",
        "arguments": {"task": "t", "context": "c", "coworker": "Researcher"},
    }
    definition = crew(task("facts", "researcher"), task("report"), task("more"))
    agents = {**definition["agents"]}
    agents["researcher"] = {**agents["researcher"], "llm": {"model": "openai/gpt-4o", "max_tokens": 50}}
    agents["writer"] = {**agents["writer"], "allow_delegation": True}
    rules = [
        {"match": {"user": "Do report"}, "replies": [{"toolCalls": [delegate], "repeat": 1}, {"text": "the report"}]}
    ]
    llm.set_script({"rules": rules})
    seen = drive({**definition, "agents": agents}, {"stopAfter": 4})
    assert (seen["error"], llm.ledger.totals.calls) == ("HookAborted", 4)
    assert [name for name, _ in seen["calls"]] == ["facts", "report", "report", "report"]
    for (_, bound), entry in zip(seen["calls"], llm.ledger.entries, strict=True):
        assert entry.tokens.total < bound
    assert seen["calls"][0][1] < 5_000 < 16_384 < seen["calls"][1][1] < 25_000  # gpt-4o answers with 16,384 at most
    assert [kept["record"]["name"] for kept in seen["finished"]] == ["facts", "report"]


def test_calls_that_shorten_a_long_talk_are_announced_too(drive: Drive, llm: ThreadedLLM) -> None:
    arguments = {"task": "Look it up", "coworker": "Researcher"}  # the same ones again would end the task
    asks = [
        {
            "toolCalls": [{"name": "delegate_work_to_coworker", "arguments": {**arguments, "context": str(n)}}],
            "repeat": 1,
        }
        for n in range(6)
    ]
    rules = [
        {"name": "summary", "match": {"anyMessage": "<summary>"}, "replies": [{"text": "<summary>a lot</summary>"}]},
        {"match": {"user": "Do report"}, "replies": asks},
        {"match": {"user": "Look it up"}, "replies": [{"text": "a lot " * 1000}]},
    ]
    llm.set_script({"rules": rules})
    agents = {**AGENTS, "writer": {**AGENTS["writer"], "allow_delegation": True}}
    seen = drive({**crew(task("report")), "agents": agents}, llm={"model": "openai/a-small-model"})
    assert "summary" in asked(llm), seen
    assert len(seen["calls"]) == llm.ledger.totals.calls
    assert {name for name, _ in seen["calls"]} == {"report"}


# The whole runner, with a checkpoint as the operator mounts it.

FIVE = crew(
    task("one"), task("two", output_file="two.md"), task("three"), task("four", context=["one", "three"]), task("five")
)


@dataclass
class Mounted:
    """The checkpoint of an attempt at FIVE that ended after three tasks, and the key it is encrypted with."""

    folder: Path
    digest: str
    finished: list[FinishedTask]

    def put(self, run_uid: str = RUN_UID, digest: str = "") -> dict[str, str]:
        """Write both; the variables that tell a runner of them."""
        key = Fernet.generate_key()
        data = pack(run_uid, digest or self.digest, self.finished, [key], str)
        for name, content in ((names.CHECKPOINT_KEY, data), ("keys", key)):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / name).write_bytes(content)
        return {
            names.ENV_CHECKPOINT_SHA256: sha256(data).hexdigest(),
            ENV_CHECKPOINT_DIR: str(self.folder / names.CHECKPOINT_KEY),
            ENV_KEYS_DIR: str(self.folder / "keys"),
        }


@pytest.fixture
def mounted(drive: Drive, llm: ThreadedLLM, tmp_path: Path) -> Mounted:
    answer(llm, one="", two="", three="")
    first = drive(FIVE)
    files = [(first["home"].parent / name).read_bytes() for name in (names.SPEC_FILE, names.INPUTS_FILE)]
    finished = [FinishedTask.model_validate(kept) for kept in first["finished"]]
    answer(llm, one="", two="", three="", four="the one.*the three", five="the four")
    return Mounted(tmp_path / "mounted", names.payload_digest(files[0], files[1]), finished)


def test_a_runner_goes_on_from_its_checkpoint(runner: Runner, llm: ThreadedLLM, mounted: Mounted) -> None:
    finished = runner.run(FIVE, env=mounted.put())
    end = finished.end
    assert (end.outcome, end.output and end.output.value) == (Outcome.SUCCEEDED, "the five"), finished.stderr
    assert asked(llm) == ["four", "five"]
    assert (end.resumed_from_task, end.checkpoint_refused) == ("four", "")
    assert (end.tasks_total, end.tasks_succeeded) == (5, 5)
    assert end.tasks[:3] == [kept.record for kept in mounted.finished]
    assert [(record.attempt, record.preview) for record in end.tasks] == [
        (2, "the one"), (2, "the two"), (2, "the three"), (None, "the four"), (None, "the five")
    ]  # fmt: skip
    assert end.usage.requests == 2  # of this attempt alone
    assert end.usage.total_tokens == llm.ledger.totals.total_tokens
    assert [line["task"] for line in finished.lines if line["event"] == "task_started"] == ["four", "five"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run_uid": "another"}, "the checkpoint belongs to another run; the attempt starts from scratch"),
        (
            {"digest": "sha256:another"},
            "the checkpoint was made with another crew or other inputs; the attempt starts from scratch",
        ),
    ],
)
def test_a_checkpoint_of_another_run_or_crew_is_not_used(
    runner: Runner, llm: ThreadedLLM, mounted: Mounted, changes: dict[str, str], why: str
) -> None:
    end = runner.run(FIVE, env=mounted.put(**changes)).end
    assert (end.outcome, end.checkpoint_refused, end.resumed_from_task) == (Outcome.SUCCEEDED, why, None)
    assert asked(llm) == ["one", "two", "three", "four", "five"]


def test_a_checkpoint_that_does_not_fit_the_crew_is_not_used(
    runner: Runner, llm: ThreadedLLM, mounted: Mounted
) -> None:
    mounted.finished[0].output["pydantic"] = {"good": True}
    end = runner.run(FIVE, env=mounted.put()).end
    assert end.outcome is Outcome.SUCCEEDED
    assert end.checkpoint_refused.startswith("the stored output of task one does not fit the task")
    assert asked(llm) == ["one", "two", "three", "four", "five"]


def test_a_key_that_is_none_ends_the_run_before_any_call(runner: Runner, llm: ThreadedLLM, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/1").write_text("secret")
    finished = runner.run(FIVE, env={ENV_KEYS_DIR: str(tmp_path / "keys")})
    assert (finished.end.reason, asked(llm)) == (Reason.MISSING_SECRET, [])

"""The runner with no cluster, with the real crewai."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewrun_api.reasons import ExitCode
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, ROOT, Runner, crew, task, wait_for

EXAMPLES = ROOT / "examples"
OWN_FLOW = """
from crewai.flow import Flow, start

class Own(Flow):
    @start()
    def begin(self):
        print("noise")
        return {"n": 1}
"""


@dataclass
class Seen:
    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[str]:
        lines = [line for line in self.stderr.splitlines() if line.startswith("{")]
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def start(runner: Runner, tmp_path: Path, llm: ThreadedLLM) -> Any:
    """Starts one in a folder of its own, with a profile that leads to the scripted LLM."""
    profile = {"llm": {"model": "openai/gpt-4o", "baseURL": llm.base_url, "maxRetries": 0}}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    (tmp_path / "crew.yaml").write_text(yaml.safe_dump(crew()))

    def begin(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "OPENAI_API_KEY": KEY,
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner-image'}",
        }
        command = [str(runner._python), "-m", "crewrun_runner", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=tmp_path, env={**variables, **(env or {})}, text=True, **pipes)  # type: ignore[call-overload]

    return begin


def finish(process: subprocess.Popen[str]) -> Seen:
    stdout, stderr = process.communicate(timeout=60)
    return Seen(process.returncode, stdout, stderr)


def run(start: Any, *arguments: str, **options: Any) -> Seen:
    return finish(start(*arguments, **options))


def test_a_definition_runs_and_stdout_is_its_result(start: Any, llm: ThreadedLLM) -> None:
    rules = [{"name": "r", "match": {"user": "Do report on AI"}, "replies": [{"text": f"# Report\n{KEY}\nwords"}]}]
    llm.set_script({"rules": rules, "default": {"fault": {"status": 400}}})
    seen = run(start, "--definition", "crew.yaml", "--input", "topic=AI", "--profile", "profile.yaml")
    assert (seen.code, seen.stdout) == (0, "# Report\n[redacted]\nwords\n"), seen.stderr
    assert (seen.events[0], seen.events[-1]) == ("runner_started", "run_completed")
    assert KEY not in seen.stderr


def test_the_model_and_its_address_may_come_from_the_shell(start: Any, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [], "default": {"text": "from the shell"}})
    env = {"MODEL": "openai/gpt-4o-mini", "OPENAI_BASE_URL": llm.base_url}
    seen = run(start, "--definition", "crew.yaml", "--input", "topic=AI", env=env)
    assert (seen.code, seen.stdout) == (0, "from the shell\n"), seen.stderr
    assert [entry.model for entry in llm.ledger.entries] == ["gpt-4o-mini"]


@pytest.mark.parametrize(
    ("arguments", "app"),
    [
        (("--entrypoint", "my_project.crew:ResearchCrew"), "custom-image"),
        (("--definition", str(EXAMPLES / "custom-image/crew.yaml")), "custom-image"),
        (("--definition", str(EXAMPLES / "custom-image/flow.yaml")), "custom-image"),
        (("--definition", str(EXAMPLES / "research/crew.yaml")), "research"),
    ],
    ids=["entrypoint", "manifest of a crew", "manifest of a Flow", "manifest of a definition"],
)
def test_the_examples_run_on_their_own(
    start: Any, llm: ThreadedLLM, tmp_path: Path, arguments: tuple[str, ...], app: str
) -> None:
    llm.set_script({"rules": [], "default": {"text": "text"}})
    (tmp_path / "inputs.json").write_text('{"topic": "AI"}')
    env = {"CREWRUN_APP_DIR": str(EXAMPLES / app)}
    seen = run(start, *arguments, "--inputs", "inputs.json", "--profile", "profile.yaml", env=env)
    assert (seen.code, "text" in seen.stdout) == (0, True), seen.stderr


def test_a_module_of_the_folder_is_found(start: Any, llm: ThreadedLLM, tmp_path: Path) -> None:
    llm.set_script({"rules": [], "default": {"text": "text"}})
    (tmp_path / "own.py").write_text(OWN_FLOW)
    seen = run(start, "--entrypoint", "own:Own", env={"PYTHONSAFEPATH": "1"})
    assert (seen.code, seen.stdout) == (0, '{"n":1}\n'), seen.stderr
    assert "noise" in seen.stderr


def test_a_failure_is_said_in_plain_words_with_the_exit_code_of_its_reason(start: Any, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [], "default": {"fault": {"status": 401}}})
    seen = run(start, "--definition", "crew.yaml", "--input", "topic=AI", "--profile", "profile.yaml")
    assert (seen.code, seen.stdout) == (ExitCode.LLM_PERMANENT, "")
    assert "\nLLMAuthentication: task report" in seen.stderr
    assert seen.events[-1] == "run_failed"


def test_ctrl_c_stops_it(start: Any, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [], "default": {"text": "text", "delaySeconds": 1}})
    process = start("--definition", "crew.yaml", "--input", "topic=AI", "--profile", "profile.yaml")
    wait_for(lambda: llm.ledger.totals.calls == 1)
    process.send_signal(signal.SIGINT)
    seen = finish(process)
    # The one call in flight is waited for, and it finishes this crew.
    assert (seen.code, seen.stdout, llm.ledger.totals.calls) == (0, "text\n", 1)


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("--definition", "crew.yaml"), "definition.agents.researcher.goal uses {topic}: give an input"),
    (("--definition", "crew.yaml", "--input", "topic=AI"), "definition.agents.researcher.llm: no model"),
    (("--definition", "none.yaml"), "--definition none.yaml: cannot be read: No such file"),
    (("--entrypoint", "nothing:Crew"), "there is no module nothing"),
    (("--entrypoint", "a:b", "--definition", "crew.yaml"), "not allowed with argument"),
    (("--definition", str(EXAMPLES / "custom-image/crew.yaml")), "inputs.topic: is missing"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_cannot_run_is_refused_by_the_name_of_its_option(
    start: Any, llm: ThreadedLLM, arguments: tuple[str, ...], text: str
) -> None:
    seen = run(start, *arguments)
    assert (seen.code, seen.stdout, text in seen.stderr) == (ExitCode.INVALID, "", True), seen.stderr
    assert llm.ledger.totals.calls == 0


def test_help_says_how(start: Any) -> None:
    seen = run(start, "--help")
    assert (seen.code, "--definition FILE" in seen.stdout, "Exit codes" in seen.stdout) == (0, True, True)


def test_a_definition_with_a_long_result_is_shown_whole(start: Any, llm: ThreadedLLM, tmp_path: Path) -> None:
    text = "word " * 20_000 + "end"
    llm.set_script({"rules": [], "default": {"text": text}})
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(crew(task("report"))))
    seen = run(start, "--definition", "long.yaml", "--input", "topic=AI", "--profile", "profile.yaml")
    assert (seen.code, seen.stdout == text + "\n") == (0, True)

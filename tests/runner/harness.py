"""The runner as a process of its own, with the real crewai, against the scripted LLM in this process.

The tests run in the development environment. The runner runs in another one that has its locked packages and
nothing else: `.venv-runner` at the repository's root, or the interpreter that CREWRUN_RUNNER_PYTHON names.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crewrun_api import names
from crewrun_api.outcome import OutcomeRecord, parse
from crewrun_api.report import Snapshot, parse_snapshot

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-canary-4f1d77a09b"
TOKEN = "projected-canary-5c02e1"
RUN_UID, POD_UID = "0f3ab1c2-run", "pod-7d41"

AGENTS: dict[str, Any] = {
    "researcher": {"role": "Researcher", "goal": "Find out about {topic}", "backstory": "Careful."},
    "writer": {"role": "Writer", "goal": "Explain {topic}", "backstory": "Concise."},
}


def runner_python(extra: str = "") -> Path:
    """The interpreter of the runner's environment, or of the one with an extra."""
    if extra:
        return ROOT / f".venv-runner-{extra}/bin/python"
    return Path(os.environ.get("CREWRUN_RUNNER_PYTHON", ROOT / ".venv-runner/bin/python"))


def task(name: str, agent: str = "writer", **fields: Any) -> dict[str, Any]:
    """A task whose prompt names it, so that a script can tell tasks apart."""
    return {
        "name": name,
        "description": f"Do {name} on {{topic}}.",
        "expected_output": "Text.",
        "agent": agent,
        **fields,
    }


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def crew(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A definition of these tasks."""
    return {"agents": AGENTS, "tasks": list(tasks) or [task("report")], **fields}


@dataclass
class Finished:
    """What a runner left behind."""

    exit_code: int
    record: OutcomeRecord | None
    lines: list[dict[str, Any]]
    stdout: str
    stderr: str
    message: bytes
    seconds: float

    @property
    def end(self) -> OutcomeRecord:
        assert self.record is not None, f"no record; stderr:\n{self.stderr}"
        return self.record

    @property
    def snapshot(self) -> Snapshot | None:
        """What a runner that was killed left in its termination message."""
        return parse_snapshot(self.message.decode())

    @property
    def everything(self) -> str:
        return self.stdout + self.stderr + self.message.decode()


@dataclass
class Running:
    """A runner that has been started."""

    process: subprocess.Popen[bytes]
    folder: Path
    start: float = field(default_factory=time.monotonic)

    @property
    def message(self) -> bytes:
        """What stands in the termination message now."""
        return (self.folder / "termination-log").read_bytes()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def finish(self, timeout: float = 60) -> Finished:
        try:
            code = self.process.wait(timeout)
        finally:
            self.process.kill()
        stdout = (self.folder / "stdout").read_text()
        data = self.message
        return Finished(
            exit_code=code,
            record=parse(data.decode()),
            lines=[json.loads(line) for line in stdout.splitlines()],
            stdout=stdout,
            stderr=(self.folder / "stderr").read_text(),
            message=data,
            seconds=time.monotonic() - self.start,
        )


class Runner:
    """Starts runners the way a Pod does: two files, a few variables, an empty home."""

    def __init__(self, python: Path, folder: Path, base_url: str) -> None:
        self._python = python
        self._folder = folder
        self._base_url = base_url

    def elsewhere(self, folder: Path) -> "Runner":
        """The same for another attempt, in another folder."""
        folder.mkdir()
        return Runner(self._python, folder, self._base_url)

    def start(
        self,
        definition: Mapping[str, Any] | None,
        *,
        inputs: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        digest: str | None = None,
        arguments: tuple[str, ...] = ("-m", "crewrun_runner"),
        llm: Mapping[str, Any] | None = None,
        reports: str = "",
        **settings: Any,
    ) -> Running:
        model = {"model": "openai/gpt-4o", "baseURL": self._base_url, "maxRetries": 0, **(llm or {})}
        secrets = [{"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "keys", "key": "openai"}}]
        document = {"crew": "c", "definition": definition, "llm": model, "secrets": secrets, **settings}
        spec = json.dumps(document).encode()
        values = json.dumps({"topic": "AI"} if inputs is None else inputs).encode()
        home = self._folder / "home"
        home.mkdir()
        (self._folder / names.SPEC_FILE).write_bytes(spec)
        (self._folder / names.INPUTS_FILE).write_bytes(values)
        (self._folder / "termination-log").touch()
        (self._folder / names.TOKEN_FILE).write_text(TOKEN)
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner-image'}",
            "OPENAI_API_KEY": KEY,
            "CREWRUN_SPEC_DIR": str(self._folder),
            "CREWRUN_TERMINATION_LOG": str(self._folder / "termination-log"),
            names.ENV_RUN_NAMESPACE: "team-a",
            names.ENV_RUN_NAME: "research-x7k2p",
            names.ENV_RUN_UID: RUN_UID,
            names.ENV_ATTEMPT: "2",
            names.ENV_POD_UID: POD_UID,
            names.ENV_REPORT_URL: reports,
            "CREWRUN_REPORT_DIR": str(self._folder),
            names.ENV_DIGEST: digest or names.payload_digest(spec, values),
        }
        with (self._folder / "stdout").open("wb") as out, (self._folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [self._python, *arguments],
                cwd=home,
                env={name: value for name, value in {**variables, **(env or {})}.items() if value},
                stdout=out,
                stderr=err,
            )
        return Running(process, self._folder)

    def run(self, definition: Mapping[str, Any] | None, **options: Any) -> Finished:
        return self.start(definition, **options).finish()

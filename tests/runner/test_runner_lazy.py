"""SDKs opened name by name are the same SDKs."""

import json
import subprocess

from crewrun_api.reasons import Outcome
from crewrun_testing import ThreadedLLM
from tests.runner.harness import ROOT, Runner, crew, runner_python

LOADED = """
import os, sys
def leave(code, leave=os._exit):
    types = sum(name.startswith("openai.types.") for name in sys.modules)
    sys.stderr.write("LOADED %d %d\\n" % (len(sys.modules), types))
    sys.stderr.flush()
    leave(code)
os._exit = leave
import runpy
runpy.run_module("crewrun_runner", run_name="__main__")
"""


def look_up(names: str = "") -> dict[str, dict[str, str]]:
    path = f"{ROOT / 'operator'}:{ROOT / 'runner-image'}"
    command = [runner_python(), ROOT / "tests/runner/compare_names.py", "openai.types", "openai.resources"]
    done = subprocess.run(
        command, input=names, env={"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_every_name_of_the_sdk_is_what_it_is_without_the_trick() -> None:
    want = look_up()
    assert len(want) > 50
    for names in want.values():
        names.pop("annotations", None)  # of the __future__
    found = look_up(json.dumps(want))
    for package, names in want.items():
        assert found[package] == names, package


def test_a_plain_crew_loads_a_fraction_of_the_sdk(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), arguments=("-c", LOADED))
    assert finished.end.outcome is Outcome.SUCCEEDED
    line = next(line for line in finished.stderr.splitlines() if line.startswith("LOADED"))
    _, modules, types = line.split()
    assert int(modules) < 1900 and int(types) < 300, line

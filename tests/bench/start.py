"""What it costs to start: CPU seconds, wall time and peak memory of a process up to one moment.

The moment is that the process says so, or that its first LLM call arrives. It is held there while its figures
are read from /proc, so an end that follows costs nothing.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, ROOT, Runner, crew, runner_python

#: The scripted LLM answers late, so that the process stands still when it is looked at.
HOLD = {"default": {"text": "An answer.", "delaySeconds": 0.5}}
OFF = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}
_READY = "import os, sys; os.write(1, b'.'); sys.stdin.read()"
_TICKS = os.sysconf("SC_CLK_TCK")
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Start:
    """One process up to its moment."""

    cpu: float
    wall: float
    mib: float


def medians(starts: list[Start]) -> Start:
    """Each figure's own median. Pure."""
    return Start(*(median(getattr(start, name) for start in starts) for name in ("cpu", "wall", "mib")))


def interleaved(runs: int, say: Callable[[str], None]) -> dict[str, list[Start]]:
    """Every kind of start once in turn, again and again: what disturbs the machine disturbs all of them.

    The first round fills caches and writes bytecode, and is not counted.
    """
    comes = ROOT / ".venv-crewai/bin/python"
    with ThreadedLLM(HOLD) as llm:
        kinds: dict[str, Callable[[Path], Start]] = {
            "bare Python": lambda folder: _says([runner_python(), "-c", _READY], folder),
            "`import crewai` as it comes": lambda folder: _says([comes, "-c", f"import crewai; {_READY}"], folder),
            "crewai as it comes, to the first LLM call": lambda folder: _plain_crew(comes, folder, llm),
            "the runner, to the first LLM call": lambda folder: _runner(folder, llm),
        }
        seen: dict[str, list[Start]] = {kind: [] for kind in kinds}
        for number in range(runs + 1):
            for kind, measure in kinds.items():
                with tempfile.TemporaryDirectory() as folder:
                    start = measure(Path(folder))
                if number:
                    seen[kind].append(start)
                    say(f"{kind} {number}: {start.cpu:.2f} s of CPU, {start.wall:.2f} s, {start.mib:.0f} MiB")
    return seen


def _says(command: list[str | Path], folder: Path) -> Start:
    began = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=_environment(folder)
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.read(1) == b".", f"{command} failed"
        start = _figures(process.pid, began)
        process.stdin.close()
    return start


def _plain_crew(python: Path, folder: Path, llm: ThreadedLLM) -> Start:
    env = {**_environment(folder), "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": llm.base_url}
    began = time.monotonic()
    process = subprocess.Popen(
        [python, ROOT / "tests/bench/plain_crew.py"],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return _first_call(process, began, llm)


def _runner(folder: Path, llm: ThreadedLLM) -> Start:
    began = time.monotonic()
    running = Runner(runner_python(), folder, llm.base_url).start(crew(), env=OFF)
    return _first_call(running.process, began, llm)


def _first_call(process: subprocess.Popen[bytes], began: float, llm: ThreadedLLM) -> Start:
    try:
        while not llm.ledger.totals.in_flight:
            assert process.poll() is None, "it ended without an LLM call"
            assert time.monotonic() - began < _TIMEOUT, "no LLM call"
            time.sleep(0.002)
        return _figures(process.pid, began)
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TIMEOUT)
        process.kill()


def _figures(pid: int, began: float) -> Start:
    wall = time.monotonic() - began
    process = Path("/proc") / str(pid)
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return Start((int(fields[11]) + int(fields[12])) / _TICKS, wall, int(peak.split()[1]) / 1024)


def _environment(folder: Path) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **OFF}

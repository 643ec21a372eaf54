"""`make bench-runner`: measures the runner and writes its section of docs/benchmarks.md."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from crewrun_testing import ThreadedLLM
from tests.bench import images, page
from tests.bench.start import OFF, interleaved
from tests.runner.harness import ROOT, Runner, crew, runner_python, task

RUNS = 5
MARKS = (20, 100, 200)


def main() -> None:
    starts = interleaved(RUNS, print)
    held = many_runs()
    for one in held:
        print(f"after {one['runs']} runs: {one['mib']:.0f} MiB, {one['threads']} threads, {one['objects']} objects")
    sizes = {path.stem: images.unpacked(path) for path in sorted((ROOT / "build/images").glob("runner*.tar"))}
    for name, size in sizes.items():
        print(f"image {name}: {size / 1e6:.1f} MB unpacked")
    version = subprocess.run([runner_python(), "-V"], capture_output=True, text=True, check=True).stdout.strip()
    machine = f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {version}"
    target = ROOT / "docs/benchmarks.md"
    text = page.section(starts, held, sizes, machine)
    target.write_text(page.put(target.read_text() if target.exists() else "", text))
    print(f"written: {target.relative_to(ROOT)}")


def many_runs() -> list[dict[str, Any]]:
    """What one process holds after so many runs."""
    arguments = (str(ROOT / "tests/bench/many_runs.py"), *map(str, MARKS))
    with ThreadedLLM() as llm, tempfile.TemporaryDirectory() as folder:
        definition = crew(task("facts", "researcher"), task("report"))
        running = Runner(runner_python(), Path(folder), llm.base_url).start(definition, arguments=arguments, env=OFF)
        code = running.process.wait(600)
        if code:
            print((running.folder / "stderr").read_text(), file=sys.stderr)
            raise SystemExit(f"the loop of runs ended with {code}")
        held: list[dict[str, Any]] = json.loads((running.folder / "stdout").read_text())
    return held


main()

"""Crews one after another in one process, with the code that a run uses; prints what the process holds.

    python tests/bench/many_runs.py 20 200    200 runs; figures after 20 and after 200, as JSON

It runs in the runner's environment, with the files and variables of `tests/runner/harness.py`.
"""

import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from crewrun_runner import payload, run
from crewrun_runner.ledger import Ledger


def main() -> None:
    stdout = os.dup(1)
    os.dup2(2, 1)  # crewai prints as it pleases
    marks = [int(number) for number in sys.argv[1:]]
    given = payload.read(os.environ)
    from crewrun_runner.crew import LoadedCrew

    seen: list[dict[str, Any]] = []
    for number in range(1, max(marks) + 1):
        prepared, inputs = run.prepare(given)
        ledger = Ledger()
        crew = LoadedCrew(prepared, inputs, ledger, lambda *_, **__: None, [], ledger.reserve, [], attempt=1)
        crew.kickoff()
        crew.close()
        if number in marks:
            gc.collect()
            objects = len(gc.get_objects())
            seen.append({"runs": number, "mib": resident(), "threads": threading.active_count(), "objects": objects})
    os.write(stdout, json.dumps(seen).encode() + b"\n")
    os._exit(0)


def resident() -> float:
    """MiB of this process that are in memory now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


main()

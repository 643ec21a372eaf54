"""`make bench [ROUNDS=5] [RUNS="1000 5000"] [PRESENT="0 1000 10000"] [PEER=path]` and `make bench-check`."""

import json
import os
import platform
import sys
from collections import defaultdict

import yaml

from tests.bench.operator import rounds
from tests.bench.operator.cluster import HERE, ROOT, operator, oracle, peer
from tests.bench.operator.report import broken, put, section

RESULT, PAGE, LIMITS = ROOT / "build/bench/operator.json", ROOT / "docs/benchmarks.md", HERE / "limits.yaml"


def measure() -> None:
    subjects = {"CrewRun": operator, "oracle": oracle, **({"peer": peer} if os.environ.get("PEER") else {})}
    found: dict[str, dict[str, list[rounds.Figures]]] = defaultdict(lambda: defaultdict(list))

    def keep(title: str, name: str, figures: rounds.Figures) -> None:
        print(f"{title}, {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in figures.items()), flush=True)
        found[title][name].append(figures)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(found, indent=1))

    rounds_, sizes = int(os.environ.get("ROUNDS", "5")), [*map(int, os.environ.get("RUNS", "1000 5000").split())]
    for runs in sizes:
        for _ in range(rounds_):
            for name, subject in subjects.items():
                keep(f"{runs:,} runs at once", name, rounds.throughput(subject, runs))
    for _ in range(rounds_):
        for name, subject in subjects.items():
            keep("One run at a time, and none", name, rounds.idle(subject))
    counts = [int(count) for count in os.environ.get("PRESENT", "0 1000 10000").split()]
    for count, figures in rounds.presence(counts, rounds_):
        keep(f"Among {count:,} runs that have ended", "CrewRun", figures)
    machine = f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), Python {platform.python_version()}"
    PAGE.write_text(put(PAGE.read_text(), section(found, machine)))
    print(f"written: {PAGE.relative_to(ROOT)}")


def check() -> int:
    if not RESULT.exists():
        print(f"{RESULT.relative_to(ROOT)} is not there; run `make bench` first", file=sys.stderr)
        return 1
    found = list(broken(json.loads(RESULT.read_text()), yaml.safe_load(LIMITS.read_text())))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(check() if sys.argv[1:] == ["check"] else measure())

"""200 runs at once: all end right. Prints runs per second and the operator's API writes per run."""

import json
import time
from collections import Counter
from pathlib import Path

from tests.integration.conftest import writes
from tests.support.kube import GROUP, VERSION, Kube, crew, phase, run
from tests.support.operator import Operator

RUNS = 200


def test_200_runs_at_once_all_end_right(kube: Kube, audit_log: Path, operator: Operator) -> None:
    space = kube.within("load")
    space.apply(crew("fine"), crew("fails-once"))
    retry = {"backoff": {"initialSeconds": 0}}
    names = [f"run-{number:03}" for number in range(RUNS)]
    flaky = set(names[::10])
    manifests = [run(n, "fails-once" if n in flaky else "fine", retry=retry) for n in names]
    begun = time.monotonic()
    for manifest in manifests:
        space.custom.create_namespaced_custom_object(GROUP, VERSION, space.namespace, "crewruns", manifest)
    for name in names:
        space.await_end(name, seconds=240)
    seconds = time.monotonic() - begun
    ended = {item["metadata"]["name"]: item for item in space.items("crewruns")}
    assert Counter(phase(item) for item in ended.values()) == {"Succeeded": RUNS}
    for name, item in ended.items():
        assert item["status"]["attemptCount"] == (2 if name in flaky else 1), json.dumps(item["status"], indent=1)
    assert len(space.items("jobs")) == RUNS + len(flaky)
    plain = Counter(f"{verb} {resource}" for verb, resource in writes(audit_log, {space.namespace}))
    attempts = RUNS + len(flaky)
    print(
        f"\n{RUNS} runs ({attempts} attempts) in {seconds:.1f} s: {RUNS / seconds:.1f} runs/s; "
        f"{sum(plain.values()) / RUNS:.2f} API writes per run: {dict(plain)}"
    )
    assert plain["create jobs"] == attempts

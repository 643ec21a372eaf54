"""The operator is killed before and after each of its writes; the next life goes on. Each run ends as without
the crash, with the same number of Jobs, and nothing is left over."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kube import Document, Kube, crew, phase, run
from tests.support.lives import Lives

#: More than any scenario writes: a scenario that never stops writing must not keep the test going.
MOST_WRITES = 20
AT_ONCE = 3


@dataclass(frozen=True)
class Scenario:
    """What a user does, and how it ends."""

    crew: str
    want_phase: str | None  # None: the run is deleted
    want_jobs: tuple[int, ...]
    spec: Document
    steps: Callable[[Kube], None] = lambda _: None


def cancel_when_running(space: Kube) -> None:
    space.await_phase("r", "Running")
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')


# A deleted run's Job goes with it, when the garbage collector gets to it.
SCENARIOS = {
    "retry": Scenario("fails-once", "Succeeded", (2,), {"retry": {"backoff": {"initialSeconds": 0}}}),
    "cancel": Scenario("never-ends", "Cancelled", (1,), {}, cancel_when_running),
    "ttl": Scenario("fine", None, (0, 1), {"ttlSecondsAfterFinished": 1}),
}


def crashes(kube: Kube, scenario: Scenario, namespace: str, log: Path, crash: str) -> bool:
    """Go through the scenario with that crash; False when the operator wrote less than that."""
    space = kube.within(namespace)
    space.apply(crew(scenario.crew), run("r", scenario.crew, **scenario.spec))
    with Lives(kube.kubeconfig, namespace, log, crash) as lives:
        scenario.steps(space)
        if scenario.want_phase is None:
            space.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=60s")
        else:
            ended = space.await_end("r", seconds=60)
            assert phase(ended) == scenario.want_phase, f"{crash}: {ended['status']}"
            assert ended["status"]["attemptCount"] in scenario.want_jobs, f"{crash}: {ended['status']}"
    assert len(space.items("jobs")) in scenario.want_jobs, crash
    alive = [pod for pod in space.items("pods") if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    assert [pod for pod in alive if "deletionTimestamp" not in pod["metadata"]] == [], crash
    return lives.crashed


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_ends_as_without_the_crash_at_every_write(kube: Kube, tmp_path: Path, name: str, when: str) -> None:
    def at(number: int) -> bool:
        log = tmp_path / f"{number}.log"
        return crashes(kube, SCENARIOS[name], f"crash-{name}-{when}-{number}", log, f"{when}:{number}")

    points = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(1, MOST_WRITES, AT_ONCE):
            reached = list(pool.map(at, range(first, first + AT_ONCE)))
            points += sum(reached)
            if not all(reached):
                break
        else:
            raise AssertionError(f"the operator still writes after {MOST_WRITES} writes")
    print(f"\n{name}: killed {when} each of {points} writes")
    assert points >= 3

"""The operator is killed before and after each of its writes; the next life goes on. Each run ends as without
the crash, with the same number of Jobs, and nothing is left over."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster.ports import take_ports
from tests.integration.conftest import takes_reports
from tests.support.kube import Document, Kube, crew, phase, run
from tests.support.lives import Lives
from tests.support.stand_in import StandIn

#: More than any scenario writes: a scenario that never stops writing must not keep the test going.
MOST_WRITES = 20
AT_ONCE = 6
HOOK = {"webhook": {"url": "https://example.test"}}
OUTPUT = "x" * 50 * 1024


@dataclass(frozen=True)
class Stage:
    """Where a scenario plays."""

    space: Kube
    port: int
    certificates: Path


@dataclass(frozen=True)
class Scenario:
    """What a user does, and how it ends."""

    crew: str
    want_phase: str | None  # None: the run is deleted
    want_jobs: tuple[int, ...]
    spec: Document
    steps: Callable[[Stage], None] = lambda _: None
    lives_on: bool = False  # kwok does not end a Pod whose end was reported
    want_hooks: int = 0


def change(space: Kube, **spec: Any) -> None:
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", json.dumps({"spec": spec}))


def cancel_when_running(stage: Stage) -> None:
    stage.space.await_phase("r", "Running")
    change(stage.space, cancel=True)


def suspend_when_running(stage: Stage) -> None:
    stage.space.await_phase("r", "Running")
    change(stage.space, suspend=True)
    stage.space.await_phase("r", "Suspended")


def suspend_and_resume(stage: Stage) -> None:
    suspend_when_running(stage)
    change(stage.space, suspend=False)


def suspend_and_cancel(stage: Stage) -> None:
    suspend_when_running(stage)
    change(stage.space, cancel=True)


def rerun_after_the_end(stage: Stage) -> None:
    stage.space.await_end("r")
    change(stage.space, rerun="again")
    stage.space.await_run("r", lambda its: its["status"]["attemptCount"] == 2)


def report_a_large_output(stage: Stage) -> None:
    """What a runner was told is kept is kept: it sends each thing until it has a 200, and no more after that."""
    runner = StandIn.of(stage.space, "r", stage.port, stage.certificates)
    assert runner.insist(runner.report(1, checkpoint=b"finished")).status == 200
    (kept,) = [each for each in stage.space.items("configmaps") if each["metadata"]["name"].endswith("-checkpoint")]
    assert base64.b64decode(kept["binaryData"]["checkpoint"]) == b"finished"
    assert runner.insist(runner.report(2, output=OUTPUT)).status == 200
    ended = stage.space.await_end("r")
    output = ended["status"]["output"]
    assert (output["truncated"], output["bytes"]) == (False, len(OUTPUT))
    assert stage.space.get("configmap", output["configMap"])["data"]["output"] == OUTPUT


def wait_for_the_webhook(stage: Stage) -> None:
    told = stage.space.await_run("r", lambda its: its["status"].get("webhook", {}).get("outcome") == "Delivered")
    assert told["status"]["webhook"]["statusCode"] == 200


# A deleted run's Job goes with it, when the garbage collector gets to it.
SCENARIOS = {
    "success": Scenario("fine", "Succeeded", (1,), {}),
    "retry": Scenario("fails-once", "Succeeded", (2,), {"retry": {"backoff": {"initialSeconds": 0}}}),
    "cancel": Scenario("never-ends", "Cancelled", (1,), {}, cancel_when_running),
    "suspend": Scenario("never-ends", "Cancelled", (1,), {}, suspend_and_cancel),
    "resume": Scenario("second-ends", "Succeeded", (2,), {}, suspend_and_resume),
    "rerun": Scenario("fine", "Succeeded", (2,), {}, rerun_after_the_end),
    "reports": Scenario("never-ends", "Succeeded", (1,), {}, report_a_large_output, lives_on=True),
    "webhook": Scenario("fine", "Succeeded", (1,), {"onSuccess": HOOK}, wait_for_the_webhook, want_hooks=1),
    "ttl": Scenario("fine", None, (0, 1), {"ttlSecondsAfterFinished": 1}),
}


def crashes(kube: Kube, certificates: Path, scenario: Scenario, namespace: str, log: Path, crash: str) -> bool:
    """Go through the scenario with that crash; False when the operator wrote less than that."""
    space = kube.within(namespace)
    space.apply(crew(scenario.crew), run("r", scenario.crew, **scenario.spec))
    port = take_ports(["reports"])["reports"]
    with Lives(kube.kubeconfig, namespace, log, crash, **takes_reports(certificates, port)) as lives:
        scenario.steps(Stage(space, port, certificates))
        if scenario.want_phase is None:
            space.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=60s")
        else:
            ended = space.await_end("r", seconds=60)
            assert phase(ended) == scenario.want_phase, f"{crash}: {ended['status']}"
            assert ended["status"]["attemptCount"] in scenario.want_jobs, f"{crash}: {ended['status']}"
    told = [space.items(kind, **{"crewrun.dev/attempt": "0"}) for kind in ("jobs", "pods")]
    assert [len(each) for each in told] == [scenario.want_hooks] * 2, crash
    assert len(space.items("jobs")) - scenario.want_hooks in scenario.want_jobs, crash
    if not scenario.lives_on:
        alive = [pod for pod in space.items("pods") if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        assert [pod for pod in alive if "deletionTimestamp" not in pod["metadata"]] == [], crash
    return lives.crashed


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_ends_as_without_the_crash_at_every_write(
    kube: Kube, certificates: Path, tmp_path: Path, name: str, when: str
) -> None:
    def at(number: int) -> bool:
        log, namespace = tmp_path / f"{number}.log", f"crash-{name}-{when}-{number}"
        return crashes(kube, certificates, SCENARIOS[name], namespace, log, f"{when}:{number}")

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

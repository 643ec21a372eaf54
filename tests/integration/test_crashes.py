"""The operator is killed between its writes; a fresh one goes on. One Job, right end."""

import signal
from pathlib import Path

import pytest

from tests.support.kube import Kube, crew, run
from tests.support.operator import Operator


@pytest.mark.parametrize("point", ["before-job", "after-job"])
def test_an_operator_killed_around_the_job_leaves_one_job_and_the_right_end(
    kube: Kube, tmp_path: Path, point: str
) -> None:
    space = kube.within(f"killed-{point}")
    settings = {"CREWRUN_NAMESPACES": f'["{space.namespace}"]'}
    dying = Operator(
        kube.kubeconfig, tmp_path / "dying.log", "tests.support.crashing_operator", CRASH=point, **settings
    )
    dying.await_ready()
    space.apply(crew("fine"), run("r", "fine"))
    assert dying.await_death() == -signal.SIGKILL
    left = space.get("crewruns", "r")
    assert left["status"]["attempts"][0]["number"] == 1, "the attempt stands in the status before its Job is made"
    assert len(space.jobs_of(left)) == (0 if point == "before-job" else 1)
    with Operator(kube.kubeconfig, tmp_path / "next.log", **settings):
        ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["attemptCount"]) == ("Succeeded", 1)
    assert len(space.jobs_of(ended)) == 1

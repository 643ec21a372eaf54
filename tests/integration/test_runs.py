"""The operator on a real API server; kwok plays the kubelet and ends Pods as their crew's name says."""

from tests.support.kube import Kube, condition, crew, run
from tests.support.operator import Operator


def test_a_run_succeeds_by_the_record_of_its_runner(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), run("r", "fine"))
    ended = space.await_end("r")
    status = ended["status"]
    assert (status["phase"], status["progress"], status["output"]["value"]) == ("Succeeded", "1/1", "done")
    assert status["usage"]["totalTokens"] == 12
    assert condition(ended, "Succeeded")["status"] == "True"
    assert [job["metadata"]["name"] for job in space.jobs_of(ended)] == [status["attempts"][0]["job"]]


def test_a_run_that_fails_once_is_tried_again_after_its_backoff(space: Kube, operator: Operator) -> None:
    space.apply(crew("fails-once"), run("r", "fails-once"))
    waiting = space.await_phase("r", "BackingOff")
    assert waiting["status"]["nextAttemptTime"] > waiting["status"]["attempts"][0]["completionTime"]
    ended = space.await_end("r")
    want_attempts = [("Failed", "LLMUnavailable", 20), ("Succeeded", "Completed", 0)]
    assert [(a["outcome"], a["reason"], a["exitCode"]) for a in ended["status"]["attempts"]] == want_attempts
    assert ended["status"]["usage"]["totalTokens"] == 24


def test_a_run_that_always_fails_ends_after_max_attempts(space: Kube, operator: Operator) -> None:
    retry = {"maxAttempts": 2, "backoff": {"initialSeconds": 0.1}}
    space.apply(crew("always-fails"), run("r", "always-fails", retry=retry))
    ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["attemptCount"]) == ("Failed", 2)
    want_message = "attempt 2 was the last of 2 attempts: TaskFailed: task t1: no luck"
    assert condition(ended, "Succeeded")["message"] == want_message
    assert condition(ended, "Stalled")["status"] == "True"
    assert len(space.jobs_of(ended)) == 2


def test_exit_code_zero_without_a_record_is_not_a_success(space: Kube, operator: Operator) -> None:
    space.apply(crew("no-record"), run("r", "no-record", retry={"maxAttempts": 1}))
    ended = space.await_end("r")
    assert ended["status"]["phase"] == "Failed"
    assert ended["status"]["attempts"][0]["reason"] == "RunnerLost"
    assert ended["status"]["usage"]["incomplete"] is True


def test_cancel_ends_a_running_run_and_its_pod(space: Kube, operator: Operator) -> None:
    space.apply(crew("never-ends"), run("r", "never-ends"))
    space.await_phase("r", "Running")
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = space.await_end("r")
    assert ended["status"]["phase"] == "Cancelled"
    assert condition(ended, "Stalled")["status"] == "False"
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=30s")
    assert len(space.jobs_of(ended)) == 1


def test_an_ended_run_is_deleted_after_its_time_to_live(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), run("r", "fine", ttlSecondsAfterFinished=1))
    space.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=30s")
    space.kubectl("wait", "jobs", "--all", "--for=delete", "--timeout=30s")


def test_a_run_waits_for_its_crew_and_starts_when_it_appears(space: Kube, operator: Operator) -> None:
    space.apply(run("r", "fine"))
    waiting = space.await_phase("r", "Pending")
    refused = condition(waiting, "Accepted")
    assert (refused["status"], refused["reason"]) == ("False", "CrewNotFound")
    assert "spec.crewRef.name" in refused["message"]
    space.apply(crew("fine"))
    assert space.await_end("r")["status"]["phase"] == "Succeeded"


def test_a_run_deleted_and_made_again_under_its_name_starts_afresh(space: Kube, operator: Operator) -> None:
    space.apply(crew("never-ends"), crew("fine"), run("r", "never-ends"))
    first = space.await_phase("r", "Running")
    space.kubectl("delete", "crewrun", "r", "--wait=false")
    space.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=30s")
    space.apply(run("r", "fine"))
    second = space.await_end("r")
    assert second["status"]["phase"] == "Succeeded"
    assert second["status"]["attempts"][0]["job"] != first["status"]["attempts"][0]["job"]

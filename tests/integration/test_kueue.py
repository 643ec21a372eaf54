"""Runs that Kueue admits, on a real API server with the real Job controller. The test drives the Jobs as Kueue does:
it sets `spec.suspend`, and where a Job's Pods are to run while it is suspended."""

import json
from typing import Any

from tests.support.kube import Document, Kube, condition, crew, run
from tests.support.operator import Operator

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"


def test_a_run_waits_until_kueue_admits_its_job(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), labelled(run("r", "fine")))
    waiting = space.await_phase("r", "Queued")
    assert admitted(waiting) == ("False", "WaitsForKueue") and "LocalQueue gpu" in told(waiting)
    job = the_job(space, waiting)
    assert job["spec"]["suspend"] is True and space.items("pods") == []
    assert {label: job["metadata"]["labels"].get(label) for label in (QUEUE, PRIORITY)} == {
        QUEUE: "gpu",
        PRIORITY: "low",
    }

    admit(space, job)
    ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["attemptCount"]) == ("Succeeded", 1)
    assert admitted(ended) == ("True", "AdmittedByKueue") and "queueTime" not in ended["status"]
    (pod,) = space.items("pods")
    assert pod["spec"]["nodeSelector"] == {"type": "kwok"}  # what Kueue added to the Job bothers nobody


def test_what_kueue_preempts_waits_again_in_a_new_job(space: Kube, operator: Operator) -> None:
    space.apply(crew("second-ends"), labelled(run("r", "second-ends", retry={"backoff": {"initialSeconds": 0.1}})))
    job = the_job(space, space.await_phase("r", "Queued"))
    admit(space, job)
    space.await_phase("r", "Running")
    suspend(space, job, True)
    waiting = space.await_run("r", lambda run: (phase_and_attempts(run)) == ("Queued", 2))
    first = waiting["status"]["attempts"][0]
    assert (first["outcome"], first["reason"]) == ("Failed", "Preempted")
    assert (waiting["status"]["disruptions"], admitted(waiting)) == (1, ("False", "WaitsForKueue"))

    space.kubectl("wait", f"job/{job['metadata']['name']}", "--for=delete", "--timeout=30s")
    second = the_job(space, waiting)
    assert second["spec"]["suspend"] is True and second["metadata"]["name"] != job["metadata"]["name"]
    admit(space, second)
    ended = space.await_end("r")
    assert (ended["status"]["phase"], ended["status"]["attemptCount"]) == ("Succeeded", 2)
    assert admitted(ended) == ("True", "AdmittedByKueue")


def test_a_job_that_kueue_takes_back_before_its_runner_began_is_let_go_again(space: Kube, operator: Operator) -> None:
    """Its Pod finds no node, so that nothing of it runs."""
    nowhere = {"nodeSelector": {"type": "none"}}
    space.apply(crew("fine"), labelled(run("r", "fine", pod=nowhere)))
    job = the_job(space, space.await_phase("r", "Queued"))
    suspend(space, job, False)
    space.await_run("r", lambda run: admitted(run) == ("True", "AdmittedByKueue"))
    space.kubectl("wait", "pods", "--all", "--for=create", "--timeout=30s")
    suspend(space, job, True)
    space.await_run("r", lambda run: admitted(run) == ("False", "WaitsForKueue"))
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=30s")
    suspend(space, job, False)
    again = space.await_run("r", lambda run: admitted(run) == ("True", "AdmittedByKueue"))
    assert (again["status"]["attemptCount"], again["status"].get("disruptions", 0)) == (1, 0)
    assert the_job(space, again)["metadata"]["uid"] == job["metadata"]["uid"]
    space.kubectl("delete", "crewrun", "r")


def test_a_run_that_waits_for_kueue_is_cancelled_with_its_job(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), labelled(run("r", "fine")))
    waiting = space.await_phase("r", "Queued")
    the_job(space, waiting)
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = space.await_end("r")
    assert ended["status"]["phase"] == "Cancelled" and space.items("jobs") == []


def test_a_running_run_is_stopped_by_deleting_its_job(space: Kube, operator: Operator) -> None:
    """Were it the Pod alone, Kueue would still hold a place for the Job."""
    space.apply(crew("never-ends"), labelled(run("r", "never-ends")))
    admit(space, the_job(space, space.await_phase("r", "Queued")))
    space.await_phase("r", "Running")
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    assert space.await_end("r")["status"]["phase"] == "Cancelled"
    space.kubectl("wait", "jobs", "--all", "--for=delete", "--timeout=30s")
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=30s")


def test_a_run_in_both_kinds_of_queue_is_refused(space: Kube, operator: Operator) -> None:
    lane = {"apiVersion": "crewrun.dev/v1alpha1", "kind": "CrewQueue", "metadata": {"name": "lane"}, "spec": {}}
    space.apply(crew("fine"), lane, labelled(run("r", "fine", queue="lane")))
    refused = space.await_run("r", lambda run: condition(run, "Accepted").get("status") == "False")
    told_of = condition(refused, "Accepted")
    assert told_of["reason"] == "InvalidSpec" and f"metadata.labels[{QUEUE}]" in told_of["message"]
    space.kubectl("label", "crewrun", "r", f"{QUEUE}-")
    assert space.await_end("r")["status"]["phase"] == "Succeeded"


def labelled(manifest: Document) -> Document:
    manifest["metadata"]["labels"] = {QUEUE: "gpu", PRIORITY: "low"}
    return manifest


def admitted(run: Document) -> tuple[Any, Any]:
    found = condition(run, "Admitted")
    return found.get("status"), found.get("reason")


def told(run: Document) -> str:
    return str(condition(run, "Admitted")["message"])


def phase_and_attempts(run: Document) -> tuple[Any, Any]:
    status = run.get("status", {})
    return status.get("phase"), status.get("attemptCount")


def the_job(space: Kube, run: Document) -> Document:
    """The Job of the run's newest attempt, once it is there."""
    name = run["status"]["attempts"][-1]["job"]
    space.kubectl("wait", f"job/{name}", "--for=create", "--timeout=30s")
    return space.get("jobs", name)


def admit(space: Kube, job: Document) -> None:
    """Kueue chooses a flavor, which says where the Pods may run, and lets the Job go."""
    patch(space, job, {"suspend": False, "template": {"spec": {"nodeSelector": {"type": "kwok"}}}})


def suspend(space: Kube, job: Document, suspend: bool) -> None:
    patch(space, job, {"suspend": suspend})


def patch(space: Kube, job: Document, spec: Document) -> None:
    change = json.dumps({"spec": spec})
    space.kubectl("patch", "job", job["metadata"]["name"], "--type=merge", "-p", change)

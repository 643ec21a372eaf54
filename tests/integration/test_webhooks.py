"""A run tells its webhook of its end, once, by a Job that the API server and the Job controller take."""

from pathlib import Path

from tests.integration.conftest import writes
from tests.support.kube import Document, Kube, crew, phase, run
from tests.support.operator import Operator

HEADERS = [{"name": "Authorization", "secretKeyRef": {"name": "hook", "key": "token"}}]
HOOK = {"webhook": {"url": "https://example.test/hook", "headersFrom": HEADERS}}
NO_RETRY = {"maxAttempts": 1}


def webhook(its: Document) -> Document:
    found: Document = its["status"].get("webhook", {})
    return found


def await_told(space: Kube, name: str = "r") -> Document:
    return space.await_run(name, lambda its: webhook(its).get("outcome") in ("Delivered", "Failed"))


def events(space: Kube) -> list[str]:
    return [each["message"] for each in space.items("events") if each["reason"] == "WebhookFailed"]


def hook_jobs(space: Kube) -> list[str]:
    return [job["metadata"]["name"] for job in space.items("jobs", **{"crewrun.dev/attempt": "0"})]


def test_a_success_is_told_once_and_costs_three_writes_more(space: Kube, operator: Operator, audit_log: Path) -> None:
    space.apply(crew("fine"), run("r", "fine", onSuccess=HOOK))
    told = await_told(space)
    its = webhook(told)
    assert (phase(told), its["outcome"], its["statusCode"], its["tries"]) == ("Succeeded", "Delivered", 200, 1)
    space.kubectl("wait", f"job/{its['job']}", "--for=condition=Complete", "--timeout=30s")
    assert hook_jobs(space) == [its["job"]]
    assert (told["status"]["attemptCount"], events(space)) == (1, [])
    statuses, jobs = ("patch", "crewruns/status"), ("create", "jobs")
    want = [statuses, jobs, statuses, statuses, jobs, statuses]
    made = writes(audit_log, {space.namespace})
    assert [each for each in made if each != statuses] == [each for each in want if each != statuses]
    assert made.count(statuses) in (4, 5), "one more if it was seen running"


def test_a_failure_is_told_and_a_success_is_not_one(space: Kube, operator: Operator) -> None:
    space.apply(crew("always-fails"), crew("fine"))
    space.apply(run("bad", "always-fails", onFailure=HOOK, retry=NO_RETRY), run("good", "fine", onFailure=HOOK))
    told = await_told(space, "bad")
    assert (phase(told), webhook(told)["outcome"]) == ("Failed", "Delivered")
    assert webhook(space.await_end("good")) == {}
    assert hook_jobs(space) == [webhook(told)["job"]]


def test_a_webhook_that_refuses_changes_nothing_but_its_own_part(space: Kube, operator: Operator) -> None:
    space.apply(crew("hook-fails"), run("r", "hook-fails", onSuccess=HOOK))
    told = await_told(space)
    want = "the webhook was not told: answered 404 Not Found"
    assert (phase(told), webhook(told)["outcome"], webhook(told)["message"]) == ("Succeeded", "Failed", want)
    space.kubectl("wait", f"job/{webhook(told)['job']}", "--for=condition=Failed", "--timeout=30s")
    pods = space.items("pods", **{"crewrun.dev/attempt": "0"})
    assert len(pods) == 1, "exit code 1 is for good"
    assert events(space) == [want]


def test_the_time_to_live_waits(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), run("r", "fine", onSuccess=HOOK, ttlSecondsAfterFinished=0))
    assert webhook(await_told(space))["outcome"] == "Delivered"
    space.kubectl("wait", "crewrun/r", "--for=delete", "--timeout=30s")


def test_a_rerun_tells_of_its_own_end(space: Kube, operator: Operator) -> None:
    space.apply(crew("fine"), run("r", "fine", onSuccess=HOOK))
    first = webhook(await_told(space))["job"]
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"rerun":"1"}}')
    told = space.await_run("r", lambda its: webhook(its).get("job") != first and webhook(its).get("completionTime"))
    assert (told["status"]["attemptCount"], webhook(told)["outcome"]) == (2, "Delivered")
    assert sorted(hook_jobs(space)) == sorted([first, webhook(told)["job"]])

"""The report endpoint with real tokens of a real API server: what is refused, and that nothing of it stays."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from crewrun_api import names
from crewrun_api.report import Upload
from tests.support.kube import Document, Kube, crew, run
from tests.support.operator import Operator
from tests.support.stand_in import Answered, StandIn


@pytest.fixture
def runner(space: Kube, operator: Operator, certificates: Path) -> StandIn:
    """Of a run whose Pod kwok never ends."""
    space.apply(crew("never-ends"), run("r", "never-ends"))
    return StandIn.of(space, "r", operator.reports_port, certificates)


def everything(space: Kube) -> list[Document]:
    """What a report could leave behind, without what time alone changes: Kubernetes tells of its Jobs and Pods when it
    comes to that, and writes the status of a Job, which the operator may not."""
    items = [item for kind in ("crewruns", "configmaps") for item in space.items(kind)]
    items += [event for event in space.items("events") if event["involvedObject"]["kind"] == "CrewRun"]
    jobs = [
        {**job, "status": None, "metadata": {**job["metadata"], "resourceVersion": ""}} for job in space.items("jobs")
    ]
    return [{**item, "metadata": {**item["metadata"], "managedFields": None}} for item in [*items, *jobs]]


def test_a_report_is_taken_and_shown(space: Kube, runner: StandIn) -> None:
    task = {"name": "t1", "agent": "Writer", "state": "Running", "totalTokens": 7}
    report = runner.report(1, tasks=[task], usage={"requests": 1, "promptTokens": 5, "totalTokens": 7})
    answered = runner.post(report)
    assert (answered.status, answered.document["action"]) == (200, "Continue")
    shown = space.await_run("r", lambda its: its["status"].get("tasks"))["status"]
    assert (shown["tasks"][0]["state"], shown["usage"]["totalTokens"], shown["phase"]) == ("Running", 7, "Running")


def expired(runner: StandIn) -> Answered:
    """The API server gives no token of less than ten minutes, so it is signed here, with its very key."""
    key = (runner.kube.kubeconfig.parent / "pki/service-account.key").read_text()
    token = runner.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    past = {**claims, "iat": claims["iat"] - 7200, "nbf": claims["nbf"] - 7200, "exp": claims["exp"] - 7200}
    headers = {"kid": jwt.get_unverified_header(token)["kid"]}
    good, old = (jwt.encode(each, key, "RS256", headers) for each in (claims, past))
    assert runner.post(runner.report(1), token=good).status == 200, "signed here is as good as signed there"
    return runner.post(runner.report(9, output="forged"), token=old)


def edited(runner: StandIn) -> Answered:
    header, payload, signature = runner.token().split(".")
    return runner.post(runner.report(9, output="forged"), token=f"{header}.{payload[:-4]}AAAA.{signature}")


def of_another_pod(runner: StandIn) -> Answered:
    runner.kube.apply(run("other", "never-ends"))
    pod = StandIn.of(runner.kube, "other", runner.port, runner.authorities.parent).pod
    return runner.post(runner.report(9, output="forged"), token=runner.token(pod=pod))


def for_another_run(runner: StandIn) -> Answered:
    path = names.report_path(runner.kube.namespace, "another", 1)
    return runner.post(runner.report(9, output="forged"), path=path)


def as_another_attempt(runner: StandIn) -> Answered:
    return runner.post(runner.report(9, output="forged").model_copy(update={"snapshot": _foreign(runner)}))


def _foreign(runner: StandIn) -> Any:
    return runner.report(9).snapshot.model_copy(update={"attempt": 2})


def replayed(runner: StandIn) -> Answered:
    assert runner.post(runner.report(5)).status == 200
    return runner.post(runner.report(4, checkpoint=b"old", tasks_succeeded=1))


ABUSES = {
    "no token": (lambda r: r.post(r.report(9, output="forged"), headers={}), 401),
    "no token but a word": (lambda r: r.post(r.report(9, output="forged"), token="word"), 401),
    "expired token": (expired, 401),
    "edited token": (edited, 401),
    "wrong audience": (lambda r: r.post(r.report(9, output="forged"), token=r.token("another")), 401),
    "token of another Pod": (of_another_pod, 403),
    "another run's URL": (for_another_run, 403),
    "another attempt in the body": (as_another_attempt, 403),
    "old sequence": (replayed, 409),
    "5 MiB": (lambda r: r.post(b"x" * 5 * 1024 * 1024), 413),
    "no JSON": (lambda r: r.post(b"{"), 400),
    "no report": (lambda r: r.post(b'{"snapshot": {}}'), 422),
    "wrong digest": (
        lambda r: r.post(
            r.report(9).model_copy(update={"checkpoint": Upload(data="AAAA", sha256="0" * 64)}),
        ),
        422,
    ),
}


@pytest.mark.parametrize(("abuse", "want_status"), ABUSES.values(), ids=ABUSES.keys())
def test_what_is_not_the_pods_own_report_is_refused_and_leaves_nothing(
    space: Kube, operator: Operator, runner: StandIn, abuse: Any, want_status: int
) -> None:
    space.await_phase("r", "Running")
    errors, before = operator.metric("crewrun_reconcile_errors_total"), everything(space)
    answered = abuse(runner)
    assert answered.status == want_status, answered
    assert runner.post(runner.report(10)).status == 200, "the operator goes on"
    after = everything(space)
    names_before = {item["metadata"]["name"] for item in before}
    assert [item for item in after if item["metadata"]["name"] in names_before] == before
    new = [item for item in after if item["metadata"]["name"] not in names_before]
    assert {item["metadata"]["name"].split("-")[0] for item in new} <= {"other"}, "but a run that the test made"
    assert operator.metric("crewrun_reconcile_errors_total") == errors


def test_a_flood_from_one_pod_is_refused_and_others_are_heard(space: Kube, operator: Operator, runner: StandIn) -> None:
    """As many as this machine can send."""
    space.apply(run("other", "never-ends"))
    other = StandIn.of(space, "other", runner.port, runner.authorities.parent)
    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(runner.flood, runner.report(1), 3) for _ in range(4)]
        heard = [other.post(other.report(sequence)).status for sequence in range(1, 6)]
        statuses = sum((flood.result() for flood in floods), Counter[int]())
    print(f"\nflood of {sum(statuses.values())} reports in 3 s: {dict(statuses)}")
    assert heard == [200] * 5
    assert set(statuses) == {200, 429}
    assert statuses[200] <= 60 + 3 * 20 + 20, "a burst, and then so many a second"


def test_a_checkpoint_and_a_large_output_are_kept_before_they_are_acknowledged(space: Kube, runner: StandIn) -> None:
    assert runner.post(runner.report(1, checkpoint=b"\x00finished")).status == 200
    (kept,) = [each for each in space.items("configmaps") if each["metadata"]["name"].endswith("-checkpoint")]
    assert kept["metadata"]["annotations"][names.ANNOTATION_SHA256] == Upload.of(b"\x00finished").sha256
    assert [owner["kind"] for owner in kept["metadata"]["ownerReferences"]] == ["CrewRun"]
    text = "ä" * 30_000
    assert runner.post(runner.report(2, output=text, files={"out/a.md": b"# A", "b.bin": b"\xff"})).status == 200
    ended = space.get("crewrun", "r")
    output = ended["status"]["output"]
    assert (ended["status"]["phase"], output["truncated"], output["bytes"]) == ("Succeeded", False, 60_000)
    stored = space.get("configmap", output["configMap"])
    assert stored["data"] == {"output": text, "out-a.md": "# A"}
    assert stored["binaryData"] == {"b.bin": "/w=="}
    assert output["files"] == [
        {"name": "out/a.md", "bytes": 3, "key": "out-a.md"},
        {"name": "b.bin", "bytes": 1, "key": "b.bin"},
    ]
    assert runner.post(runner.report(3)).status == 409, "the attempt is over"


def test_a_run_that_goes_takes_what_was_kept_of_it_along(space: Kube, runner: StandIn) -> None:
    token = runner.token()
    assert runner.post(runner.report(1, checkpoint=b"x"), token=token).status == 200
    space.kubectl("delete", "crewrun", "r")
    name = names.checkpoint_name("r", runner.pod["metadata"]["labels"][names.LABEL_RUN_UID])
    space.kubectl("wait", f"configmap/{name}", "--for=delete", "--timeout=60s")
    assert runner.post(runner.report(2), token=token).status in (404, 503)


def test_a_runner_is_told_to_stop_by_the_answer(space: Kube, runner: StandIn) -> None:
    assert runner.post(runner.report(1)).status == 200
    space.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    space.await_run("r", lambda its: its["status"]["attempts"][0].get("stopTime"))
    answered = runner.post(runner.report(2))
    assert (answered.status, answered.document["action"], answered.document["reason"]) == (200, "Stop", "Suspended")
    (pod,) = space.items("pods")
    assert "deletionTimestamp" not in pod["metadata"], "who listens is not killed"

"""What can happen to a Pod, done to real ones: each has its reason, and counts as what it is."""

import pytest

from tests.e2e.conftest import Space
from tests.support.kube import Document, condition, crew, phase, run

SLOW = {"text": "At last.", "delaySeconds": 20}
QUICK = {"text": "Done."}
NO_WAIT = {"backoff": {"initialSeconds": 0}}


def topics(**replies: list[Document]) -> list[Document]:
    return [
        {"name": topic, "match": {"user": f"Explain {topic}"}, "replies": given} for topic, given in replies.items()
    ]


def test_what_an_attempt_waits_for_is_told_and_fails_the_run_at_its_deadline(own: Space) -> None:
    """The image, a node, a Secret, a Job that the API server does not take, and the limits of time."""
    own.llm.play(*topics(slow=[{"text": "Too late.", "delaySeconds": 60}]))
    soon, inputs = {"startDeadlineSeconds": 30}, {"topic": "slow"}
    missing = [{"name": "OTHER", "secretKeyRef": {"name": "not-there", "key": "x"}}]
    wanted = {
        "image": ("ImageUnavailable", {**soon, "pod": {"image": "localhost/not-there:1"}}),
        "node": ("Unschedulable", {**soon, "pod": {"nodeSelector": {"disk": "not-there"}}}),
        "secret": ("MissingSecret", {**soon, "secrets": missing}),
        "rejected": ("JobRejected", {"pod": {"tolerations": [{"operator": "Sometimes"}]}}),
        "timeout": ("TimedOut", {"timeoutSeconds": 10, "inputs": inputs}),
        "attempt": ("AttemptTimedOut", {"attemptTimeoutSeconds": 6, "inputs": inputs, "retry": {"maxAttempts": 1}}),
    }
    own.kube.apply(crew("plain"), *(run(name, "plain", **spec) for name, (_, spec) in wanted.items()))
    told = {}
    for name, (want_reason, _) in wanted.items():
        ended = own.kube.await_end(name, seconds=120)
        verdict = condition(ended, "Succeeded")
        told[name] = f"{verdict['reason']}: {verdict['message']}"
        assert (phase(ended), verdict["reason"], len(ended["status"]["attempts"])) == ("Failed", want_reason, 1), told
    print("", *(f"{name}: {words}" for name, words in told.items()), sep="\n")
    assert {call["rule"] for call in own.calls} == {"slow"}, "what did not start asked nobody"


def test_disruptions_are_told_apart_and_use_up_no_attempt(own: Space) -> None:
    """An eviction, as by a drain; a Job that somebody deletes; a Pod that somebody deletes; with one attempt each."""
    own.llm.play(*topics(evicted=[SLOW, QUICK], jobless=[SLOW, QUICK], podless=[SLOW, QUICK]))
    retry = {**NO_WAIT, "maxAttempts": 1, "maxDisruptions": 1}
    for name in ("evicted", "jobless", "podless"):
        own.kube.apply(crew("plain"), run(name, "plain", inputs={"topic": name}, retry=retry))
    own.await_calls(3)
    pods = {pod["metadata"]["labels"]["crewrun.dev/run"]: pod["metadata"]["name"] for pod in own.kube.items("pods")}
    own.evict(pods["evicted"])
    own.kube.kubectl("delete", "job", pods["jobless"].rsplit("-", 1)[0], "--wait=false")
    own.kube.kubectl("delete", "pod", pods["podless"], "--wait=false")
    for name, want_reason in (("evicted", "Evicted"), ("jobless", "JobDeleted"), ("podless", "PodDeleted")):
        ended = own.kube.await_end(name, seconds=120)
        reasons = [attempt["reason"] for attempt in ended["status"]["attempts"]]
        assert (phase(ended), reasons) == ("Succeeded", [want_reason, "Completed"]), ended["status"]
        assert (ended["status"]["disruptions"], ended["status"].get("countedAttempts", 0)) == (1, 0)


def test_too_many_disruptions_end_the_run(own: Space) -> None:
    own.llm.play({"replies": [SLOW]})
    own.kube.apply(crew("plain"), run("r", "plain", retry={**NO_WAIT, "maxDisruptions": 0}))
    own.await_calls(1)
    own.kube.kubectl("delete", "pods", "--all", "--wait=false")
    ended = own.kube.await_end("r")
    assert (phase(ended), condition(ended, "Succeeded")["reason"]) == ("Failed", "PodDeleted")
    assert "came after 0 disruptions" in condition(ended, "Succeeded")["message"]


@pytest.fixture
def classes(own: Space) -> list[str]:
    """Two priority classes: of runners that give way, and of what they give way to."""
    names = [f"{own.kube.namespace}-low", f"{own.kube.namespace}-high"]
    for name, value in zip(names, (-1000, 1000), strict=True):
        own.kube.apply(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    yield names
    own.kube.kubectl("delete", "priorityclass", *names)


def test_a_runner_that_gives_way_to_a_pod_of_higher_priority_was_preempted(own: Space, classes: list[str]) -> None:
    low, high = classes
    own.llm.play({"replies": [SLOW, QUICK]})
    memory = int(own.kube.items("nodes")[0]["status"]["allocatable"]["memory"].removesuffix("Ki"))
    most = {"requests": {"memory": f"{memory * 6 // 10}Ki"}}
    pod = {"priorityClassName": low, "resources": {**most, "limits": {"memory": f"{memory * 6 // 10}Ki"}}}
    own.kube.apply(crew("plain"), run("r", "plain", pod=pod, retry={**NO_WAIT, "maxAttempts": 1}))
    own.await_calls(1)
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    image = own.kube.items("pods")[0]["spec"]["containers"][0]["image"]
    own.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "important"},
            "spec": {
                "priorityClassName": high,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "securityContext": {"runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "sleeps",
                        "image": image,
                        "command": ["python3", "-c", "import time; time.sleep(600)"],
                        "resources": most,
                        "securityContext": security,
                    }
                ],
            },
        }
    )
    own.kube.await_run("r", lambda its: its["status"]["attempts"][0].get("reason") == "Preempted")
    own.kube.kubectl("delete", "pod", "important", "--wait=false")
    ended = own.kube.await_end("r", seconds=120)
    assert [attempt["reason"] for attempt in ended["status"]["attempts"]] == ["Preempted", "Completed"]
    assert phase(ended) == "Succeeded"


_FILLER = """
import time
from crewai.tools import BaseTool
from crewrun_runner.cgroup import read


class Filler(BaseTool):
    name: str = "filler"
    description: str = "Fills the memory nearly, for a while."

    def _run(self) -> str:
        used, most = read()
        hoard = b"x" * (most * 94 // 100 - used)
        time.sleep(6)  # the runner looks every two seconds
        return f"{len(hoard)} bytes"
"""


def test_a_runner_that_is_near_its_memory_limit_says_so_by_an_event(own: Space) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "filler"}, "data": {"filler.py": _FILLER}}
    pod = {
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "320Mi"}},
        "volumes": [{"name": "filler", "configMap": {"name": "filler"}}],
        "volumeMounts": [{"name": "filler", "mountPath": "/app"}],
    }
    own.llm.play({"replies": [{"toolCalls": [{"name": "filler"}], "repeat": 1}, {"text": "It fits."}]})
    plain = crew("plain")
    plain["spec"]["definition"]["tasks"][0]["tools"] = ["filler:Filler"]
    own.kube.apply(config, plain, run("r", "plain", pod=pod))
    ended = own.kube.await_end("r")
    (attempt,) = ended["status"]["attempts"]
    assert phase(ended) == "Succeeded", attempt
    assert "of its limit of 320 MiB" in attempt["warning"]
    told = {event["reason"]: event["message"] for event in own.kube.items("events")}
    assert told["RunnerWarning"] == f"attempt 1: {attempt['warning']}"
    print(told["RunnerWarning"])

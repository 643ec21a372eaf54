"""A crew of five tasks that is interrupted in the fourth: nobody pays twice for what is finished.

The judge is the model's ledger. What a status says that a run has used is what the ledger says, or it says that
it is incomplete, with a reservation that covers the difference.
"""

import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Space
from tests.support.five_tasks import ANSWER, asked, billed, five_tasks, rules
from tests.support.kube import Document, phase, run
from tests.support.node import node_of

SLOW = {**ANSWER, "delaySeconds": 30}
QUICKLY = {"backoff": {"initialSeconds": 0}}


def in_the_fourth_call(own: Space, *, fourth: list[Document] | None = None, **spec: object) -> Document:
    """A run whose model has been asked for the fourth task and has not answered."""
    own.llm.play(*rules(t4=fourth or [SLOW, ANSWER]))
    own.kube.apply(five_tasks(), run("r", "five", retry=QUICKLY, **spec))
    own.await_calls(4)
    return own.kube.get("crewrun", "r")


def signal_the_runner(own: Space, number: signal.Signals) -> None:
    """To the runner of the one Pod that runs here."""
    (pod,) = own.kube.items("pods")
    node_of(own.kube.kubeconfig).signal(pod["metadata"]["uid"], number)


def kill_the_runner(own: Space) -> None:
    signal_the_runner(own, signal.SIGKILL)


def delete_the_pod(own: Space) -> None:
    own.kube.kubectl("delete", "pods", "--all", "--wait=false")


def take_the_pod_by_force(own: Space) -> None:
    own.kube.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


@pytest.mark.parametrize(
    ("interrupt", "want_reason", "want_known"),
    [
        pytest.param(kill_the_runner, "RunnerCrashed", False, id="SIGKILL"),
        pytest.param(delete_the_pod, "PodDeleted", None, id="Pod deleted"),
        pytest.param(take_the_pod_by_force, "PodDeleted", False, id="Pod taken by force"),
    ],
)
def test_the_next_attempt_asks_for_the_fourth_and_the_fifth_task_alone(
    own: Space, interrupt: Callable[[Space], None], want_reason: str, want_known: bool | None
) -> None:
    in_the_fourth_call(own)
    interrupt(own)
    check_resumed(own, want_reason, want_known)


def check_resumed(own: Space, want_reason: str, want_known: bool | None, attempts: int = 2) -> None:
    ended = own.kube.await_end("r", seconds=150)
    status = ended["status"]
    first, second = status["attempts"][0], status["attempts"][-1]
    assert (phase(ended), status["progress"], status["attemptCount"]) == ("Succeeded", "5/5", attempts)
    assert asked(own.calls) == ["t1", "t2", "t3", "t4", "t4", "t5"]
    assert (first["reason"], second["resumedFromTask"]) == (want_reason, "t4")
    assert [task["attempt"] for task in status["tasks"]] == [1, 1, 1, attempts, attempts]
    usage, told = status["usage"], billed(own.calls)
    print(f"\n{want_reason}: usage {usage}, ledger {told} tokens")
    if want_known is not None:
        assert usage["incomplete"] is not want_known
    if usage["incomplete"]:
        assert usage["totalTokens"] < told <= usage["totalTokens"] + usage["reservedTokens"]
    else:
        assert usage["totalTokens"] == told


_EATER = """
import os
from crewai.tools import BaseTool


class Eater(BaseTool):
    name: str = "eater"
    description: str = "Eats all memory once."

    def _run(self) -> str:
        if os.environ["CREWRUN_ATTEMPT"] == "1":
            hoard = [bytearray(64 * 1024 * 1024) for _ in range(64)]
        return "full"
"""


def test_a_runner_out_of_memory_is_resumed_with_more(own: Space) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "eater"}, "data": {"eater.py": _EATER}}
    own.llm.play(*rules(t4=[{"toolCalls": [{"name": "eater"}]}, {"toolCalls": [{"name": "eater"}]}, ANSWER]))
    pod = {
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "320Mi"}},
        "volumes": [{"name": "eater", "configMap": {"name": "eater"}}],
        "volumeMounts": [{"name": "eater", "mountPath": "/tools"}],
    }
    env = [{"name": "PYTHONPATH", "value": "/opt/crewrun/app:/opt/crewrun/site:/tools"}]
    retry = {**QUICKLY, "outOfMemory": {"memoryFactor": 1.5, "maxMemory": "480Mi"}}
    crew = five_tasks(fourth={"tools": ["eater:Eater"]})
    own.kube.apply(config, crew, run("r", "five", pod=pod, env=env, retry=retry))
    ended = own.kube.await_end("r", seconds=150)
    status = ended["status"]
    assert phase(ended) == "Succeeded", status
    assert [attempt["reason"] for attempt in status["attempts"]] == ["OutOfMemory", "Completed"]
    assert asked(own.calls) == ["t1", "t2", "t3", "t4", "t4", "t4", "t5"]
    assert (status["usage"]["totalTokens"], status["usage"]["incomplete"]) == (billed(own.calls), False)


def test_a_runtime_that_restarts_does_not_disturb_the_runner(own: Space) -> None:
    in_the_fourth_call(own, fourth=[{**ANSWER, "delaySeconds": 10}, ANSWER])
    with node_of(own.kube.kubeconfig).stopped("containerd"):
        pass
    ended = own.kube.await_end("r", seconds=150)
    assert (phase(ended), asked(own.calls)) == ("Succeeded", ["t1", "t2", "t3", "t4", "t5"])
    assert ended["status"]["usage"]["totalTokens"] == billed(own.calls)


def test_a_node_that_is_lost_is_given_up_and_its_runner_no_longer_counts(own: Space) -> None:
    """kubelet is stopped and the runner stands still: nobody hears of that node. Then it comes back, and kubelet
    ends the runner that nobody waits for."""
    in_the_fourth_call(own, nodeLostSeconds=5)
    signal_the_runner(own, signal.SIGSTOP)
    with node_of(own.kube.kubeconfig).stopped("kubelet"):
        lost = own.kube.await_run("r", lambda its: its["status"]["attempts"][0].get("outcome"), seconds=150)
        assert (lost["status"]["attempts"][0]["reason"], lost["status"]["disruptions"]) == ("NodeLost", 1)
    check_resumed(own, "NodeLost", False)


def test_a_suspended_run_goes_on_where_it_was(own: Space) -> None:
    in_the_fourth_call(own)
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    stopped = own.kube.await_phase("r", "Suspended")
    assert [(a["outcome"], a["reason"]) for a in stopped["status"]["attempts"]] == [("Stopped", "Suspended")]
    own.kube.kubectl("wait", "pods", "--all", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
    assert asked(own.calls) == ["t1", "t2", "t3", "t4"], "nothing is asked while it is suspended"
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    check_resumed(own, "Suspended", None)


def test_a_cancelled_run_makes_no_call_after_the_one_in_flight(own: Space) -> None:
    in_the_fourth_call(own, fourth=[{**ANSWER, "delaySeconds": 3}])
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = own.kube.await_end("r")
    status = ended["status"]
    (attempt,) = status["attempts"]
    assert (phase(ended), attempt["outcome"], attempt["reason"]) == ("Cancelled", "Stopped", "Cancelled")
    assert asked(own.calls) == ["t1", "t2", "t3", "t4"]
    assert (status["usage"]["totalTokens"], status["usage"]["incomplete"]) == (billed(own.calls), False)
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":false,"rerun":"go on"}}')
    again = own.kube.await_run("r", lambda its: phase(its) == "Succeeded")
    assert again["status"]["attempts"][1]["resumedFromTask"] in ("t4", "t5")
    assert asked(own.calls)[-1] == "t5"
    assert asked(own.calls)[:4] == ["t1", "t2", "t3", "t4"]


def test_encrypted_checkpoints_resume_and_hold_no_key(own: Space) -> None:
    from cryptography.fernet import Fernet

    keys = {"a-new": Fernet.generate_key().decode(), "b-old": Fernet.generate_key().decode()}
    own.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "checkpoint-keys"}, "stringData": keys})
    in_the_fourth_call(own, checkpointEncryption={"secretName": "checkpoint-keys"})
    (kept,) = [each for each in own.kube.items("configmaps") if each["metadata"]["name"].endswith("-checkpoint")]
    assert kept["binaryData"]["checkpoint"].startswith("Z0FBQUFB"), "a Fernet token, in base64"
    kill_the_runner(own)
    check_resumed(own, "RunnerCrashed", False)


def test_a_run_made_again_under_its_name_meets_nothing_of_the_one_before(own: Space) -> None:
    first = in_the_fourth_call(own)
    own.kube.kubectl("delete", "crewrun", "r", "--wait=true")
    before = len(own.calls)
    own.kube.apply(run("r", "five", retry=QUICKLY))
    ended = own.kube.await_end("r", seconds=120)
    assert ended["metadata"]["uid"] != first["metadata"]["uid"]
    assert (phase(ended), ended["status"]["attemptCount"]) == ("Succeeded", 1)
    assert asked(own.calls)[before:] == ["t1", "t2", "t3", "t4", "t5"]
    assert ended["status"]["usage"]["totalTokens"] == billed(own.calls[before:])

"""The operator is away when a runner ends: the end is told right, and the output is whole if there was a way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tests.e2e.conftest import SYSTEM_NAMESPACE, Space
from tests.support.kube import Document, crew, phase, run

SHORT = "ä" * 1500  # three kilobytes of two bytes each
LONG = "0123456789" * 5000


@contextmanager
def operator_away(own: Space) -> Iterator[None]:
    system = own.kube.within(SYSTEM_NAMESPACE)
    system.kubectl("scale", "deployment/crewrun", "--replicas=0")
    system.kubectl("wait", "pods", "-l", "app.kubernetes.io/component=operator", "--for=delete", "--timeout=60s")
    try:
        yield
    finally:
        system.kubectl("scale", "deployment/crewrun", "--replicas=1")


def runs(own: Space, answer: str, **spec: object) -> None:
    """A run whose model answers only when the operator is away."""
    own.llm.play({"replies": [{"text": answer, "delaySeconds": 8}]})
    own.kube.apply(crew("plain"), run("r", "plain", **spec))
    own.await_calls(1)


def runner_ends(own: Space) -> None:
    own.kube.kubectl("wait", "pods", "--all", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")


def output(ended: Document) -> tuple[bool, int]:
    shown = ended["status"]["output"]
    return shown["truncated"], shown["bytes"]


def test_an_output_of_three_kilobytes_is_whole_however_long_the_operator_is_away(own: Space) -> None:
    """And the run has succeeded, although it was cancelled and out of time before anybody saw that it had."""
    runs(own, SHORT, timeoutSeconds=15)
    with operator_away(own):
        runner_ends(own)
        begun = datetime.fromisoformat(own.kube.get("crewrun", "r")["status"]["startTime"])
        time.sleep(max(0.0, (begun + timedelta(seconds=16) - datetime.now(UTC)).total_seconds()))  # its time is over
        own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = own.kube.await_end("r")
    assert (phase(ended), output(ended)) == ("Succeeded", (False, 3000))
    assert ended["status"]["output"]["value"] == SHORT
    (pod,) = own.kube.items("pods")
    own.evict(pod["metadata"]["name"])  # as a drain of its node does
    own.kube.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=60s")
    assert phase(own.kube.get("crewrun", "r")) == "Succeeded"


def test_a_large_output_is_whole_when_the_operator_comes_back_in_time(own: Space) -> None:
    runs(own, LONG)
    with operator_away(own):
        own.await_log("run_completed")
    ended = own.kube.await_end("r")
    shown = ended["status"]["output"]
    assert (phase(ended), output(ended)) == ("Succeeded", (False, len(LONG)))
    assert own.kube.get("configmap", shown["configMap"])["data"]["output"] == LONG


def test_a_large_output_is_truncated_aloud_when_it_does_not(own: Space) -> None:
    runs(own, LONG, reportGraceSeconds=2)
    with operator_away(own):
        runner_ends(own)
    ended = own.kube.await_end("r")
    shown = ended["status"]["output"]
    assert (phase(ended), output(ended)) == ("Succeeded", (True, len(LONG)))
    assert LONG.startswith(shown["value"]) and len(shown["value"]) > 1000
    assert "configMap" not in shown

"""The placeholders of the examples, by a real scheduler: they give way to runners, and want a node again then."""

import json
import time

import yaml

from tests.support.kube import Document, Kube, crew, run
from tests.support.operator import Operator
from tests.support.scaling import documents

NODE, ROOM = "crews-1", 4  # Pods of 250m on a node of one core


def a_node() -> Document:
    """A node of kwok's that has the label and the taint of the examples, and room for four runners."""
    room = {"cpu": "1", "memory": "8Gi", "pods": "20"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {"pool": "crews", "kubernetes.io/os": "linux"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "crews", "effect": "NoSchedule"}]},
        "status": {"capacity": room, "allocatable": room},
    }


def where(space: Kube) -> list[str]:
    """The node of each placeholder; empty for one that is pending."""
    pods = [pod for pod in space.items("pods", app="placeholders") if "deletionTimestamp" not in pod["metadata"]]
    return sorted(pod["spec"].get("nodeName", "") for pod in pods)


def await_where(space: Kube, want: list[str], seconds: int = 60) -> None:
    deadline = time.monotonic() + seconds
    while (found := where(space)) != want:
        assert time.monotonic() < deadline, f"the placeholders are on {found[:9]} and not on {want}"
        time.sleep(0.2)  # kubectl wait knows no condition of many Pods


def test_placeholders_give_way_to_runners_and_want_a_node_then(space: Kube, operator: Operator) -> None:
    placeholders = documents("placeholders.yaml")
    # kwok ends every Pod but those of this crew.
    placeholders[-1]["spec"]["template"]["metadata"]["labels"]["crewrun.dev/crew"] = "never-ends"
    (profile,) = documents("karpenter/profile.yaml")
    scaling = space.within("crewrun-scaling")
    space.kubectl("create", "-f", "-", stdin=json.dumps(a_node()))
    try:
        space.kubectl("apply", "-f", "-", "-n", "crewrun-scaling", stdin=yaml.safe_dump_all(placeholders))
        scaling.kubectl("scale", "deployment", "placeholders", f"--replicas={ROOM}")
        await_where(scaling, [NODE] * ROOM)
        space.apply(profile, crew("never-ends"), run("a", "never-ends"), run("b", "never-ends"))
        for name in ("a", "b"):
            space.await_phase(name, "Running")
        runners = space.items("pods")
        assert [pod["spec"]["nodeName"] for pod in runners] == [NODE] * 2
        assert {pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] for pod in runners} == {"true"}
        await_where(scaling, [""] * 2 + [NODE] * 2)
        for name in ("a", "b"):
            space.kubectl("patch", "crewrun", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
            space.await_end(name)
        await_where(scaling, [NODE] * ROOM)
    finally:
        space.kubectl("delete", "node", NODE)
        space.kubectl("delete", "namespace", "crewrun-scaling", "--wait=false")

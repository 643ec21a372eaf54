"""What the chart installed: its probes, its metrics, and no right on Secrets."""

import json

import pytest

from tests.e2e.conftest import SYSTEM_NAMESPACE, Space
from tests.support.kube import Kube, crew, phase, run

OPERATOR = f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:crewrun"
SERVICE = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/crewrun:http/proxy"


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
@pytest.mark.parametrize("namespace", ["default", SYSTEM_NAMESPACE, "kube-system"])
def test_the_operator_has_no_right_on_secrets(kube: Kube, verb: str, namespace: str) -> None:
    answer = kube.run_kubectl("auth", "can-i", verb, "secrets", OPERATOR, "-n", namespace)
    assert answer.stdout.strip() == "no"


def test_probes_and_metrics_answer(own: Space) -> None:
    own.llm.play({"replies": [{"text": "Done."}]})
    own.kube.apply(crew("plain"), run("r", "plain"))
    own.kube.await_end("r")
    assert own.kube.kubectl("get", "--raw", f"{SERVICE}/healthz").strip() == "ok"
    assert own.kube.kubectl("get", "--raw", f"{SERVICE}/readyz").strip() == "ok"
    metrics = own.kube.kubectl("get", "--raw", f"{SERVICE}/metrics")
    assert f'crewrun_runs{{namespace="{own.kube.namespace}",phase="Succeeded",queue=""}} 1.0' in metrics
    want_attempts = f'{{namespace="{own.kube.namespace}",outcome="Succeeded",reason="Completed"}} 1.0'
    assert f"crewrun_attempts_total{want_attempts}" in metrics
    for name in ("crewrun_reconcile_duration_seconds_bucket", "crewrun_workqueue_depth", "crewrun_api_requests_total"):
        assert name in metrics


def test_a_runner_pod_is_restricted_and_has_no_api_token(own: Space) -> None:
    own.llm.play({"replies": [{"text": "Done."}]})
    own.kube.apply(crew("plain"), run("r", "plain"))
    own.kube.await_end("r")
    (pod,) = own.kube.items("pods")
    (container,) = pod["spec"]["containers"]
    security = container["securityContext"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    (projected,) = [volume["projected"]["sources"] for volume in pod["spec"]["volumes"] if "projected" in volume]
    tokens = [source["serviceAccountToken"]["audience"] for source in projected if "serviceAccountToken" in source]
    assert tokens == ["crewrun.dev"], "one token, which opens nothing but the operator's endpoint"
    assert (security["readOnlyRootFilesystem"], security["capabilities"]["drop"]) == (True, ["ALL"])
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_a_runner_runs_under_the_runtime_class_of_its_profile(own: Space) -> None:
    """gVisor or Kata on a cluster that has them; the node of these tests has runc under another name."""
    name = f"{own.kube.namespace}-sandbox"
    own.kube.apply(
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "runc"}
    )
    try:
        own.llm.play({"replies": [{"text": "Done."}]})
        own.kube.kubectl("patch", "crewprofile", "default", "--type=merge", "-p", sandboxed(name))
        own.kube.apply(crew("plain"), run("r", "plain"))
        assert phase(own.kube.await_end("r")) == "Succeeded"
        assert [pod["spec"].get("runtimeClassName") for pod in own.kube.items("pods")] == [name]
    finally:
        own.kube.kubectl("delete", "runtimeclass", name)


def sandboxed(runtime_class: str) -> str:
    return json.dumps({"spec": {"pod": {"runtimeClassName": runtime_class}}})

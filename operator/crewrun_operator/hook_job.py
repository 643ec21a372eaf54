"""The Job that tells a webhook of a run's end. Purely computational: a run and what to post in, a manifest out.

Its Pod has the network identity of the run's runners, and nothing else of theirs: no key of a model, no variable
or volume of the user's. Kubernetes makes it again when it is interrupted; one that failed for good stays failed.
"""

from typing import Any

from crewrun_api import names
from crewrun_api.resolved import ResolvedRun
from crewrun_api.run import Webhook
from crewrun_api.settings import KeyReference, Pod
from crewrun_operator.job import CONTAINER_SECURITY, PAYLOAD_VOLUME, POD_SECURITY, labels_of, payload_volume
from crewrun_operator.observed import Payload, StartHook
from crewrun_operator.views import Manifest

#: Longer than all tries of a Pod together; it includes the time that a Pod waits for a node, an image or a Secret.
DEADLINE_SECONDS = 600
_MOST_FAILED_PODS = 3
_COMMAND = ["python3", "-m", "crewrun_runner.webhook"]
_FAILED_FOR_GOOD = 1
_GRACE_SECONDS = 5
_RESOURCES = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}


def build_hook_job(run: Manifest, start: StartHook, payload: Payload) -> dict[str, Any]:
    """The manifest; `payload` is that of the run's attempts."""
    resolved, metadata = ResolvedRun.model_validate_json(payload.spec), run["metadata"]
    labels = labels_of(metadata, names.WEBHOOK_ATTEMPT, resolved.crew)
    run_annotation = {names.ANNOTATION_RUN: metadata["name"]}
    document = start.delivery.model_dump_json(by_alias=True, exclude_none=True)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": start.job,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": run_annotation,
            "ownerReferences": [names.owner(metadata["name"], metadata["uid"])],
        },
        "spec": {
            "backoffLimit": _MOST_FAILED_PODS,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "podFailurePolicy": _failure_policy(),
            "template": {
                "metadata": {
                    "labels": {**(resolved.pod.labels or {}), **labels},
                    "annotations": {
                        **(resolved.pod.annotations or {}),
                        **run_annotation,
                        names.ANNOTATION_WEBHOOK: document,
                    },
                },
                "spec": _pod_spec(resolved.pod, _container(metadata, resolved.pod, start.webhook, document)),
            },
        },
    }


def _failure_policy() -> dict[str, Any]:
    exit_codes = {"containerName": names.CONTAINER, "operator": "In", "values": [_FAILED_FOR_GOOD]}
    return {
        "rules": [
            {"action": "FailJob", "onExitCodes": exit_codes},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
    }


def _pod_spec(pod: Pod, container: dict[str, Any]) -> dict[str, Any]:
    optional = {
        "serviceAccountName": pod.service_account_name,
        "imagePullSecrets": pod.image_pull_secrets,
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "runtimeClassName": pod.runtime_class_name,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [payload_volume({names.WEBHOOK_FILE: names.ANNOTATION_WEBHOOK})],
        **{key: value for key, value in optional.items() if value},
    }


def _container(metadata: Manifest, pod: Pod, webhook: Webhook, document: str) -> dict[str, Any]:
    policy = {"imagePullPolicy": pod.image_pull_policy} if pod.image_pull_policy else {}
    return {
        "name": names.CONTAINER,
        "image": pod.image,
        **policy,
        "command": _COMMAND,
        "env": [*_secrets(webhook), *_own_env(metadata, document)],
        "resources": _RESOURCES,
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": PAYLOAD_VOLUME, "mountPath": names.SPEC_DIR, "readOnly": True}],
    }


def _secrets(webhook: Webhook) -> list[dict[str, Any]]:
    """By reference: the kubelet resolves them."""
    found: list[tuple[str, KeyReference]] = [
        (f"{names.ENV_WEBHOOK_HEADER}{number}", header.secret_key_ref)
        for number, header in enumerate(webhook.headers_from)
    ]
    if webhook.url_from is not None:
        found.append((names.ENV_WEBHOOK_URL, webhook.url_from))
    return [{"name": name, "valueFrom": {"secretKeyRef": ref.model_dump(by_alias=True)}} for name, ref in found]


def _own_env(metadata: Manifest, document: str) -> list[dict[str, Any]]:
    values = {
        names.ENV_RUN_NAME: metadata["name"],
        names.ENV_RUN_NAMESPACE: metadata["namespace"],
        names.ENV_RUN_UID: metadata["uid"],
        names.ENV_ATTEMPT: str(names.WEBHOOK_ATTEMPT),
        names.ENV_DIGEST: names.payload_digest(document.encode(), b""),
    }
    pod_uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        {"name": names.ENV_POD_UID, "valueFrom": pod_uid},
    ]

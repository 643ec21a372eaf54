"""The Job of one attempt. Purely computational: a run and its payload in, a manifest out.

Kubernetes owns placement, the operator alone owns retries: `backoffLimit: 0` and `restartPolicy: Never`.
"""

from typing import Any

from crewrun_api import names, traceparent
from crewrun_api.allowance import Allowance, Spent
from crewrun_api.outcome import Usage
from crewrun_api.reasons import Reason
from crewrun_api.resolved import AttemptSettings, ResolvedRun
from crewrun_api.settings import SecretSource
from crewrun_operator.attachments import Attachments, Reporting, attachments
from crewrun_operator.kueue import job_labels
from crewrun_operator.memory import grown
from crewrun_operator.observed import Payload
from crewrun_operator.remember import remember
from crewrun_operator.views import Manifest

PAYLOAD_VOLUME = "crewrun-payload"
_TMP_VOLUME = "crewrun-tmp"
_HOME_VOLUME = "crewrun-home"
_SCRATCH_LIMIT = "1Gi"
_USER = 65532
#: What Pod Security "restricted" asks for, and a read-only root file system.
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
#: Added to an attempt's own limit before the Job's backstop ends it; it counts from the Job's start, which is set anew
#: when Kueue lets a suspended Job go.
_DEADLINE_MARGIN_SECONDS = 60


def build_job(
    run: Manifest,
    attempt: int,
    payload: Payload,
    reporting: Reporting | None = None,
    checkpoint: str | None = None,
    paced: bool = False,
) -> dict[str, Any]:
    """The manifest of the Job that runs attempt number `attempt`; with the digest of a checkpoint, from there. If it is
    paced, it waits for a lease of its queue's rate, which comes in the answers to reports."""
    resolved = ResolvedRun.model_validate_json(payload.spec)
    metadata = run["metadata"]
    extras = attachments(metadata, attempt, resolved, reporting, checkpoint)
    remember(resolved, extras)
    container = _container(run, attempt, payload, resolved, extras)
    if paced and reporting:
        container["env"].append({"name": names.ENV_PACED, "value": "true"})
    labels, for_kueue = labels_of(metadata, attempt, resolved.crew), job_labels(run)
    run_annotation = {names.ANNOTATION_RUN: metadata["name"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(metadata["name"], metadata["uid"], attempt),
            "namespace": metadata["namespace"],
            "labels": {**labels, **for_kueue},
            "annotations": {**run_annotation, names.ANNOTATION_SETTINGS: payload.settings},
            "ownerReferences": [names.owner(metadata["name"], metadata["uid"])],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            **({"suspend": True} if for_kueue else {}),
            **_deadline(resolved),
            "template": {
                "metadata": {
                    "labels": {**(resolved.pod.labels or {}), **labels},
                    "annotations": {
                        **(resolved.pod.annotations or {}),
                        **run_annotation,
                        names.ANNOTATION_SPEC: payload.spec,
                        names.ANNOTATION_INPUTS: payload.inputs,
                        **({names.ANNOTATION_CA: reporting.authorities} if reporting else {}),
                    },
                },
                "spec": _pod_spec(resolved, container, extras),
            },
        },
    }


def labels_of(metadata: Manifest, attempt: int, crew: str) -> dict[str, str]:
    """The labels of a Job and its Pod."""
    return {
        names.LABEL_RUN: names.run_label(metadata["name"]),
        names.LABEL_RUN_UID: metadata["uid"],
        names.LABEL_ATTEMPT: str(attempt),
        names.LABEL_CREW: names.run_label(crew),
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_COMPONENT: names.COMPONENT_RUNNER,
    }


def _deadline(resolved: ResolvedRun) -> dict[str, int]:
    if resolved.attempt_timeout_seconds is None:
        return {}
    seconds = (
        resolved.attempt_timeout_seconds
        + resolved.start_deadline_seconds
        + resolved.pod.termination_grace_period_seconds
        + resolved.report_grace_seconds
        + _DEADLINE_MARGIN_SECONDS
    )
    return {"activeDeadlineSeconds": seconds}


def _pod_spec(resolved: ResolvedRun, container: dict[str, Any], extras: Attachments) -> dict[str, Any]:
    pod = resolved.pod
    optional = {
        "serviceAccountName": pod.service_account_name,
        "imagePullSecrets": pod.image_pull_secrets,
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "affinity": pod.affinity,
        "topologySpreadConstraints": pod.topology_spread_constraints,
        "runtimeClassName": pod.runtime_class_name,
        "priorityClassName": pod.priority_class_name,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [*_own_volumes(), *extras.volumes, *_secret_volumes(resolved.secrets), *(pod.volumes or [])],
        **{key: value for key, value in optional.items() if value},
    }


def _container(
    run: Manifest, attempt: int, payload: Payload, resolved: ResolvedRun, extras: Attachments
) -> dict[str, Any]:
    attempts = (run.get("status") or {}).get("attempts") or []
    kills = sum(each.get("reason") == Reason.OUT_OF_MEMORY for each in attempts)
    pod = resolved.pod
    own_mounts = [
        {"name": PAYLOAD_VOLUME, "mountPath": names.SPEC_DIR, "readOnly": True},
        {"name": _TMP_VOLUME, "mountPath": "/tmp"},
        {"name": _HOME_VOLUME, "mountPath": names.HOME_DIR},
    ]
    secret_mounts = [
        {"name": name, "mountPath": source.mount_path, "readOnly": True}
        for name, source in _file_secrets(resolved.secrets)
    ]
    optional = {"resources": _resources(resolved, kills), "imagePullPolicy": pod.image_pull_policy}
    return {
        "name": names.CONTAINER,
        "image": pod.image,
        "env": [
            *_user_env(resolved),
            *_own_env(run["metadata"], attempt, payload),
            *_allowance(run, payload),
            *extras.env,
        ],
        "envFrom": resolved.env_from,
        "workingDir": names.HOME_DIR,
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [*own_mounts, *extras.mounts, *secret_mounts, *(pod.volume_mounts or [])],
        **{key: value for key, value in optional.items() if value},
    }


def _resources(resolved: ResolvedRun, kills: int) -> dict[str, Any] | None:
    """The runner's resources, with the memory that earlier attempts have shown it needs."""
    resources, growth = resolved.pod.resources, resolved.retry.out_of_memory
    limits = (resources or {}).get("limits") or {}
    if resources is None or growth is None or not isinstance(limits.get("memory"), str):
        return resources
    return {**resources, "limits": {**limits, "memory": grown(limits["memory"], growth, kills)}}


def _user_env(resolved: ResolvedRun) -> list[dict[str, Any]]:
    plain = [variable.model_dump(by_alias=True, exclude_none=True) for variable in resolved.env]
    secret = [
        {
            "name": source.name,
            "valueFrom": {"secretKeyRef": source.secret_key_ref.model_dump(by_alias=True)},
        }
        for source in resolved.secrets
        if source.secret_key_ref is not None
    ]
    return plain + secret


def _own_env(metadata: Manifest, attempt: int, payload: Payload) -> list[dict[str, Any]]:
    """Last in the list, so that no variable of the user's replaces one of these."""
    values = {
        names.ENV_RUN_NAME: metadata["name"],
        names.ENV_RUN_NAMESPACE: metadata["namespace"],
        names.ENV_RUN_UID: metadata["uid"],
        names.ENV_ATTEMPT: str(attempt),
        names.ENV_DIGEST: payload.digest,
        "HOME": names.HOME_DIR,
    }
    pod_uid = {"fieldRef": {"fieldPath": "metadata.uid"}}
    return [
        *_traceparent(metadata),
        *({"name": name, "value": value} for name, value in values.items()),
        {"name": names.ENV_POD_UID, "valueFrom": pod_uid},
    ]


def _allowance(run: Manifest, payload: Payload) -> list[dict[str, Any]]:
    """What the attempt may spend, after what earlier ones have."""
    budget = AttemptSettings.model_validate_json(payload.settings).budget
    if budget is None:
        return []
    usage = Usage.model_validate((run.get("status") or {}).get("usage") or {})
    allowance = Allowance(budget=budget, spent=Spent.of(usage))
    return [{"name": names.ENV_ALLOWANCE, "value": allowance.model_dump_json(by_alias=True, exclude_none=True)}]


def _traceparent(metadata: Manifest) -> list[dict[str, Any]]:
    """The span that the run is a part of; what is not valid counts as absent, as the standard has it."""
    given = (metadata.get("annotations") or {}).get(names.ANNOTATION_TRACEPARENT, "")
    return [{"name": names.ENV_TRACEPARENT, "value": given}] if traceparent.parse(given) else []


def _own_volumes() -> list[dict[str, Any]]:
    files = {names.SPEC_FILE: names.ANNOTATION_SPEC, names.INPUTS_FILE: names.ANNOTATION_INPUTS}
    return [
        payload_volume(files),
        {"name": _TMP_VOLUME, "emptyDir": {"sizeLimit": _SCRATCH_LIMIT}},
        {"name": _HOME_VOLUME, "emptyDir": {"sizeLimit": _SCRATCH_LIMIT}},
    ]


def payload_volume(files: dict[str, str]) -> dict[str, Any]:
    """Annotations of the Pod as files."""
    items = [{"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{key}']"}} for path, key in files.items()]
    return {"name": PAYLOAD_VOLUME, "downwardAPI": {"items": items}}


def _secret_volumes(secrets: list[SecretSource]) -> list[dict[str, Any]]:
    volumes = []
    for name, source in _file_secrets(secrets):
        secret: dict[str, Any] = {"secretName": source.secret_name, "defaultMode": 0o440}
        if source.items:
            secret["items"] = [item.model_dump(by_alias=True) for item in source.items]
        volumes.append({"name": name, "secret": secret})
    return volumes


def _file_secrets(secrets: list[SecretSource]) -> list[tuple[str, SecretSource]]:
    """The Secrets that become files, each with the name of its volume."""
    files = [source for source in secrets if source.mount_path is not None]
    return [(f"crewrun-secret-{number}", source) for number, source in enumerate(files)]

"""The Job of a webhook: restricted, in the network identity of the runners, with nothing else of theirs."""

import json
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.run import Webhook
from crewrun_api.webhook import Delivery
from crewrun_operator.hook_job import build_hook_job
from crewrun_operator.job import build_job
from crewrun_operator.observed import StartHook
from tests.unit.builders import RUN_UID, RunBuilder, a_payload

NAME = "report-0f3ab-hook-1"
KEY = {"name": "hook", "key": "token"}
SECRET_WEBHOOK: dict[str, Any] = {
    "urlFrom": {"name": "hook", "key": "url"},
    "headersFrom": [
        {"name": "Authorization", "secretKeyRef": KEY},
        {"name": "X-Team", "secretKeyRef": {"name": "hook", "key": "team"}},
    ],
}
#: Everything that a crew may be given and a webhook is not.
USERS: dict[str, Any] = {
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "secrets": [
        {"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "llm-keys", "key": "openai"}},
        {"mountPath": "/etc/certs", "secretName": "client"},
    ],
    "checkpointEncryption": {"secretName": "fernet"},
}


def job_of(webhook: dict[str, Any] | None = None, run: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    hook = Webhook.model_validate(webhook or {"url": "https://example.test"})
    delivery = Delivery(url=hook.url, headers=[each.name for each in hook.headers_from], id="uid/1", body={"a": "b"})
    payload = a_payload(**settings)
    return build_hook_job(run or RunBuilder().build(), StartHook(NAME, hook, delivery, payload), payload)


def pod_of(**settings: Any) -> dict[str, Any]:
    spec: dict[str, Any] = job_of(**settings)["spec"]["template"]["spec"]
    return spec


def container_of(**settings: Any) -> dict[str, Any]:
    (container,) = pod_of(**settings)["containers"]
    return dict(container)


def test_kubernetes_makes_it_again_unless_it_failed_for_good() -> None:
    spec = job_of()["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (3, 1, 1)
    assert spec["activeDeadlineSeconds"] == 600
    for_good, interrupted = spec["podFailurePolicy"]["rules"]
    assert for_good == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "runner", "operator": "In", "values": [1]},
    }
    assert interrupted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "else no failure policy is taken"


def test_it_posts_and_runs_no_crew() -> None:
    container = container_of()
    assert container["command"] == ["python3", "-m", "crewrun_runner.webhook"]
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}


def test_the_pod_is_as_restricted_as_a_runner() -> None:
    runner = build_job(RunBuilder().build(), 1, a_payload())["spec"]["template"]["spec"]
    pod = pod_of()
    for key in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[key] == runner[key]
    assert pod["automountServiceAccountToken"] is False
    assert container_of()["securityContext"] == runner["containers"][0]["securityContext"]
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_nothing_of_the_users_is_in_it() -> None:
    volume, mount = {"name": "data", "emptyDir": {}}, {"name": "data", "mountPath": "/data"}
    pod = {"volumes": [volume], "volumeMounts": [mount], "resources": {"limits": {"cpu": "8"}}}
    assert job_of(**USERS, pod=pod) == job_of()


def test_it_has_one_volume_and_may_write_nowhere() -> None:
    (volume,) = pod_of()["volumes"]
    (item,) = volume["downwardAPI"]["items"]
    assert item == {"path": "webhook.json", "fieldRef": {"fieldPath": "metadata.annotations['crewrun.dev/webhook']"}}
    assert container_of()["volumeMounts"] == [{"name": volume["name"], "mountPath": "/etc/crewrun", "readOnly": True}]


def test_what_is_posted_travels_in_an_annotation_with_its_digest() -> None:
    annotation = job_of()["spec"]["template"]["metadata"]["annotations"]["crewrun.dev/webhook"]
    assert json.loads(annotation) == {"url": "https://example.test", "headers": [], "id": "uid/1", "body": {"a": "b"}}
    digest = names.payload_digest(annotation.encode(), b"")
    assert {"name": "CREWRUN_DIGEST", "value": digest} in container_of()["env"]


def test_secrets_come_by_reference_alone() -> None:
    job = job_of(SECRET_WEBHOOK)
    env = {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["CREWRUN_HEADER_0"] == {"name": "CREWRUN_HEADER_0", "valueFrom": {"secretKeyRef": KEY}}
    assert env["CREWRUN_HEADER_1"]["valueFrom"]["secretKeyRef"] == {"name": "hook", "key": "team"}
    assert env["CREWRUN_URL"]["valueFrom"]["secretKeyRef"] == {"name": "hook", "key": "url"}
    annotation = json.loads(job["spec"]["template"]["metadata"]["annotations"]["crewrun.dev/webhook"])
    assert (annotation["headers"], "url" in annotation) == (["Authorization", "X-Team"], False)


def test_it_has_the_network_identity_of_the_runners() -> None:
    told: dict[str, Any] = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "regcred"}],
        "runtimeClassName": "gvisor",
        "serviceAccountName": "crews",
    }
    pod = {**told, "image": "own:2", "imagePullPolicy": "Always", "labels": {"team": "a"}, "annotations": {"note": "b"}}
    job = job_of(pod=pod)
    spec, template = job["spec"]["template"]["spec"], job["spec"]["template"]["metadata"]
    assert {key: spec[key] for key in told} == told
    assert (spec["containers"][0]["image"], spec["containers"][0]["imagePullPolicy"]) == ("own:2", "Always")
    assert (template["labels"]["team"], template["annotations"]["note"]) == ("a", "b")


@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_nothing_of_the_user_replaces_ours(where: str) -> None:
    keys = ["crewrun.dev/attempt", "crewrun.dev/run-uid", "crewrun.dev/run", "crewrun.dev/webhook"]
    forged = job_of(pod={where: dict.fromkeys(keys, "forged")})["spec"]["template"]["metadata"][where]
    ours = job_of()["spec"]["template"]["metadata"][where]
    assert ours.items() <= forged.items()


def test_it_is_labelled_as_the_runners_are_and_as_no_attempt() -> None:
    long = "r" * 200
    metadata = job_of(run=RunBuilder().metadata(name=long).build())["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("CrewRun", long, RUN_UID, True)
    assert metadata["labels"] == {
        "crewrun.dev/run": names.run_label(long),
        "crewrun.dev/run-uid": RUN_UID,
        "crewrun.dev/attempt": "0",
        "crewrun.dev/crew": "research",
        "app.kubernetes.io/managed-by": "crewrun",
        "app.kubernetes.io/component": "runner",
    }
    assert metadata["annotations"] == {"crewrun.dev/run": long}


def test_made_twice_it_is_the_same() -> None:
    assert job_of(SECRET_WEBHOOK) == job_of(SECRET_WEBHOOK)

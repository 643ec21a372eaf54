"""The Job of an attempt: restricted, complete, and with nothing of the user's in the place of ours."""

import json
from dataclasses import replace
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.resolved import AttemptSettings
from crewrun_operator.job import build_job
from tests.unit.builders import RUN_UID, RunBuilder, a_payload


def job_of(attempt: int = 1, run: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return build_job(run or RunBuilder().build(), attempt, a_payload(**settings))


def pod_of(**settings: Any) -> dict[str, Any]:
    spec: dict[str, Any] = job_of(**settings)["spec"]["template"]["spec"]
    return spec


def container_of(**settings: Any) -> dict[str, Any]:
    (container,) = pod_of(**settings)["containers"]
    return dict(container)


def env_of(**settings: Any) -> dict[str, Any]:
    """As kubelet reads it: of two variables of one name the last counts."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container_of(**settings)["env"]}


def test_kubernetes_neither_retries_nor_replaces() -> None:
    spec = job_of()["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in spec, "the Jobs of a run are kept until the run goes"


def test_the_pod_is_restricted() -> None:
    """What Pod Security "restricted" asks for, and a read-only root file system."""
    pod, container = pod_of(), container_of()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {key for volume in pod["volumes"] for key in volume} - {"name"}
    assert kinds == {"downwardAPI", "emptyDir"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_the_runner_has_no_api_token() -> None:
    pod = pod_of(pod={"serviceAccountName": "builder"})
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["serviceAccountName"] == "builder"
    assert "projected" not in json.dumps(pod["volumes"])


def test_the_record_is_a_file_and_never_the_log() -> None:
    container = container_of()
    assert container["terminationMessagePolicy"] == "File"
    assert container["terminationMessagePath"] == "/dev/termination-log"


def test_the_payload_travels_in_annotations_that_are_mounted_and_its_digest_in_the_environment() -> None:
    payload = a_payload()
    template = build_job(RunBuilder().build(), 1, payload)["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    assert (annotations["crewrun.dev/spec"], annotations["crewrun.dev/inputs"]) == (payload.spec, payload.inputs)
    (volume,) = [each for each in template["spec"]["volumes"] if "downwardAPI" in each]
    assert {item["path"]: item["fieldRef"]["fieldPath"] for item in volume["downwardAPI"]["items"]} == {
        "spec.json": "metadata.annotations['crewrun.dev/spec']",
        "inputs.json": "metadata.annotations['crewrun.dev/inputs']",
    }
    (container,) = template["spec"]["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts[volume["name"]]["mountPath"] == names.SPEC_DIR
    want_digest = names.payload_digest(payload.spec.encode(), payload.inputs.encode())
    assert {"name": "CREWRUN_DIGEST", "value": want_digest} in container["env"]


def test_the_job_belongs_to_its_run_and_says_so() -> None:
    long = "r" * 200
    metadata = job_of(2, RunBuilder().metadata(name=long).build())["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("CrewRun", long, RUN_UID, True)
    assert metadata["labels"] == {
        "crewrun.dev/run": names.run_label(long),
        "crewrun.dev/run-uid": RUN_UID,
        "crewrun.dev/attempt": "2",
        "crewrun.dev/crew": "research",
        "app.kubernetes.io/managed-by": "crewrun",
        "app.kubernetes.io/component": "runner",
    }
    assert metadata["annotations"]["crewrun.dev/run"] == long, "a label may have to shorten it"


def test_the_pod_carries_the_labels_and_the_name_of_its_run() -> None:
    job = job_of(pod={"labels": {"team": "a"}, "annotations": {"note": "b"}})
    template = job["spec"]["template"]["metadata"]
    assert template["labels"] == {"team": "a", **job["metadata"]["labels"]}
    assert template["annotations"]["note"] == "b"
    assert template["annotations"]["crewrun.dev/run"] == "report"


@pytest.mark.parametrize("key", ["crewrun.dev/run-uid", "crewrun.dev/attempt", "app.kubernetes.io/component"])
def test_no_label_of_the_user_replaces_ours(key: str) -> None:
    job = job_of(pod={"labels": {key: "forged"}})
    assert job["spec"]["template"]["metadata"]["labels"] == job["metadata"]["labels"]


@pytest.mark.parametrize("key", ["crewrun.dev/run", "crewrun.dev/spec", "crewrun.dev/inputs"])
def test_no_annotation_of_the_user_replaces_ours(key: str) -> None:
    job = job_of(pod={"annotations": {key: "forged"}})
    assert job["spec"]["template"]["metadata"]["annotations"][key] != "forged"


OWN_VARIABLES = ["CREWRUN_RUN_NAME", "CREWRUN_RUN_NAMESPACE", "CREWRUN_RUN_UID", "CREWRUN_ATTEMPT", "CREWRUN_POD_UID",
                 "CREWRUN_DIGEST", "HOME"]  # fmt: skip


@pytest.mark.parametrize("name", OWN_VARIABLES)
def test_no_variable_of_the_user_replaces_ours(name: str) -> None:
    forged = {"name": name, "value": "forged"}
    secret = {"name": name, "secretKeyRef": {"name": "forged", "key": "k"}}
    env = container_of(env=[forged], secrets=[secret])["env"]
    last = [each for each in env if each["name"] == name][-1]
    assert "forged" not in str(last)
    assert {each["name"] for each in env[-len(OWN_VARIABLES) :]} == set(OWN_VARIABLES)


def test_the_runner_knows_who_it_is() -> None:
    env = env_of()
    assert (env["CREWRUN_RUN_NAME"], env["CREWRUN_RUN_NAMESPACE"]) == ("report", "team-a")
    assert (env["CREWRUN_RUN_UID"], env["CREWRUN_ATTEMPT"]) == (RUN_UID, "1")
    assert env["CREWRUN_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("annotations", "want_variable"),
    [
        pytest.param({"crewrun.dev/traceparent": TRACEPARENT}, TRACEPARENT, id="valid"),
        pytest.param({"crewrun.dev/traceparent": "00-zz-01"}, None, id="not valid"),
        pytest.param({"traceparent": TRACEPARENT}, None, id="of somebody else"),
        pytest.param(None, None, id="none"),
    ],
)
def test_the_trace_that_a_run_is_a_part_of_goes_on_in_its_runner(
    annotations: dict[str, str] | None, want_variable: str | None
) -> None:
    (container,) = job_of(run=RunBuilder().metadata(annotations=annotations).build())["spec"]["template"]["spec"][
        "containers"
    ]
    found = [each["value"] for each in container["env"] if each["name"] == "TRACEPARENT"]
    assert found == ([want_variable] if want_variable else [])


def test_secrets_become_variables_and_files_by_reference() -> None:
    secrets = [
        {"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "llm-keys", "key": "openai"}},
        {"mountPath": "/etc/certs", "secretName": "client", "items": [{"key": "tls.crt", "path": "a/tls.crt"}]},
        {"mountPath": "/etc/more", "secretName": "more"},
    ]
    pod = pod_of(secrets=secrets)
    assert env_of(secrets=secrets)["OPENAI_API_KEY"] == {"secretKeyRef": {"name": "llm-keys", "key": "openai"}}
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume.get("secret") for volume in pod["volumes"]}
    assert mounts["/etc/certs"]["readOnly"] and mounts["/etc/more"]["readOnly"]
    assert volumes[mounts["/etc/certs"]["name"]] == {
        "secretName": "client",
        "defaultMode": 0o440,
        "items": [{"key": "tls.crt", "path": "a/tls.crt"}],
    }
    assert volumes[mounts["/etc/more"]["name"]] == {"secretName": "more", "defaultMode": 0o440}


def test_variables_may_come_from_elsewhere() -> None:
    source = {"configMapKeyRef": {"name": "c", "key": "k"}}
    container = container_of(env=[{"name": "A", "valueFrom": source}], envFrom=[{"configMapRef": {"name": "c"}}])
    assert {"name": "A", "valueFrom": source} in container["env"]
    assert container["envFrom"] == [{"configMapRef": {"name": "c"}}]


@pytest.mark.parametrize(
    ("settings", "want_deadline"),
    [
        pytest.param({}, None, id="no limit"),
        pytest.param({"attemptTimeoutSeconds": 100}, 100 + 600 + 30 + 300 + 60, id="with the other limits' defaults"),
        pytest.param(
            {
                "attemptTimeoutSeconds": 100,
                "startDeadlineSeconds": 10,
                "pod": {"terminationGracePeriodSeconds": 5},
                "reportGraceSeconds": 20,
            },
            100 + 10 + 5 + 20 + 60,
            id="with all limits",
        ),
    ],
)
def test_the_jobs_own_deadline_is_a_backstop_behind_all_others(
    settings: dict[str, Any], want_deadline: int | None
) -> None:
    assert job_of(**settings)["spec"].get("activeDeadlineSeconds") == want_deadline


def test_what_the_profile_says_of_pods_is_passed_on() -> None:
    told: dict[str, Any] = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "imagePullSecrets": [{"name": "regcred"}],
        "runtimeClassName": "gvisor",
        "priorityClassName": "batch",
        "terminationGracePeriodSeconds": 45,
    }
    pod = pod_of(pod={**told, "image": "own:2", "imagePullPolicy": "Always", "resources": {"limits": {"cpu": "1"}}})
    assert {key: pod[key] for key in told} == told
    container = pod["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("own:2", "Always")
    assert container["resources"] == {"limits": {"cpu": "1"}}


def test_volumes_of_the_user_come_beside_ours() -> None:
    volume, mount = {"name": "data", "emptyDir": {}}, {"name": "data", "mountPath": "/data"}
    pod = pod_of(pod={"volumes": [volume], "volumeMounts": [mount]})
    assert volume in pod["volumes"] and mount in pod["containers"][0]["volumeMounts"]
    assert len(pod["volumes"]) == len(pod_of()["volumes"]) + 1


def test_the_runner_may_write_to_tmp_and_home_alone() -> None:
    writable = [mount["mountPath"] for mount in container_of()["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp", names.HOME_DIR]
    assert env_of()["HOME"] == names.HOME_DIR


def test_the_job_keeps_what_the_operator_decides_by() -> None:
    job = job_of(timeoutSeconds=9, ttlSecondsAfterFinished=0, retry={"maxAttempts": 7})
    settings = AttemptSettings.model_validate_json(job["metadata"]["annotations"]["crewrun.dev/settings"])
    assert (settings.timeout_seconds, settings.ttl_seconds_after_finished, settings.retry.max_attempts) == (9, 0, 7)
    assert settings.start_deadline_seconds == 600


def test_the_same_attempt_has_the_same_manifest() -> None:
    assert job_of() == job_of()


def test_an_attempt_is_told_what_is_left_of_the_budget_and_what_may_be_gone_of_it() -> None:
    usage = {"requests": 3, "totalTokens": 500, "costUSD": "0.001500", "incomplete": True, "reservedRequests": 1}
    usage |= {"reservedTokens": 90, "reservedCostUSD": "0.000200"}
    run = {**RunBuilder().build(), "status": {"usage": usage}}
    payload = a_payload()
    settings = AttemptSettings.model_validate({"budget": {"maxCostUSD": "2.50", "maxRequests": 9}})
    payload = replace(payload, settings=settings.model_dump_json(by_alias=True))
    (container,) = build_job(run, 2, payload)["spec"]["template"]["spec"]["containers"]
    (told,) = [json.loads(each["value"]) for each in container["env"] if each["name"] == names.ENV_ALLOWANCE]
    assert told == {
        "budget": {"maxCostUSD": "2.50", "maxRequests": 9},
        "spent": {"requests": 4, "tokens": 590, "costUSD": "0.001700"},
    }
    assert names.ENV_ALLOWANCE not in env_of()

"""Runs on real Pods: what the model's ledger counted is what the status says."""

import base64
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Space
from tests.support.kube import condition, crew, phase, run
from tests.support.operator import Operator

ANSWER = {"replies": [{"text": "A crew of agents."}]}
UNAVAILABLE = {"fault": {"status": 503}}


def ledger(own: Space) -> dict[str, int]:
    """What the provider would bill."""
    answered = [call for call in own.calls if call["status"] == 200]
    fields = ("promptTokens", "completionTokens", "totalTokens")
    return {"requests": len(answered), **{field: sum(call[field] for call in answered) for field in fields}}


def test_a_run_succeeds_and_is_charged_what_the_ledger_says(own: Space) -> None:
    own.llm.play(ANSWER)
    own.kube.apply(crew("plain"), run("r", "plain"))
    ended = own.kube.await_end("r")
    status = ended["status"]
    assert (status["phase"], status["output"]["value"]) == ("Succeeded", "A crew of agents.")
    assert {field: status["usage"][field] for field in ledger(own)} == ledger(own)
    assert ledger(own)["requests"] == 1
    (task,) = status["tasks"]
    assert (task["name"], task["agent"], task["state"]) == ("t1", "Writer", "Succeeded")


def test_the_key_reaches_the_model_and_stands_nowhere_else(own: Space, tmp_path: Path) -> None:
    own.llm.play(ANSWER)
    own.kube.apply(crew("plain"), run("r", "plain"))
    ended = own.kube.await_end("r")
    assert len(own.calls) == 1, "the model was asked with the key of the Secret"
    job = ended["status"]["attempts"][0]["job"]
    kinds = "crewruns,crews,crewprofiles,crewqueues,jobs,pods,configmaps,events,serviceaccounts"
    told = own.kube.kubectl("get", kinds, "-o", "json")
    told += own.kube.kubectl("logs", f"job/{job}")
    told += own.kube.kubectl("describe", "crewruns,jobs,pods")
    told += own.kube.within("crewrun-system").kubectl("logs", "deployment/crewrun")
    told += own.kube.kubectl("get", "--raw", "/api/v1/namespaces/crewrun-system/services/crewrun:http/proxy/metrics")
    assert ended["metadata"]["uid"] in told
    for form in (own.key, base64.b64encode(own.key.encode()).decode(), own.key[7:]):
        assert form not in told
    (secret,) = own.kube.items("secrets")
    assert base64.b64decode(secret["data"]["openai"]).decode() == own.key


def test_a_crew_that_fails_once_is_tried_again_after_its_backoff(own: Space) -> None:
    own.llm.play({"replies": [UNAVAILABLE, {"text": "At last."}]})
    own.kube.apply(crew("flaky"), run("r", "flaky"))
    waiting = own.kube.await_phase("r", "BackingOff")
    first = waiting["status"]["attempts"][0]
    assert waiting["status"]["nextAttemptTime"] > first["completionTime"]
    ended = own.kube.await_end("r")
    attempts = ended["status"]["attempts"]
    assert phase(ended) == "Succeeded"
    assert [(a["outcome"], a["reason"]) for a in attempts] == [("Failed", "LLMUnavailable"), ("Succeeded", "Completed")]
    assert attempts[1]["startTime"] >= waiting["status"]["nextAttemptTime"]
    assert "503" in attempts[0]["message"]
    assert "t1" in attempts[0]["message"]
    assert {field: ended["status"]["usage"][field] for field in ledger(own)} == ledger(own)


def test_a_crew_that_always_fails_ends_after_max_attempts_with_a_message_to_act_on(own: Space) -> None:
    own.llm.play({"replies": [UNAVAILABLE]})
    own.kube.apply(crew("broken"), run("r", "broken", retry={"maxAttempts": 2, "backoff": {"initialSeconds": 0}}))
    ended = own.kube.await_end("r")
    assert (phase(ended), ended["status"]["attemptCount"]) == ("Failed", 2)
    failed = condition(ended, "Succeeded")
    assert (failed["status"], failed["reason"]) == ("False", "LLMUnavailable")
    for part in ("attempt 2 was the last of 2 attempts", "task t1", "model openai/gpt-4o", "503"):
        assert part in failed["message"]
    events = [event for event in own.kube.items("events") if event["involvedObject"]["kind"] == "CrewRun"]
    assert {event["reason"] for event in events} == {"AttemptFailed", "LLMUnavailable"}


def test_a_wrong_key_is_not_tried_again(own: Space) -> None:
    own.llm.play({"replies": [{"fault": {"status": 401}}]})
    own.kube.apply(crew("plain"), run("r", "plain"))
    ended = own.kube.await_end("r")
    assert (phase(ended), ended["status"]["attemptCount"]) == ("Failed", 1)
    assert condition(ended, "Succeeded")["reason"] == "LLMAuthentication"


def test_a_missing_secret_waits_without_a_call_and_the_run_starts_when_it_is_created(own: Space) -> None:
    own.llm.play(ANSWER)
    secret = own.kube.get("secret", "llm-keys")
    own.kube.kubectl("delete", "secret", "llm-keys")
    own.kube.apply(crew("plain"), run("r", "plain"))
    waiting = own.kube.await_run("r", lambda r: condition(r, "Succeeded").get("reason") == "MissingSecret")
    assert phase(waiting) == "Starting"
    assert 'secret "llm-keys" not found' in condition(waiting, "Succeeded")["message"]
    assert own.calls == []
    own.kube.apply({key: secret[key] for key in ("apiVersion", "kind", "data")} | {"metadata": {"name": "llm-keys"}})
    ended = own.kube.await_end("r")
    assert (phase(ended), ended["status"]["attemptCount"], len(own.calls)) == ("Succeeded", 1, 1)


def test_secrets_arrive_as_files_too(own: Space) -> None:
    own.llm.play(ANSWER)
    files = [{"mountPath": "/etc/keys", "secretName": "llm-keys", "items": [{"key": "openai", "path": "openai.txt"}]}]
    own.kube.apply(crew("plain", secrets=files), run("r", "plain"))
    ended = own.kube.await_end("r")
    (pod,) = own.kube.items("pods")
    (container,) = pod["spec"]["containers"]
    assert phase(ended) == "Succeeded"
    assert "/etc/keys" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_a_runner_that_exits_0_without_a_record_is_not_a_success(own: Space) -> None:
    impostor = {"__init__.py": "", "__main__.py": "print('nothing to say')"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "impostor"}, "data": impostor}
    pod = {
        "volumes": [{"name": "impostor", "configMap": {"name": "impostor"}}],
        "volumeMounts": [{"name": "impostor", "mountPath": "/impostor/crewrun_runner"}],
    }
    env = [{"name": "PYTHONPATH", "value": "/impostor"}]
    own.kube.apply(config, crew("plain"), run("r", "plain", pod=pod, env=env, retry={"maxAttempts": 1}))
    ended = own.kube.await_end("r")
    (attempt,) = ended["status"]["attempts"]
    assert (attempt["exitCode"], attempt["reason"], phase(ended)) == (0, "RunnerLost", "Failed")
    assert ended["status"]["usage"]["incomplete"] is True
    assert "nothing to say" in own.kube.kubectl("logs", f"job/{attempt['job']}")


def test_cancel_stops_a_call_in_flight_and_makes_no_other(own: Space) -> None:
    own.llm.play({"replies": [{"text": "too late", "delaySeconds": 60}]})
    own.kube.apply(crew("slow"), run("r", "slow"))
    own.kube.kubectl("wait", "crewrun/r", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", '{"spec":{"cancel":true}}')
    ended = own.kube.await_end("r")
    (attempt,) = ended["status"]["attempts"]
    assert (phase(ended), attempt["outcome"]) == ("Cancelled", "Stopped")
    assert len(own.calls) <= 1


def test_kubectl_get_describe_and_wait_read_well(own: Space) -> None:
    own.llm.play(ANSWER)
    own.kube.apply(crew("plain"), run("r", "plain"))
    own.kube.kubectl("wait", "crewrun/r", "--for=condition=Succeeded", "--timeout=60s")
    header, row = own.kube.kubectl("get", "crewruns").splitlines()
    assert header.split() == ["NAME", "CREW", "PHASE", "PROGRESS", "ATTEMPTS", "TOKENS", "COST", "AGE"]
    tokens = str(ledger(own)["totalTokens"])
    assert row.split()[:6] == ["r", "plain", "Succeeded", "1/1", "1", tokens]
    assert "REASON" in own.kube.kubectl("get", "crun", "-o", "wide")
    described = " ".join(own.kube.kubectl("describe", "crewrun", "r").split())
    for part in ("Phase: Succeeded", "Value: A crew of agents.", "Message: attempt 1 finished the crew"):
        assert part in described


@pytest.mark.parametrize(("point", "want_jobs"), [("before:2", 0), ("after:2", 1)])
def test_an_operator_killed_around_the_job_leaves_one_job_and_one_call(
    own: Space, tmp_path: Path, point: str, want_jobs: int
) -> None:
    own.llm.play(ANSWER)
    own.kube.apply(crew("plain"))
    deployment = own.kube.within("crewrun-system")
    deployment.kubectl("scale", "deployment/crewrun", "--replicas=0")
    deployment.kubectl("wait", "pods", "-l", "app.kubernetes.io/component=operator", "--for=delete", "--timeout=60s")
    settings = {"CREWRUN_NAMESPACES": json.dumps([own.kube.namespace]), "CRASH": point}
    try:
        dying = Operator(own.kube.kubeconfig, tmp_path / "log", "tests.support.crashing_operator", **settings)
        dying.await_ready()
        own.kube.apply(run("r", "plain"))
        assert dying.await_death() == -signal.SIGKILL
        left = own.kube.get("crewrun", "r")
        assert left["status"]["attempts"][0]["number"] == 1, "the attempt is recorded before its Job is made"
        assert len(own.kube.jobs_of(left)) == want_jobs
    finally:
        deployment.kubectl("scale", "deployment/crewrun", "--replicas=1")
    ended = own.kube.await_end("r")
    assert (phase(ended), ended["status"]["attemptCount"]) == ("Succeeded", 1)
    assert len(own.kube.jobs_of(ended)) == 1
    assert len(own.calls) == 1


def test_a_runner_that_is_killed_for_its_memory_gets_more(own: Space) -> None:
    own.llm.play(ANSWER)
    growth = {"memoryFactor": 6, "maxMemory": "512Mi"}
    pod = {"resources": {"requests": {"memory": "40Mi"}, "limits": {"memory": "80Mi"}}}
    retry = {"outOfMemory": growth, "backoff": {"initialSeconds": 0}}
    own.kube.apply(crew("plain"), run("r", "plain", pod=pod, retry=retry))
    ended = own.kube.await_end("r")
    assert [attempt["reason"] for attempt in ended["status"]["attempts"]] == ["OutOfMemory", "Completed"]
    limits = {
        job["metadata"]["labels"]["crewrun.dev/attempt"]: job["spec"]["template"]["spec"]["containers"][0]["resources"]
        for job in own.kube.jobs_of(ended)
    }
    assert limits["2"]["limits"]["memory"] == str(480 * 1024**2)
    assert len(own.calls) == 1

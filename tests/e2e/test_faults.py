"""Faults of a model's provider, each on a real Pod: its reason, its number of attempts, its wait."""

from datetime import datetime

from tests.e2e.conftest import Space
from tests.support.kube import Document, Kube, condition, crew, phase, run

DONE = {"text": "Done."}
NO_SUCH_HOST = "https://scripted-llm.nowhere.invalid:8443/v1"

#: Input, replies, attempts that the run may make, and then: phase, the attempts' reasons.
FAULTS: dict[str, tuple[list[Document], int, str, list[str]]] = {
    "wrong-key": ([{"fault": {"status": 401}}], 3, "Failed", ["LLMAuthentication"]),
    "too-long": ([{"fault": "contextTooLong"}], 3, "Failed", ["LLMContextExceeded"]),
    "limited": (
        [{"fault": {"status": 429, "retryAfterSeconds": 7}}, DONE],
        3,
        "Succeeded",
        ["LLMRateLimited", "Completed"],
    ),
    "broken-twice": (
        [{"fault": {"status": 500}, "repeat": 2}, DONE],
        3,
        "Succeeded",
        ["LLMUnavailable", "LLMUnavailable", "Completed"],
    ),
    "hanging": ([{"fault": "timeout"}], 1, "Failed", ["LLMTimeout"]),
    "garbage": ([{"fault": "garbage"}], 1, "Failed", ["LLMUnavailable"]),
}


def test_each_fault_has_its_reason_and_its_attempts(own: Space) -> None:
    """All at once: each is told from the others by its input."""
    rules = [{"name": name, "match": {"user": name}, "replies": replies} for name, (replies, *_) in FAULTS.items()]
    own.llm.play(*rules)
    llm = {"timeoutSeconds": 5}
    own.kube.apply(
        crew("plain"),
        *(
            run(name, "plain", inputs={"topic": name}, llm=llm, retry=_retry(attempts))
            for name, (_, attempts, *_) in FAULTS.items()
        ),
        run("refused", "plain", llm={**llm, "baseURL": "http://127.0.0.1:9/v1"}, retry=_retry(1)),
        run("bad-tls", "plain", llm={**llm, "baseURL": own.llm.base_url.replace("http:", "https:")}, retry=_retry(1)),
        run("no-such-host", "plain", llm={**llm, "baseURL": NO_SUCH_HOST}, retry=_retry(1)),
    )
    told = {}
    for name, (_, _, want_phase, want_reasons) in FAULTS.items():
        ended = own.kube.await_end(name, seconds=180)
        told[name] = f"{phase(ended)}: {', '.join(a['reason'] for a in ended['status']['attempts'])}"
        assert told[name] == f"{want_phase}: {', '.join(want_reasons)}", ended["status"]
    for name in ("refused", "bad-tls", "no-such-host"):
        ended = own.kube.await_end(name, seconds=180)
        told[name] = condition(ended, "Succeeded")["message"]
        assert condition(ended, "Succeeded")["reason"] == "LLMUnavailable", told[name]
        assert len(ended["status"]["attempts"]) == 1
    print("", *(f"{name}: {words}" for name, words in told.items()), sep="\n")
    first, second = own.kube.get("crewrun", "limited")["status"]["attempts"]
    assert (_time(second["startTime"]) - _time(first["completionTime"])).total_seconds() >= 7
    assert len([call for call in own.calls if call["rule"] == "wrong-key"]) == 1


def _retry(attempts: int) -> Document:
    return {"maxAttempts": attempts, "backoff": {"initialSeconds": 0}}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


_FORGER = """
import json, os, time
record = {
    "version": 1, "runUID": os.environ["CREWRUN_RUN_UID"], "attempt": int(os.environ["CREWRUN_ATTEMPT"]),
    "podUID": os.environ["CREWRUN_POD_UID"], "outcome": "Succeeded", "reason": "Completed", "exitCode": 0,
    "startTime": "", "completionTime": "", "output": {"value": "forged", "bytes": 6, "sha256": "x"},
}
print(json.dumps(record))
believe = os.environ["FORGE"]
if believe != "log":
    key, value = believe.split("=")
    record[key] = int(value) if value.isdigit() else value
    open("/dev/termination-log", "w").write(json.dumps(record))
"""


def test_a_record_that_is_not_this_executions_is_not_believed(own: Space) -> None:
    """One in the log, one of another attempt, of another Pod, of another run: each from a runner that exits 0."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "forger"}}
    own.kube.apply({**config, "data": {"__init__.py": "", "__main__.py": _FORGER}}, crew("plain"))
    pod = {
        "volumes": [{"name": "forger", "configMap": {"name": "forger"}}],
        "volumeMounts": [{"name": "forger", "mountPath": "/forger/crewrun_runner"}],
    }
    forgeries = {"log": "log", "attempt": "attempt=7", "pod": "podUID=another", "run": "runUID=another"}
    for name, forge in forgeries.items():
        env = [{"name": "PYTHONPATH", "value": "/forger"}, {"name": "FORGE", "value": forge}]
        own.kube.apply(run(name, "plain", pod=pod, env=env, retry={"maxAttempts": 1}))
    for name in forgeries:
        ended = own.kube.await_end(name)
        assert (phase(ended), condition(ended, "Succeeded")["reason"]) == ("Failed", "RunnerLost"), name
        assert "output" not in ended["status"]


def writes(kube: Kube) -> dict[str, float]:
    """What the operator has asked the API server to write so far, by resource."""
    service = "/api/v1/namespaces/crewrun-system/services/crewrun:http/proxy/metrics"
    found: dict[str, float] = {}
    for line in kube.kubectl("get", "--raw", service).splitlines():
        if line.startswith("crewrun_api_requests_total{") and 'verb="GET"' not in line:
            resource = line.split('resource="', 1)[1].split('"', 1)[0]
            found[resource] = found.get(resource, 0) + float(line.rsplit(" ", 1)[1])
    return found


def test_the_operator_writes_little(own: Space) -> None:
    """Three writes; and one for each checkpoint, and at most one a second to show where it stands."""
    own.llm.play({"replies": [DONE]})
    for tasks in (1, 2, 5):
        definition = crew("plain")["spec"]["definition"]
        described = definition["tasks"][0]
        definition["tasks"] = [{**described, "name": f"t{number}"} for number in range(tasks)]
        name = f"tasks-{tasks}"
        document = crew(name, definition=definition)
        before = writes(own.kube)
        own.kube.apply(document, run(name, name))
        ended = own.kube.await_end(name)
        assert phase(ended) == "Succeeded"
        made = {kind: int(count - before.get(kind, 0)) for kind, count in writes(own.kube).items()}
        made = {kind: count for kind, count in made.items() if count}
        shown = made.pop("crewruns/status") - 2
        print(f"\n{tasks} task(s): {made}, status 2 + {shown} of visible progress")
        checkpoints = {"configmaps": tasks - 1} if tasks > 1 else {}
        assert made == {"jobs": 1, **checkpoints}
        lived = _time(ended["status"]["completionTime"]) - _time(ended["status"]["startTime"])
        assert 0 <= shown <= lived.total_seconds() + 1

"""Keys in every place that a run can take one from, and a model that gives them all back: none is kept anywhere."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any
from zlib import decompress

from tests.e2e.conftest import SYSTEM_NAMESPACE, Space, profile
from tests.support.five_tasks import five_tasks
from tests.support.kube import Document, document, phase, run

KINDS = "crewruns,crews,crewprofiles,crewqueues,jobs,pods,configmaps,events"


def strings(value: Any) -> Iterator[str]:
    """Every text in a document, and what a ConfigMap keeps as bytes."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_a_model_that_knows_every_key_gives_none_of_them_away(own: Space) -> None:
    places = {place: f"canary-{place}-{uuid.uuid4().hex[:12]}" for place in ("file", "password", "header", "input")}
    address = own.llm.base_url.replace("http://", f"http://me:{places['password']}@")
    keys = {
        "file": places["file"],
        "address": address,
        "header": f"Bearer {places['header']}",
        "input": places["input"],
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys}
    canaries = [own.key, *places.values()]
    told = " and ".join(canaries)
    echo: Document = {"fault": {"status": 400, "message": f"you sent {told}", "echoKey": True}}
    own.llm.play(
        {"name": "t4", "match": {"user": "Do t4"}, "replies": [echo]}, {"replies": [{"text": f"The keys are {told}."}]}
    )
    variables = [
        {"name": name, "secretKeyRef": {"name": "keys", "key": key}}
        for name, key in (("OPENAI_BASE_URL", "address"), ("GATEWAY_AUTHORIZATION", "header"))
    ]
    settings = {
        "profile": "bare",
        "verbose": True,
        "secrets": [*variables, {"mountPath": "/etc/keys", "secretName": "keys"}],
        "inputsFrom": [{"secretKeyRef": {"name": "keys", "key": "input"}, "input": "customer"}],
    }
    bare = profile(own.llm)["spec"]
    bare |= {"default": False, "llm": {"model": "openai/gpt-4o"}}
    own.kube.apply(secret, document("CrewProfile", "bare", bare), five_tasks(), run("r", "five", **settings))
    ended = own.kube.await_end("r")
    status = ended["status"]
    assert (phase(ended), status["progress"]) == ("Failed", "3/5"), status
    assert "[redacted]" in status["tasks"][0]["preview"]
    assert "[redacted]" in status["attempts"][0]["message"]
    kept = own.kube.kubectl("get", KINDS, "-o", "json")
    (checkpoint,) = [each for each in own.kube.items("configmaps") if each["metadata"]["name"].endswith("-checkpoint")]
    assert checkpoint["binaryData"], "three tasks are finished"
    log = own.kube.kubectl("logs", f"job/{status['attempts'][0]['job']}")
    assert "llm_call_failed" in log
    told_by_operator = own.kube.within(SYSTEM_NAMESPACE).kubectl("logs", "deployment/crewrun")
    texts = [*strings(json.loads(kept)), log, told_by_operator, *inflated(checkpoint)]
    for canary in canaries:
        for form in (canary, base64.b64encode(canary.encode()).decode().rstrip("=")):
            assert not [text for text in texts if form in text], f"{canary} is kept"


def inflated(checkpoint: Document) -> list[str]:
    return [decompress(base64.b64decode(data)).decode() for data in checkpoint["binaryData"].values()]

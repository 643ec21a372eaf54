"""`python -m crewrun_testing.check`: what `helm test` runs. One crew, from its manifest to its bill.

It serves the scripted LLM itself, makes a CrewRun with the profile CREWRUN_TEST_PROFILE in the namespace
CREWRUN_TEST_NAMESPACE, tells what happens to it line by line, and compares what the run was charged with what the
model was asked. The run is removed when all is well; otherwise it stays for an hour, to be looked at.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from .ledger import Totals
from .running import ScriptedLLM

Document = dict[str, Any]
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PORT = 8000
_FEW_MINUTES = 300
_ENDED = ("Succeeded", "Failed", "Cancelled")
_VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}
#: A line of a watch holds a whole run, with its inline crew and its status.
_LINE_BYTES = 4 * 1024 * 1024

SCRIPT = {
    "rules": [
        {"name": "greet", "match": {"user": "Say hello"}, "replies": [{"text": "Hello."}]},
        {"name": "answer", "match": {"user": "Answer the greeting"}, "replies": [{"text": "CrewRun works."}]},
    ]
}


class CheckError(Exception):
    """Something is not as it must be; the text says what to do."""


@dataclass(frozen=True)
class Target:
    """Where the run is made, and who asks."""

    server: str
    token: str
    namespace: str
    profile: str
    seconds: float = _FEW_MINUTES

    @property
    def runs(self) -> str:
        return f"{self.server}/apis/crewrun.dev/v1alpha1/namespaces/{self.namespace}/crewruns"


def target(env: Mapping[str, str], account: Path = ACCOUNT) -> Target:
    """From the environment and the files of a Pod."""
    try:
        host, port = env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]
        host = f"[{host}]" if ":" in host else host
        token = (account / "token").read_text().strip()
        return Target(f"https://{host}:{port}", token, env["CREWRUN_TEST_NAMESPACE"], env["CREWRUN_TEST_PROFILE"])
    except (KeyError, OSError) as error:
        raise CheckError(f"this runs in a Pod that `helm test` makes: {error!r} is missing") from None


def manifest(target: Target) -> Document:
    """A crew of two tasks, so that a checkpoint is kept on the way."""
    task = {"expected_output": "One line.", "agent": "host"}
    definition = {
        "agents": {"host": {"role": "Host", "goal": "Be brief", "backstory": "Polite."}},
        "tasks": [
            {"name": "greet", "description": "Say hello.", **task},
            {"name": "answer", "description": "Answer the greeting.", "context": ["greet"], **task},
        ],
    }
    return {
        "apiVersion": "crewrun.dev/v1alpha1",
        "kind": "CrewRun",
        "metadata": {"generateName": "helm-test-"},
        "spec": {
            "crew": {"definition": definition},
            "profile": target.profile,
            "timeoutSeconds": math.ceil(target.seconds),
            "ttlSecondsAfterFinished": 3600,
        },
    }


async def check(session: aiohttp.ClientSession, target: Target, llm: ScriptedLLM) -> None:
    """Raises CheckError with what is wrong."""
    run = await _request(session, "POST", target.runs, manifest(target))
    name = run["metadata"]["name"]
    say(f"made CrewRun {target.namespace}/{name} with the profile {target.profile}")
    try:
        async with asyncio.timeout(target.seconds):
            ended = await _until_the_end(session, target, name)
    except TimeoutError:
        raise CheckError(stuck(await _request(session, "GET", f"{target.runs}/{name}"), target)) from None
    compare(ended, llm.ledger.totals)
    await _request(session, "DELETE", f"{target.runs}/{name}")
    say(f"removed CrewRun {target.namespace}/{name}")


async def _until_the_end(session: aiohttp.ClientSession, target: Target, name: str) -> Document:
    told = ""
    while True:  # a watch may end at any time, and be too old to begin again: then the run itself is asked
        run = await _request(session, "GET", f"{target.runs}/{name}")
        async with aclosing(_states(session, target, run)) as states:
            async for state in states:
                if (line := summary(state)) != told:
                    told = line
                    say(line)
                if state.get("status", {}).get("phase") in _ENDED:
                    return state


async def _states(session: aiohttp.ClientSession, target: Target, run: Document) -> AsyncGenerator[Document, None]:
    """The run as it is, and then as it changes."""
    yield run
    metadata = run["metadata"]
    query = {
        "watch": "1",
        "fieldSelector": f"metadata.name={metadata['name']}",
        "resourceVersion": metadata["resourceVersion"],
        "timeoutSeconds": "60",
    }
    async with session.get(target.runs, params=query) as response:
        if response.status >= 400:
            raise CheckError(refused("watch", response.status, await response.text()))
        async for line in response.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            if event["type"] == "DELETED":
                raise CheckError(f"somebody deleted CrewRun {metadata['name']} before it ended; run the test again")
            yield event["object"]


async def _request(session: aiohttp.ClientSession, method: str, url: str, body: Document | None = None) -> Document:
    async with session.request(method, url, json=body) as response:
        text = await response.text()
        if response.status >= 400:
            raise CheckError(refused(_VERBS[method], response.status, text))
        document: Document = json.loads(text)
        return document


def refused(verb: str, status: int, text: str) -> str:
    """What an answer of the API server that is no success means here."""
    try:
        message = str(json.loads(text).get("message", text))
    except ValueError:
        message = text[:500]
    hints = {
        403: "the Role of the chart's test grants this: was it changed, or does a policy forbid it?",
        404: "are the CRDs installed (crds.enabled, or the release that brings them)?",
        422: "are the CRDs those of this chart's version? `helm upgrade` brings them, unless crds.enabled is false",
    }
    return f"the API server refused to {verb}: {status} {message}\n  What to do: {hints.get(status, 'try again')}"


def summary(run: Document) -> str:
    """Where a run stands, in a line."""
    status = run.get("status", {})
    conditions = [c for c in status.get("conditions", []) if c["type"] in ("Accepted", "Succeeded")]
    reasons = [f"{c['type']}={c['status']} {c['reason']}" for c in conditions]
    return " ".join(["  ", status.get("phase", "not seen yet"), status.get("progress", ""), *reasons]).rstrip()


def messages(run: Document) -> str:
    conditions = run.get("status", {}).get("conditions", [])
    return "\n".join(f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions)


def stuck(run: Document, target: Target) -> str:
    """Why a run has not ended, as far as it tells."""
    look = f"kubectl -n {target.namespace} describe crewrun,jobs,pods"
    if not run.get("status", {}).get("phase"):
        return (
            f"no operator has looked at the run for {target.seconds} s\n  What to do: see the operator's log, and "
            f"whether it watches the namespace {target.namespace} (watch.namespaces)"
        )
    return f"the run has not ended after {target.seconds} s:\n{messages(run)}\n  What to do: {look}"


def compare(run: Document, totals: Totals) -> None:
    """Whether a run that ended did what it was to do, and was charged what the model counted."""
    status, name = run["status"], run["metadata"]["name"]
    namespace = run["metadata"]["namespace"]
    if status["phase"] != "Succeeded":
        look = f"kubectl -n {namespace} describe crewrun {name}; its runner's log: kubectl -n {namespace} logs -l "
        raise CheckError(
            f"the run ended as {status['phase']}:\n{messages(run)}\n  What to do: {look}crewrun.dev/run={name}"
        )
    counted = {"requests": totals.calls, "totalTokens": totals.total_tokens}
    charged = {field: status["usage"][field] for field in counted}
    if counted != charged:
        raise CheckError(
            f"the model counted {counted}, the run's status says {charged}\n  What to do: this is a bug; "
            f"please report it with `kubectl -n {namespace} get crewrun {name} -o yaml`"
        )
    said = status["output"]["value"]
    say(f"{said!r}; {charged['requests']} calls and {charged['totalTokens']} tokens, as the model counted")


def say(line: str) -> None:
    print(line, flush=True)


def session_of(target: Target, trust: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {target.token}"}
    connector = aiohttp.TCPConnector(ssl=trust)
    return aiohttp.ClientSession(headers=headers, connector=connector, read_bufsize=_LINE_BYTES)


async def run(target: Target, trust: ssl.SSLContext) -> None:
    async with (
        ScriptedLLM(SCRIPT, host="0.0.0.0", port=PORT) as llm,
        session_of(target, trust) as session,
    ):
        await check(session, target, llm)


def main() -> int:
    try:
        where = target(os.environ)
        asyncio.run(run(where, ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))))
    except CheckError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    except (OSError, aiohttp.ClientError) as error:
        print(
            f"FAILED: {error!r}\n  What to do: can this Pod reach the API server? See its NetworkPolicies", flush=True
        )
        return 1
    say("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

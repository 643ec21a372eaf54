"""The smallest client that does an operator's writes: for each run a status, a Job, a status; no logic at all.

It watches CrewRuns and Jobs, makes the same Job as the operator, and writes statuses of about the same size.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import orjson
from kubernetes.aio import client, config

from crewrun_api import names
from crewrun_operator import clock, paths
from crewrun_operator.job import build_job
from crewrun_operator.observed import Payload
from crewrun_operator.store import Store
from crewrun_operator.times import stamp
from crewrun_operator.validate import accept
from tests.support.kube import crew, run

AT_ONCE = 16
WATCH_SECONDS = 7200
AGENT = "crewrun-oracle"


def payload() -> Payload:
    """What a run of the benchmark's crew carries."""
    store = Store({"pod": {"image": "localhost/crewrun-runner:dev"}})
    its = {
        "namespace": "bench",
        "uid": "0f3ab111-1111-4111-8111-111111111111",
        "creationTimestamp": "",
        "generation": 1,
    }
    store.put_crew({**crew("fine"), "metadata": {"name": "fine", **its}})
    store.put_run({**run("r", "fine"), "metadata": {"name": "r", **its}})
    observed = store.observe(("bench", "r"))
    assert observed is not None
    return accept(observed).payload


async def main() -> None:
    its_payload = payload()
    configuration = client.Configuration()
    await config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=configuration)
    configuration.connection_pool_maxsize = 64
    api = client.ApiClient(configuration)
    turns = asyncio.Semaphore(AT_ONCE)
    runs: dict[str, dict[str, Any]] = {}

    async def request(verb: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        headers = {"Content-Type": kind, "Accept": "application/json", "User-Agent": AGENT}
        await api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        async with turns:
            response = await api.rest_client.request(verb, configuration.host + path, headers=headers, body=body)
            found: dict[str, Any] = orjson.loads(await response.read())
        assert response.status < 300, found
        return found

    async def begin(its_run: dict[str, Any]) -> None:
        its = its_run["metadata"]
        job = names.job_name(its["name"], its["uid"], 1)
        runs[its["uid"]] = its_run
        version = {"metadata": {"resourceVersion": its["resourceVersion"]}}
        await request("PATCH", paths.run_status(its["namespace"], its["name"]), {**version, "status": begun(job)})
        await request("POST", paths.jobs(its["namespace"]), build_job(its_run, 1, its_payload))

    async def end(job: dict[str, Any]) -> None:
        its_run = runs.pop(job["metadata"]["labels"][names.LABEL_RUN_UID], None)
        if its_run is not None:
            its = its_run["metadata"]
            await request("PATCH", paths.run_status(its["namespace"], its["name"]), {"status": ended(job)})

    async def follow(path: str, of_runs: bool) -> None:
        async for event in watched(api, configuration, path):
            found = event["object"]
            if of_runs and event["type"] == "ADDED" and not (found.get("status") or {}).get("phase"):
                group.create_task(begin(found))
            elif not of_runs and any(c["type"] == "Complete" for c in found.get("status", {}).get("conditions", [])):
                group.create_task(end(found))

    async with asyncio.TaskGroup() as group:
        group.create_task(follow(paths.custom(paths.CREWRUNS), True))
        group.create_task(follow(paths.jobs() + "?" + urlencode({"labelSelector": paths.RUNNER_SELECTOR}), False))
        print("ready", flush=True)


async def watched(api: Any, configuration: Any, path: str) -> AsyncIterator[dict[str, Any]]:
    url = configuration.host + path + ("&" if "?" in path else "?") + "watch=true"
    headers = {"Accept": "application/json", "User-Agent": AGENT}
    await api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
    response = await api.rest_client.request("GET", url, headers=headers, _request_timeout=WATCH_SECONDS)
    async for line in response.response.content:
        event = orjson.loads(line)
        assert "object" in event, event
        yield event


def begun(job: str) -> dict[str, Any]:
    now = stamp(clock.now())
    attempt = {"number": 1, "job": job, "startTime": now}
    return {**settled("Starting", "Unknown"), "startTime": now, "attempts": [attempt], "attemptCount": 1}


def ended(job: dict[str, Any]) -> dict[str, Any]:
    now = stamp(clock.now())
    attempt = {"number": 1, "job": job["metadata"]["name"], "startTime": now, "completionTime": now}
    attempt |= {"outcome": "Succeeded", "reason": "Completed", "exitCode": 0}
    return {**settled("Succeeded", "True"), "completionTime": now, "attempts": [attempt], "progress": "1/1"}


def settled(phase: str, verdict: str) -> dict[str, Any]:
    types = {"Accepted": "True", "Admitted": "True", "Succeeded": verdict, "Reconciling": "True", "Stalled": "False"}
    now = stamp(clock.now())
    conditions = [
        {"type": type_, "status": value, "reason": phase, "message": phase, "lastTransitionTime": now}
        for type_, value in types.items()
    ]
    return {"phase": phase, "observedGeneration": 1, "conditions": conditions}


if __name__ == "__main__":
    asyncio.run(main())

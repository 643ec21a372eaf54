"""What `helm test` runs, against an API server that plays the states of a run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from crewrun_api.run import RunSpec
from crewrun_testing import ScriptedLLM, check
from crewrun_testing.check import SCRIPT, CheckError, Target

Document = dict[str, Any]
RUNNING = {"phase": "Running", "progress": "1/2"}
SUCCEEDED = {"phase": "Succeeded", "progress": "2/2", "output": {"value": "CrewRun works."}}
BROKEN = {"type": "Succeeded", "status": "False", "reason": "LLMTimeout", "message": "no answer"}
FAILED = {"phase": "Failed", "conditions": [BROKEN]}
DELETED, EXPIRED = {"event": "DELETED"}, {"event": "ERROR"}


class Cluster:
    """The CrewRuns of one namespace. Each watch delivers the next list of states; one too many hangs."""

    def __init__(self, *watches: list[Document], refuses: str = "", status: int = 403, overcharged: int = 0) -> None:
        self.watches, self.refuses, self.status, self.overcharged = [*watches], refuses, status, overcharged
        self.state: Document = {}
        self.asked: list[str] = []

    def app(self, llm: ScriptedLLM) -> web.Application:
        self.llm = llm
        app = web.Application()
        path = "/apis/crewrun.dev/v1alpha1/namespaces/team-a/crewruns"
        app.router.add_post(path, self.create)
        app.router.add_get(path, self.watch)
        app.router.add_get(path + "/helm-test-x", self.read)
        app.router.add_delete(path + "/helm-test-x", self.read)
        return app

    def run(self) -> Document:
        totals = self.llm.ledger.totals
        usage = {"requests": totals.calls, "totalTokens": totals.total_tokens + self.overcharged}
        status = {"status": {**self.state, "usage": usage}} if self.state else {}
        return {"metadata": {"name": "helm-test-x", "namespace": "team-a", "resourceVersion": "7"}, **status}

    def note(self, verb: str, request: web.Request) -> None:
        assert request.headers["Authorization"] == "Bearer a-token"
        self.asked.append(verb)
        if verb == self.refuses:
            message = json.dumps({"kind": "Status", "message": "no right"})
            raise {403: web.HTTPForbidden, 404: web.HTTPNotFound, 500: web.HTTPServiceUnavailable}[self.status](
                text=message
            )

    async def create(self, request: web.Request) -> web.Response:
        """The runner is as fast as that: the model has been asked twice before the answer is there."""
        self.note("create", request)
        RunSpec.model_validate((await request.json())["spec"])
        async with aiohttp.ClientSession() as session:
            for text in ("Say hello.", "Answer the greeting."):
                body = {"model": "m", "messages": [{"role": "user", "content": text}]}
                await session.post(f"{self.llm.base_url}/chat/completions", json=body)
        return web.json_response(self.run(), status=201)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.note("watch", request)
        assert request.query["fieldSelector"] == "metadata.name=helm-test-x"
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.Event().wait()
        for state in self.watches.pop(0):
            if "event" not in state:
                self.state = state
            gone = {"kind": "Status", "code": 410, "reason": "Expired"}
            event = {"type": state.get("event", "MODIFIED"), "object": gone if state is EXPIRED else self.run()}
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def read(self, request: web.Request) -> web.Response:
        self.note(request.method.lower(), request)
        return web.json_response(self.run())


def checked(cluster: Cluster, seconds: float = 20) -> None:
    """Run the check against this cluster, on free ports."""

    async def run() -> None:
        async with ScriptedLLM(SCRIPT) as llm:
            runner = web.AppRunner(cluster.app(llm), handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server = f"http://127.0.0.1:{runner.addresses[0][1]}"
            target = Target(server, "a-token", "team-a", "crewrun-test", seconds)
            try:
                async with check.session_of(target, trust=True) as session:
                    await check.check(session, target, llm)
            finally:
                await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("watches", "want_asked"),
    [
        pytest.param([[RUNNING, SUCCEEDED]], ["create", "get", "watch", "delete"], id="in one watch"),
        pytest.param(
            [[RUNNING], [SUCCEEDED]],
            ["create", "get", "watch", "get", "watch", "delete"],
            id="over a watch that the API server ends",
        ),
        pytest.param(
            [[RUNNING, EXPIRED], [SUCCEEDED]],
            ["create", "get", "watch", "get", "watch", "delete"],
            id="over a watch that is too old",
        ),
    ],
)
def test_a_run_is_followed_to_its_end_and_removed(
    watches: list[list[Document]], want_asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(*watches)

    checked(cluster)

    assert cluster.asked == want_asked
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["made", "not", "Running", "Succeeded", "'CrewRun", "removed"]
    assert told[4].startswith("'CrewRun works.'; 2 calls and ")


def test_a_run_that_holds_much_is_followed_too() -> None:
    checked(Cluster([{**RUNNING, "note": "x" * 1_000_000}, SUCCEEDED]))


@pytest.mark.parametrize(
    ("cluster", "want"),
    [
        pytest.param(Cluster([FAILED]), "ended as Failed:\n  Succeeded=False LLMTimeout: no answer", id="a failure"),
        pytest.param(Cluster([SUCCEEDED], overcharged=1), "the run's status says", id="a wrong bill"),
        pytest.param(Cluster([RUNNING, DELETED]), "somebody deleted CrewRun helm-test-x", id="a run that goes away"),
        pytest.param(
            Cluster(refuses="create"), "refused to create: 403 no right\n  What to do: the Role", id="no right"
        ),
        pytest.param(Cluster(refuses="create", status=404), "are the CRDs installed", id="no CRDs"),
        pytest.param(Cluster(refuses="watch"), "refused to watch: 403", id="no right to watch"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do_and_the_run_stays(cluster: Cluster, want: str) -> None:
    with pytest.raises(CheckError) as wrong:
        checked(cluster)

    assert want in str(wrong.value)
    assert "delete" not in cluster.asked


@pytest.mark.parametrize(
    ("cluster", "want"),
    [
        pytest.param(Cluster(), "no operator has looked at the run", id="nobody looks at it"),
        pytest.param(Cluster([FAILED | {"phase": "Starting"}]), "LLMTimeout: no answer", id="it does not go on"),
    ],
)
def test_a_run_that_does_not_end_is_not_awaited_for_ever(cluster: Cluster, want: str) -> None:
    with pytest.raises(CheckError, match="What to do") as wrong:
        checked(cluster, seconds=0.5)

    assert want in str(wrong.value)


def test_the_target_comes_from_the_pod(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token\n")
    env = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "CREWRUN_TEST_NAMESPACE": "team-a",
        "CREWRUN_TEST_PROFILE": "crewrun-test",
    }

    found = check.target(env, tmp_path)

    assert found.runs == "https://[fd00::1]:443/apis/crewrun.dev/v1alpha1/namespaces/team-a/crewruns"
    assert (found.token, found.profile) == ("a-token", "crewrun-test")
    with pytest.raises(CheckError, match="KUBERNETES_SERVICE_HOST"):
        check.target({}, tmp_path)

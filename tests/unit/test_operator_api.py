"""Everything of a collection, streamed where the API server can, else in pages; and watches beside requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from crewrun_operator.api import Api, ApiError
from crewrun_operator.metrics import Metrics

Event = dict[str, Any]
Portion = list[Event] | ApiError


def event(version: int, type_: str = "ADDED", **annotations: str) -> Event:
    return {"type": type_, "object": {"metadata": {"resourceVersion": str(version), "annotations": annotations}}}


END = event(9, "BOOKMARK", **{"k8s.io/initial-events-end": "true"})
NOT_YET = event(5, "BOOKMARK")


class Scripted(Api):
    """A watch that tells these portions, and two pages of one object each."""

    def __init__(self, *portions: Portion) -> None:
        self._portions = portions

    async def watch(self, path: str, version: str, **query: str) -> AsyncGenerator[list[Event], None]:
        assert (version, query["sendInitialEvents"]) == ("", "true")
        for portion in self._portions:
            if isinstance(portion, ApiError):
                raise portion
            yield portion

    async def pages(self, path: str, **query: str) -> AsyncIterator[Event]:
        for version in (7, 8):
            yield {"metadata": {"resourceVersion": str(version)}, "items": [event(version)["object"]]}


def told(api: Api, **query: str) -> list[str]:
    """Type and version of each event."""

    async def story() -> list[str]:
        portions = [events async for events in api.everything("/apis/things", **query)]
        return [f"{each['type']} {each['object']['metadata']['resourceVersion']}" for some in portions for each in some]

    return asyncio.run(story())


PAGES = ["ADDED 7", "ADDED 8", "BOOKMARK 7"]


@pytest.mark.parametrize(
    ("portions", "want_told"),
    [
        pytest.param(
            [[event(3)], [event(4), END], [event(10)]],
            ["ADDED 3", "ADDED 4", "BOOKMARK 9"],
            id="streamed to the bookmark",
        ),
        pytest.param([[NOT_YET], [END]], ["BOOKMARK 5", "BOOKMARK 9"], id="another bookmark ends nothing"),
        pytest.param([ApiError(422, "Invalid", "sendInitialEvents is forbidden")], PAGES, id="not supported"),
        pytest.param([ApiError(429, "TooManyRequests", "initializing")], PAGES, id="a kind that is new"),
    ],
)
def test_everything_is_told_once(portions: list[Portion], want_told: list[str]) -> None:
    assert told(Scripted(*portions)) == want_told


def test_what_is_chosen_by_its_fields_comes_in_pages_since_in_a_stream_what_changes_would_look_deleted() -> None:
    assert told(Scripted([END]), fieldSelector="status.phase!=Failed") == PAGES


@pytest.mark.parametrize(
    ("portions", "want_code"),
    [
        pytest.param([ApiError(403, "Forbidden", "no")], 403, id="forbidden"),
        pytest.param([[event(3)]], 504, id="it ends before it is complete"),
        pytest.param([[event(3)], ApiError(429, "TooManyRequests", "")], 429, id="it breaks in the middle"),
    ],
)
def test_what_is_not_complete_is_an_error(portions: list[Portion], want_code: int) -> None:
    with pytest.raises(ApiError) as raised:
        told(Scripted(*portions))
    assert raised.value.code == want_code


def test_watches_of_any_number_of_namespaces_leave_connections_for_requests() -> None:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"kind": "Thing"})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "ADDED", "object": {}}\n')
        await over.wait()
        return response

    async def story() -> Event:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api = Api(client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"), Metrics("test"))
        watches = [api.watch("/things", "1") for _ in range(100)]
        try:
            async with asyncio.timeout(20):
                assert all(await asyncio.gather(*map(anext, watches)))
                return await api.get("/thing")
        finally:
            over.set()
            for watch in watches:
                await watch.aclose()
            await api.close()
            await runner.cleanup()

    assert asyncio.run(story()) == {"kind": "Thing"}

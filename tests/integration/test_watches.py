"""A watch on a real API server: what it has forgotten is listed, and events follow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client, config

from crewrun_operator import paths
from crewrun_operator.api import _FROM_THE_BEGINNING, Api, ApiError
from crewrun_operator.metrics import Metrics
from crewrun_operator.watches import Collection, follow
from tests.integration.conftest import control_plane
from tests.support.kube import Kube, crew, phase, run
from tests.support.operator import Operator

PATIENCE_SECONDS = 60
#: More than come in one portion.
MANY = [f"crew-{number:03}" for number in range(300)]


@asynccontextmanager
async def api_of(space: Kube) -> AsyncIterator[Api]:
    configuration = client.Configuration()
    await config.load_kube_config(str(space.kubeconfig), client_configuration=configuration)
    api = Api(configuration, Metrics())
    try:
        yield api
    finally:
        await api.close()


async def version_of(api: Api, collection: Collection) -> str:
    async for page in api.pages(collection.path):
        return str(page["metadata"]["resourceVersion"])
    raise AssertionError("no page")


async def shown(api: Api, collection: Collection) -> tuple[list[str], str]:
    """The names of all objects, and the version that they stand at."""
    seen: list[str] = []
    async for events in api.everything(collection.path, **collection.list_query):
        seen += [event["object"]["metadata"]["name"] for event in events if event["type"] != "BOOKMARK"]
        version = str(events[-1]["object"]["metadata"]["resourceVersion"])
    return sorted(seen), version


def crews_of(space: Kube) -> Collection:
    return Collection(space.namespace, paths.CREWS, paths.custom(paths.CREWS, space.namespace))


async def told(space: Kube, api: Api, version: str) -> tuple[list[str], int]:
    """What a watch from this version tells while a crew is made, changed and deleted; and how often it listed."""
    crews, seen, lists = crews_of(space), asyncio.Queue[dict[str, Any]](), 0
    listed = asyncio.Event()
    if version != "1":
        listed.set()

    async def list_again(collection: Collection) -> str:
        nonlocal lists
        lists += 1
        found = await version_of(api, collection)
        listed.set()
        return found

    async def until(type_: str) -> list[str]:
        found: list[str] = []
        while not found or found[-1] != type_:
            found += [str((await seen.get())["type"])]
        return found

    watching = asyncio.create_task(follow(api, crews, version, seen.put_nowait, list_again))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await listed.wait()
            await asyncio.to_thread(space.apply, crew("fine"))
            types = await until("ADDED")
            path = f"{crews.path}/fine"
            await api.merge_patch(path, {"spec": {"maxRPM": 7}})
            types += await until("MODIFIED")
            await api.delete(path)
            types += await until("DELETED")
    finally:
        watching.cancel()
    return types, lists


def test_a_watch_from_a_list_tells_what_came_after_it(space: Kube) -> None:
    async def story() -> None:
        async with api_of(space) as api:
            version = await version_of(api, crews_of(space))
            assert await told(space, api, version) == (["ADDED", "MODIFIED", "DELETED"], 0)

    asyncio.run(story())


def test_a_version_that_the_api_server_no_longer_knows_is_listed_again(space: Kube) -> None:
    async def story() -> None:
        async with api_of(space) as api:
            assert await told(space, api, "1") == (["ADDED", "MODIFIED", "DELETED"], 1)

    asyncio.run(story())


def test_a_watch_that_is_refused_says_why(space: Kube) -> None:
    async def story() -> None:
        async with api_of(space) as api:
            with pytest.raises(ApiError, match="404"):
                await anext(aiter(api.watch("/apis/crewrun.dev/v1alpha1/nothings", "1")))

    asyncio.run(story())


def test_a_connection_that_says_nothing_ends_and_is_made_again(space: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server sends a bookmark about each minute; a connection without one may lead nowhere."""
    silence = aiohttp.ClientTimeout(total=None, sock_read=1)
    monkeypatch.setattr("crewrun_operator.api._SILENCE", silence)

    async def story() -> None:
        async with api_of(space) as api:
            version = await version_of(api, crews_of(space))
            with pytest.raises(TimeoutError):
                async for _ in api.watch(crews_of(space).path, version):
                    pass
            assert await told(space, api, version) == (["ADDED", "MODIFIED", "DELETED"], 0)

    asyncio.run(story())


def test_everything_is_streamed_and_a_watch_goes_on_from_there(space: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("this API server streams")
        yield {}

    async def story() -> None:
        async with api_of(space) as api:
            with monkeypatch.context() as patch:
                patch.setattr(api, "pages", never)
                names, version = await shown(api, crews_of(space))
            assert names == MANY
            assert await told(space, api, version) == (["ADDED", "MODIFIED", "DELETED"], 0)

    space.apply(*map(crew, MANY))
    asyncio.run(story())


def test_an_api_server_that_does_not_stream_lists_is_asked_for_pages(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """As those before Kubernetes 1.34; and what is there before the operator is found and run."""
    name = f"it-old-{tmp_path_factory.getbasetemp().name}"
    with control_plane(name, tmp_path, {"feature-gates": "WatchList=false"}, nodes=1) as kube:
        space = kube.within("old")

        async def story() -> None:
            async with api_of(space) as api:
                with pytest.raises(ApiError, match="sendInitialEvents is forbidden"):
                    await anext(api.watch(crews_of(space).path, "", **_FROM_THE_BEGINNING))
                names, version = await shown(api, crews_of(space))
                assert names == MANY
                assert await told(space, api, version) == (["ADDED", "MODIFIED", "DELETED"], 0)

        space.apply(*map(crew, [*MANY, "fine"]), run("r", "fine"))
        with Operator(kube.kubeconfig, tmp_path / "operator.log"):
            assert phase(space.await_end("r")) == "Succeeded"
        space.kubectl("delete", "crew", "fine")
        asyncio.run(story())

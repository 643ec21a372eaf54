"""A watch on a real API server: what it has forgotten is listed, and events follow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client, config

from crewrun_operator import paths
from crewrun_operator.api import Api, ApiError
from crewrun_operator.metrics import Metrics
from crewrun_operator.watches import Collection, follow
from tests.support.kube import Kube, crew

PATIENCE_SECONDS = 60


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

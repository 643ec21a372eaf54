"""A watch goes on where it stood, whatever ends it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import structlog

from crewrun_operator import paths
from crewrun_operator.api import ApiError
from crewrun_operator.watches import Collection, follow
from tests.unit.fake_clock import run_at_once

PODS = Collection("team-a", paths.PODS, paths.pods("team-a"), "a=b")
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def event(version: int, type_: str = "MODIFIED") -> Event:
    return {"type": type_, "object": {"metadata": {"resourceVersion": str(version)}}}


class Script:
    """An API server whose watches end as they are told to; the last one says nothing more."""

    def __init__(self, *watches: list[Event | Exception]) -> None:
        self.watches = [*watches]
        self.asked: list[tuple[float, str]] = []  # when, and from which version
        self.taken: list[str] = []
        self.lists = 0

    async def watch(self, path: str, version: str, **query: str) -> AsyncIterator[list[Event]]:
        assert (path, query) == (PODS.path, {"labelSelector": "a=b"})
        self.asked.append((asyncio.get_running_loop().time(), version))
        if not self.watches:
            await asyncio.sleep(10_000)
        for each in self.watches.pop(0):
            if isinstance(each, Exception):
                raise each
            yield [each]

    async def list_again(self, collection: Collection) -> str:
        assert collection is PODS
        self.lists += 1
        return "1000"

    def take(self, event: Event) -> None:
        self.taken.append(f"{event['type']} {event['object']['metadata']['resourceVersion']}")

    def versions(self) -> list[str]:
        async def story() -> None:
            async with asyncio.timeout(5000):
                await follow(self, PODS, "7", self.take, self.list_again)  # type: ignore[arg-type]

        with pytest.raises(TimeoutError):
            run_at_once(story())
        return [version for _, version in self.asked]


def test_events_are_taken_and_a_watch_that_ends_goes_on_after_the_last_of_them() -> None:
    script = Script([event(8, "ADDED"), event(9)], [], [event(12, "BOOKMARK")])
    assert script.versions() == ["7", "9", "9", "12"]
    assert script.taken == ["ADDED 8", "MODIFIED 9", "BOOKMARK 12"]
    assert script.lists == 0


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(aiohttp.ClientConnectionError("refused"), id="nobody answers"),
        pytest.param(aiohttp.ClientPayloadError("cut"), id="the answer is cut off"),
        pytest.param(TimeoutError(), id="it says nothing for too long"),
        pytest.param(ApiError(429, "TooManyRequests", "later"), id="the API server has too much to do"),
        pytest.param(ApiError(403, "Forbidden", "no"), id="it may not be watched just now"),
        pytest.param(ValueError("unexpected end of data"), id="an event that cannot be read"),
    ],
)
def test_what_breaks_a_watch_loses_nothing(error: Exception, logs: list[Any]) -> None:
    script = Script([event(8), error], [event(9)])
    assert script.versions() == ["7", "8", "9"]
    assert (script.lists, len(logs)) == (0, 1)


def test_watches_that_end_at_once_and_tell_nothing_are_not_made_without_a_pause() -> None:
    script = Script(*[[] for _ in range(9)])
    script.versions()
    times = [time for time, _ in script.asked]
    assert [later - before for before, later in pairwise(times)][:3] == pytest.approx([0.1, 0.2, 0.4])


def test_an_event_that_nobody_can_read_ends_no_watch(logs: list[Any]) -> None:
    script = Script([event(8), event(9)])
    taken = script.take

    def take(each: Event) -> None:
        if each["object"]["metadata"]["resourceVersion"] == "8":
            raise RecursionError("too deep")
        taken(each)

    script.take = take  # type: ignore[method-assign]
    assert script.versions() == ["7", "9"]
    assert (script.taken, [line["event"] for line in logs]) == (["MODIFIED 9"], ["event not taken"])


def test_a_version_that_is_too_old_is_listed_again() -> None:
    script = Script([event(8), ApiError(410, "Expired", "too old resource version")], [event(1001)])
    assert script.versions() == ["7", "1000", "1001"]
    assert script.lists == 1


def test_a_list_that_fails_is_tried_again() -> None:
    script = Script([ApiError(410, "Gone", "")])
    lists = iter([ApiError(500, "InternalError", "etcd"), "1000"])

    async def list_again(_: Collection) -> str:
        match next(lists):
            case ApiError() as error:
                raise error
            case version:
                return str(version)

    script.list_again = list_again  # type: ignore[assignment]
    assert script.versions() == ["7", "1000"]


def test_an_api_server_that_is_away_is_asked_ever_less_often_and_at_once_when_it_is_back() -> None:
    away = [[aiohttp.ClientConnectionError("refused")] for _ in range(12)]
    script = Script(*away, [event(8)], [event(9)])  # type: ignore[list-item]
    script.versions()
    times = [time for time, _ in script.asked]
    waits = [later - before for before, later in pairwise(times)]
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert max(waits) == pytest.approx(10)
    assert waits[-2:] == [0, 0], "a watch that has told something ends as it should"


@pytest.mark.parametrize(
    ("seconds", "events", "want_portions"),
    [
        pytest.param(0.1, 30, 30, id="few: each as it comes"),
        pytest.param(0.001, 20, 20, id="many, but not for long: each as it comes"),
        pytest.param(0.01, 400, 33 + 16 * 3.67, id="many for long: sixteen portions a second, after the first events"),
    ],
)
def test_a_watch_that_tells_much_is_taken_in_portions(seconds: float, events: int, want_portions: int) -> None:
    class Busy(Script):
        """An API server that tells of something each time after so many seconds."""

        async def watch(self, path: str, version: str, **query: str) -> AsyncIterator[list[Event]]:
            loop = asyncio.get_running_loop()
            begun, told = loop.time(), 0
            while told < events:
                await asyncio.sleep(max(0, begun + (told + 1) * seconds - loop.time()))
                come = min(events, round((loop.time() - begun) / seconds))
                yield [event(8 + number) for number in range(told, come)]
                told = come
                portions.append(loop.time())
            await asyncio.sleep(10_000)

    portions: list[float] = []
    script = Busy()
    script.versions()
    assert len(script.taken) == events
    assert len(portions) == pytest.approx(want_portions, rel=0.2)

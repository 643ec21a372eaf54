"""Watches of the kinds of which there are thousands: a list, then all events after it, for ever.

A watch that ends goes on where it stood; only when the API server no longer knows that place is everything listed
again. So nothing is missed, and nothing is listed twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import structlog

from crewrun_operator.api import Api, ApiError
from crewrun_operator.feed import Event, Take

log = structlog.get_logger(__name__)

_GONE = 410
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 10.0
#: So many events a second, and so many at once, are taken each as it comes. Of more than that, what has come in this
#: time is taken together: a process that is woken for each event pays for the waking more than for the event.
_EACH_PER_SECOND, _AT_ONCE, _PORTION_SECONDS = 40, 20, 1 / 16


@dataclass(frozen=True)
class Collection:
    """The objects of a kind that the operator looks at: all, or those of a namespace."""

    namespace: str | None
    plural: str
    path: str
    selector: str = ""
    listed: str = ""  # a selector of fields: what is listed. All is watched, so that its end is told of

    @property
    def query(self) -> dict[str, str]:
        return {"labelSelector": self.selector} if self.selector else {}

    @property
    def list_query(self) -> dict[str, str]:
        return {**self.query, "fieldSelector": self.listed} if self.listed else self.query


class Pace:
    """When a watch is read again. Few events are taken each as it comes, more of them in portions."""

    def __init__(self) -> None:
        self._level, self._at = 0.0, 0.0  # events, less those that may come one by one

    def pause(self, events: int, now: float) -> float:
        """For how long what comes is left to gather, after so many events: all watches end it at the same time."""
        left = max(0.0, self._level - (now - self._at) * _EACH_PER_SECOND)
        self._level, self._at = min(left + events, 2 * _AT_ONCE), now
        return _PORTION_SECONDS - now % _PORTION_SECONDS if self._level > _AT_ONCE else 0.0


async def follow(
    api: Api, collection: Collection, version: str, take: Take, list_again: Callable[[Collection], Awaitable[str]]
) -> None:
    """Take all events of a collection after this version; `list_again` gives the version to go on from."""
    loop, pace, delay = asyncio.get_running_loop(), Pace(), 0.0
    while True:
        delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)  # unless this watch tells something
        try:
            version = version or await list_again(collection)
            async for events in api.watch(collection.path, version, **collection.query):
                for event in events:
                    _take(collection, take, event)
                    version, delay = event["object"]["metadata"]["resourceVersion"], 0.0
                if pause := pace.pause(len(events), loop.time()):
                    await asyncio.sleep(pause)
        except (ApiError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            if isinstance(error, ApiError) and error.code == _GONE:
                version = ""
            delay = delay or _FIRST_DELAY
            log.warning("watch begins again", resource=collection.plural, seconds=delay, error=str(error))
        await asyncio.sleep(delay)


def _take(collection: Collection, take: Take, event: Event) -> None:
    try:
        take(event)
    except Exception:  # one object must never end the watch of all others
        name = event["object"]["metadata"].get("name", "")
        log.exception("event not taken", resource=collection.plural, type=event["type"], name=name)

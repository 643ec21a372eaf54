"""The one door to the API server: plain documents in and out, every request counted.

Built on `kubernetes.aio` for configuration and authentication. Its typed models are left aside, since they
cost more than the requests themselves.
"""

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from kubernetes.aio import client

from crewrun_operator.documents import Document, decoded, encoded
from crewrun_operator.metrics import Metrics

_LIST_CHUNK = 50
_MERGE_PATCH = "application/merge-patch+json"
#: A watch that begins with all that there is now.
_FROM_THE_BEGINNING = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
#: It is not supported; or the kind is new, and the API server has nothing of it in memory yet.
_NOT_STREAMED = {422, 429}
_HEADERS = {
    "Accept": "application/json, */*;q=0.1",  # the keys that sign tokens are served as application/jwk-set+json alone
    "Accept-Encoding": "identity",  # within a cluster packing a list takes longer than sending it
    "User-Agent": "crewrun-operator",
}
_TIMEOUT_SECONDS = 30
_TIMEOUT = ClientTimeout(total=_TIMEOUT_SECONDS)
#: For requests. Each watch has a connection of its own: with a list of namespaces there are three for each.
_CONNECTIONS = 64
#: How long the API server keeps a watch, at least and at most: not all of them end at once.
_WATCH_SECONDS = (240, 360)
#: A watch that says nothing for so long, not even a bookmark, which comes each minute, may be a dead connection.
_SILENCE = ClientTimeout(total=None, sock_connect=_TIMEOUT_SECONDS, sock_read=150)


class ApiError(Exception):
    """An answer of the API server that is not a success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message
        super().__init__(f"{code} {reason}: {message}")


class Api:
    """Requests to the API server. Raises ApiError for an answer, the client's own errors for none."""

    def __init__(self, configuration: client.Configuration, metrics: Metrics) -> None:
        self._configuration, self._client = configuration, client.ApiClient(configuration)
        # The client's own way encodes with `json`, and asks a thread for the environment's proxy before each request.
        proxy = configuration.proxy or _proxy(configuration.host)

        def session(connections: int) -> ClientSession:
            connector = TCPConnector(limit=connections, ssl=self._client.rest_client.ssl_context)
            return ClientSession(connector=connector, proxy=proxy)

        self._requests, self._watches = session(_CONNECTIONS), session(0)
        self._metrics = metrics

    async def close(self) -> None:
        await self._requests.close()
        await self._watches.close()
        await self._client.close()

    async def get(self, path: str) -> Document:
        return await self._request("GET", path)

    async def find(self, path: str) -> Document | None:
        """The same; None when there is no such object."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def create(self, path: str, body: Document) -> Document:
        return await self._request("POST", path, body)

    async def replace(self, path: str, body: Document) -> Document:
        return await self._request("PUT", path, body)

    async def merge_patch(self, path: str, body: Document) -> Document:
        return await self._request("PATCH", path, body, content_type=_MERGE_PATCH)

    async def delete(self, path: str, uid: str | None = None) -> None:
        """Delete in the background, dependants included; only the object with this UID if one is given."""
        body: Document = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._request("DELETE", path, body)

    async def pages(self, path: str, **query: str) -> AsyncIterator[Document]:
        """The chunks of a list, each a whole List document."""
        token = ""
        while True:
            page = await self._request("GET", path, query={**query, "limit": str(_LIST_CHUNK), "continue": token})
            yield page
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def everything(self, path: str, **query: str) -> AsyncIterator[list[Document]]:
        """All objects of a collection as the events of a watch; the last is a bookmark of the version they stand at.

        The API server streams them out of its memory. One that cannot (WatchList is on by default since Kubernetes
        1.34) is asked for pages. So is one that is to look at fields: in a stream an object that is no longer wanted
        would look deleted.
        """
        begun = False
        if "fieldSelector" not in query:
            try:
                async with aclosing(self.watch(path, "", **query, **_FROM_THE_BEGINNING)) as portions:
                    async for events in portions:
                        begun = True
                        yield events
                        if any(event["type"] == "BOOKMARK" and _ends_the_list(event["object"]) for event in events):
                            return
                raise ApiError(504, "Timeout", f"the API server ended the list of {path} before it was complete")
            except ApiError as error:
                if begun or error.code not in _NOT_STREAMED:
                    raise
        async for events in events_of(self.pages(path, **query)):
            yield events

    async def watch(self, path: str, version: str, **query: str) -> AsyncGenerator[list[Document], None]:
        """The events after this version of a collection, with bookmarks, until the API server ends the watch: each
        time all that have come meanwhile."""
        seconds = str(random.randint(*_WATCH_SECONDS))
        watch = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": seconds}
        session = self._requests if "sendInitialEvents" in query else self._watches  # it ends when all is told
        async with await self._send(session, "GET", path, query={**query, **watch}, timeout=_SILENCE) as response:
            if response.status >= 400:
                raise _error(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                events = [decoded(line) for line in lines]
                yield [event for event in events if event["type"] != "ERROR"]
                if errors := [event["object"] for event in events if event["type"] == "ERROR"]:
                    raise _refusal(errors[0])

    async def _request(
        self,
        verb: str,
        path: str,
        body: Document | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        response = await self._send(self._requests, verb, path, body, query=query, content_type=content_type)
        data = await response.read()
        self._metrics.requests.labels(verb, resource_of(path), str(response.status)).inc()
        if response.status >= 400:
            raise _error(response.status, data)
        return decoded(data)

    async def _send(
        self,
        session: ClientSession,
        verb: str,
        path: str,
        body: Document | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: ClientTimeout = _TIMEOUT,
    ) -> ClientResponse:
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {**_HEADERS, "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        return await session.request(
            verb,
            url,
            headers=headers,
            data=encoded(body) if body is not None else None,
            timeout=timeout,
            proxy_headers=self._configuration.proxy_headers,
            server_hostname=self._configuration.tls_server_name,
        )


async def events_of(pages: AsyncIterator[Document]) -> AsyncIterator[list[Document]]:
    """The pages of a list as the events of a watch."""
    version = ""
    async for page in pages:
        version = version or page["metadata"]["resourceVersion"]
        yield [{"type": "ADDED", "object": item} for item in page["items"]]
    yield [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}]


def _ends_the_list(bookmark: Document) -> bool:
    annotations = bookmark["metadata"].get("annotations") or {}
    return bool(annotations.get("k8s.io/initial-events-end") == "true")


def resource_of(path: str) -> str:
    """The resource that a path speaks of, with its subresource: a bounded label."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts and parts[0] == "namespaces":
        parts = parts[2:]
    resource, subresource = (parts[:1] or ["other"])[0], parts[2:3]
    return "/".join([resource, *subresource])


def _error(code: int, data: bytes) -> ApiError:
    try:
        return _refusal({**json.loads(data), "code": code})
    except (ValueError, TypeError):
        return ApiError(code, "", data[:500].decode(errors="replace"))


def _refusal(status: Document) -> ApiError:
    """What a Status object says."""
    return ApiError(int(status.get("code", 500)), str(status.get("reason", "")), str(status.get("message", "")))


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)

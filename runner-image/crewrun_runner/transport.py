"""The HTTP client below the providers' SDKs, wrapped so that no request to a model goes unseen.

CrewAI's own hooks do not see what an SDK repeats, nor all that CrewAI asks itself. A crew's tools use the same client:
a request counts only while an LLM is called, and only if it asks for an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

import httpx

from crewrun_runner import exchange
from crewrun_runner.ledger import Ticket
from crewrun_runner.metering import Call, Meter, current

#: The request never left, or nobody took it.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


def install() -> None:
    """From now on; once a process."""
    if getattr(httpx.HTTPTransport.handle_request, "_crewrun", False):
        return
    httpx.HTTPTransport.handle_request = _sync(httpx.HTTPTransport.handle_request)
    httpx.AsyncHTTPTransport.handle_async_request = _async(httpx.AsyncHTTPTransport.handle_async_request)


def _sync(handle: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    @wraps(handle)
    def handle_request(transport: Any, request: httpx.Request) -> httpx.Response:
        taken = _take(request)
        if taken is None:
            return handle(transport, request)
        call, ticket, request = taken
        try:
            response = handle(transport, request)
        except BaseException as error:
            _failed(call.meter, ticket, error)
            raise
        return _watched(call, ticket, response)

    handle_request._crewrun = True  # type: ignore[attr-defined]
    return handle_request


def _async(handle: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(handle)
    async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
        taken = await asyncio.to_thread(_take, request)  # it may wait for others
        if taken is None:
            response: httpx.Response = await handle(transport, request)
            return response
        call, ticket, request = taken
        try:
            response = await handle(transport, request)
        except BaseException as error:
            _failed(call.meter, ticket, error)
            raise
        return _watched(call, ticket, response)

    return handle_async_request


def _take(request: httpx.Request) -> tuple[Call, Ticket, httpx.Request] | None:
    """The reservation for a request, and the request as it may be made; None if it does not count."""
    call = current.get()
    if call is None or request.method != "POST":
        return None
    try:
        body = request.content
    except httpx.RequestNotRead:  # an upload of a file
        return None
    asked = exchange.asked(request.url.host, request.url.path, body)
    if asked is None:
        return None
    ticket, limited = call.meter.request(call, asked, body)
    return call, ticket, request if limited is body else _with_body(request, limited)


def _with_body(request: httpx.Request, body: bytes) -> httpx.Request:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _failed(meter: Meter, ticket: Ticket, error: BaseException) -> None:
    meter.free(ticket) if isinstance(error, _UNSENT) else meter.lost(ticket)


def _watched(call: Call, ticket: Ticket, response: httpx.Response) -> httpx.Response:
    """The response, whose body is looked at as it goes by."""
    if response.status_code >= 300:
        call.meter.free(ticket)
        return response
    tee = _AsyncTee if isinstance(response.stream, httpx.AsyncByteStream) else _SyncTee
    response.stream = tee(call, ticket, response)
    return response


class _Tee:
    """Copies a body as somebody reads it. A body that is not read to its end says nothing of what was used."""

    def __init__(self, call: Call, ticket: Ticket, response: httpx.Response) -> None:
        self._call = call
        self._ticket = ticket
        self._headers = response.headers
        self._stream: Any = response.stream
        self._chunks: list[bytes] = []
        self._done = False

    def _end(self, whole: bool) -> None:
        if self._done:
            return
        self._done = True
        try:
            body = httpx.Response(200, headers=self._headers, content=b"".join(self._chunks)).content
        except httpx.DecodingError:
            body = b""
        if whole or exchange.ended(body):  # an SDK may stop reading at a stream's last event
            self._call.meter.answered(self._call, self._ticket, self._headers.get("content-type", ""), body)
        else:
            self._call.meter.lost(self._ticket)


class _SyncTee(_Tee, httpx.SyncByteStream):  # type: ignore[misc]
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._chunks.append(chunk)
            yield chunk
        self._end(whole=True)

    def close(self) -> None:
        self._stream.close()
        self._end(whole=False)


class _AsyncTee(_Tee, httpx.AsyncByteStream):  # type: ignore[misc]
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._chunks.append(chunk)
            yield chunk
        self._end(whole=True)

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._end(whole=False)

"""Putting one chosen reply on the wire: whole, as a stream, or as a fault."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field

from aiohttp import web

from .errors import ApiError, api_error, context_too_long, error_of_fault
from .ledger import Entry, Ledger
from .replies import (
    Answer,
    Tokens,
    build_answer,
    completion_body,
    completion_chunks,
    no_choices_body,
    prompt_tokens,
    usage_chunk,
)
from .requests import ChatRequest
from .script import Fault, FaultKind, Reply

DEFAULT_HOLD_SECONDS = 60.0
_GARBAGE = '{"id": "chatcmpl-'
_PAGE = "<!doctype html><title>Sign in</title><p>Please sign in to go on.</p>"


class Stopping:
    """Set once when the server stops, so that nothing that waits delays the end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, seconds: float) -> bool:
        """Wait at most this long; whether the server is stopping."""
        if seconds > 0 and not self._event.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._event.wait()
            except TimeoutError:
                return False
        return self._event.is_set()


@dataclass(frozen=True)
class Call:
    """What is needed to answer one request. `key` is held only to echo it where the script says so."""

    chat: ChatRequest
    reply: Reply
    key: str | None = field(repr=False)
    ledger: Ledger
    entry: Entry
    stopping: Stopping

    @property
    def sequence(self) -> int:
        return self.entry.sequence


async def send_turn(request: web.Request, call: Call) -> web.StreamResponse:
    """Answer one request, and write into its ledger entry what was answered."""
    answer = None
    if call.reply.fault is None:
        # Before the delay: a client that leaves during it has still used up these tokens at a real provider.
        answer = build_answer(call.reply, call.chat, call.sequence)
        call.entry.tokens = answer.tokens
    else:
        call.entry.fault = fault_name(call.reply.fault)
    if await call.stopping.wait(call.reply.delay_seconds):
        call.entry.tokens = Tokens()
        error = api_error(503, "The server is shutting down.")
        return await send_error(request, call.ledger, call.entry, error)
    if answer is None:
        return await _send_fault(request, call)
    if call.chat.stream:
        return await _send_stream(request, call, answer)
    return await _send_text(request, call, json.dumps(completion_body(answer)))


def fault_name(fault: Fault) -> str:
    """How the ledger calls a fault: its kind, or the status with its code where the script names one."""
    if fault.kind is not None:
        return fault.kind.value
    return f"{fault.status} {fault.code}" if fault.code else str(fault.status)


async def send_error(request: web.Request, ledger: Ledger, entry: Entry, error: ApiError) -> web.StreamResponse:
    """Answer with an error."""
    entry.status = error.status
    headers = error.headers | {"x-request-id": _request_id(entry)}
    response = web.json_response(error.body, status=error.status, headers=headers)
    if error.status == 413:
        response.force_close()  # the rest of the body is not wanted
    return await _finish(request, ledger, entry, response)


async def _send_fault(request: web.Request, call: Call) -> web.StreamResponse:
    fault = call.reply.fault
    assert fault is not None
    match fault.kind:
        case None:
            error = error_of_fault(fault, call.key)
            return await send_error(request, call.ledger, call.entry, error)
        case FaultKind.CONTEXT_TOO_LONG:
            error = context_too_long(prompt_tokens(call.chat))
            return await send_error(request, call.ledger, call.entry, error)
        case FaultKind.GARBAGE:
            return await _send_text(request, call, _GARBAGE)
        case FaultKind.HTML:
            return await _send_text(request, call, _PAGE, "text/html")
        case FaultKind.NO_CHOICES:
            tokens = Tokens(prompt=prompt_tokens(call.chat))
            if not call.chat.stream:
                body = no_choices_body(call.sequence, call.chat.model, tokens)
                return await _send_text(request, call, json.dumps(body))
            body = usage_chunk(call.sequence, call.chat.model, tokens)
            return await _send_text(request, call, f"{_event(body)}data: [DONE]\n\n", "text/event-stream")
        case FaultKind.TIMEOUT:
            await call.stopping.wait(fault.seconds or DEFAULT_HOLD_SECONDS)
            return _hang_up(request, call, reset=False)
        case FaultKind.CONNECTION_RESET:
            return _hang_up(request, call, reset=True)


async def _send_text(
    request: web.Request, call: Call, text: str, content_type: str = "application/json"
) -> web.StreamResponse:
    call.entry.status = 200
    headers = {"x-request-id": _request_id(call.entry)}
    response = web.Response(text=text, content_type=content_type, headers=headers)
    return await _finish(request, call.ledger, call.entry, response)


async def _send_stream(request: web.Request, call: Call, answer: Answer) -> web.StreamResponse:
    call.entry.status = 200
    headers = {"Cache-Control": "no-cache", "x-request-id": _request_id(call.entry)}
    response = web.StreamResponse(headers=headers)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    for body in completion_chunks(answer, call.chat.include_usage):
        await response.write(_event(body).encode())
    call.ledger.finish(call.entry)
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _finish(request: web.Request, ledger: Ledger, entry: Entry, response: web.Response) -> web.StreamResponse:
    ledger.finish(entry)
    # Written here and not by aiohttp after the handler: a client that has left must be noticed.
    await response.prepare(request)
    await response.write_eof()
    return response


def _hang_up(request: web.Request, call: Call, *, reset: bool) -> web.StreamResponse:
    """Close the connection without an answer; `reset` makes the kernel send a TCP reset."""
    call.ledger.finish(call.entry)
    transport = request.transport
    if transport is not None:
        peer = transport.get_extra_info("socket")
        if reset and peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()  # goes nowhere: aiohttp wants one


def _event(body: dict[str, object]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _request_id(entry: Entry) -> str:
    return f"req_{entry.sequence:08d}"

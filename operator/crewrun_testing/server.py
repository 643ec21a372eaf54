"""The HTTP edge of the scripted LLM: routes, the request's body and key, and the script at run time.

What to answer is decided in `matching`, `replies` and `errors`; how it is put on the wire, faults
included, in `wire`. No line that is logged here holds a key or the text of a message.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from .errors import ApiError, api_error, bad_request, model_not_found
from .ledger import CHAT_PATH, Entry, Ledger
from .matching import Player
from .replies import models_body
from .requests import bearer_key, key_sha256, parse_chat
from .script import Script, ScriptError, parse_script
from .wire import Call, Stopping, send_error, send_turn

MAX_BODY_BYTES = 4 * 1024 * 1024
logger = logging.getLogger("crewrun_testing")


class Server:
    """The state behind the routes: one script being played, one ledger."""

    def __init__(self, script: Script, clock: Callable[[], float] = time.time) -> None:
        self.ledger = Ledger(clock)
        self.stopping = Stopping()
        self._player = Player(script)

    def set_script(self, script: Script) -> None:
        """Play another script from its start. The ledger goes on."""
        self._player = Player(script)

    def reset(self) -> None:
        """An empty ledger, and the same script from its start."""
        self.ledger.reset()
        self._player.rewind()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_in_shape])
        app.router.add_post(CHAT_PATH, self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_route("*", "/v1/{rest:.*}", self._unknown)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/ledger", self._get_ledger)
        app.router.add_delete("/ledger", self._delete_ledger)
        app.router.add_put("/script", self._put_script)
        return app

    # --- the model's API: each request goes into the ledger

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        key = _key(request)
        entry = self.ledger.begin(request.path, key_sha256(key))
        try:
            return await self._answer(request, entry, key)
        except asyncio.CancelledError:
            # aiohttp cancels a handler when its client goes away; a stop of ours is none of that.
            self.ledger.finish(entry, disconnected=not self.stopping.is_set())
            raise
        except ConnectionError:
            self.ledger.finish(entry, disconnected=True)
            raise
        finally:
            self.ledger.finish(entry)
            _log(entry)

    async def _answer(self, request: web.Request, entry: Entry, key: str | None) -> web.StreamResponse:
        try:
            chat = parse_chat(await _body(request))
            entry.model, entry.streaming = chat.model, chat.stream
            entry.message_count, entry.messages_sha256 = len(chat.messages), chat.messages_sha256
            models = self._player.script.models
            if models and chat.model not in models:
                raise model_not_found(chat.model)
        except ApiError as error:
            return await send_error(request, self.ledger, entry, error)
        headers = {name.lower(): value for name, value in request.headers.items()}
        turn = self._player.next(chat, headers, entry.authorization_sha256)
        entry.rule = turn.rule
        return await send_turn(request, Call(chat, turn.reply, key, self.ledger, entry, self.stopping))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return self._record(request, web.json_response(models_body(self._known_models())))

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        error = api_error(404, f"Unknown request URL: {request.method} {request.path}.", code="unknown_url")
        return self._record(request, web.json_response(error.body, status=error.status))

    def _known_models(self) -> list[str]:
        return list(self._player.script.models) or ["scripted"]

    def _record(self, request: web.Request, response: web.Response) -> web.Response:
        entry = self.ledger.begin(request.path, key_sha256(_key(request)))
        entry.status = response.status
        self.ledger.finish(entry)
        return response

    # --- the test's side: nothing of it is in the ledger

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _get_ledger(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()) or len(after) > 18:
            raise bad_request("after must be a sequence number, such as 0 or 17", param="after")
        return web.json_response(self.ledger.body(int(after)))

    async def _delete_ledger(self, request: web.Request) -> web.StreamResponse:
        self.reset()
        return web.json_response({"status": "reset"})

    async def _put_script(self, request: web.Request) -> web.StreamResponse:
        try:
            script = parse_script((await _body(request)).decode(), "PUT /script")
        except UnicodeDecodeError:
            raise bad_request("the script must be UTF-8 text") from None
        except ScriptError as error:
            body = api_error(400, str(error), code="invalid_script").body
            return web.json_response(body | {"problems": error.problems}, status=400)
        self.set_script(script)
        return web.json_response({"rules": len(script.rules)})


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()  # said before a byte of it is read
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None


def _too_large() -> ApiError:
    return api_error(413, f"The request body is larger than {MAX_BODY_BYTES} bytes.")


def _key(request: web.Request) -> str | None:
    return bearer_key(request.headers.get("Authorization", ""))


@web.middleware
async def _errors_in_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body, status=error.status, headers=error.headers)
    except web.HTTPException as error:
        body = api_error(error.status, f"{error.reason}: {request.method} {request.path}").body
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response(body, status=error.status, headers=headers)
    except ConnectionError:
        raise
    except Exception as error:
        # Where, but not what: an exception's text may quote the request.
        frames = "".join(traceback.format_tb(error.__traceback__))
        logger.error("a bug in the scripted LLM: %s at\n%s", type(error).__name__, frames)
        return web.json_response(api_error(500, "The scripted LLM has a bug; see its log.").body, status=500)


def _log(entry: Entry) -> None:
    fields: dict[str, Any] = {
        "call": entry.sequence,
        "rule": entry.rule,
        "status": entry.status,
        "fault": entry.fault,
        "tokens": entry.tokens.total or None,
        "disconnected": entry.client_disconnected or None,
        "seconds": round((entry.end_time or entry.start_time) - entry.start_time, 3),
    }
    logger.info(" ".join(f"{name}={value}" for name, value in fields.items() if value is not None))

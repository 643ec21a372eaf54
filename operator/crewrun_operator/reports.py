"""The endpoint where runners report.

Who is asking is settled first, from the token alone; the body of a stranger is never read. What a report means
is not known here: it is handed to the inbox, and answered when the inbox says that it is kept.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web
from prometheus_client import Counter
from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.report import REPORT_LIMIT_BYTES, STORED_LIMIT_BYTES, Answer, Report, Upload
from crewrun_operator import clock
from crewrun_operator.ratelimit import Buckets
from crewrun_operator.tokens import Bound, TokenChecker, Unauthenticated, Undecided

log = structlog.get_logger(__name__)
#: aiohttp logs a trace for each request that is no HTTP, which anybody may send.
_no_log = logging.getLogger(f"{__name__}.http")
_no_log.disabled = True

_ROUTE = names.report_path("{namespace}", "{run}", "{attempt:[1-9][0-9]{0,8}}")
_REQUEST_SECONDS, _BODY_SECONDS, _LINGER_SECONDS, _SHUTDOWN_SECONDS = 30.0, 10.0, 2.0, 3.0
_REPORTS_PER_SECOND, _REPORTS_BURST = 20, 60
#: What is no report takes up to 0.3 s to find wrong, so it counts as a second's worth of reports.
_BAD_REPORT_COST = 20
_FAILURES_PER_SECOND = 50
#: Larger bodies are worked a few at a time: a hundred runs that end together must not fill the memory.
_LARGE_BYTES, _LARGE_AT_ONCE = 256 * 1024, 8
#: Values in a report. One of 4 MiB holds two million, each wrong in its own way, which is 2 GB of explanations.
_VALUES = 50_000
_MESSAGE_LENGTH = 500
_SOON = {"Retry-After": "1"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Execution(Protocol):
    """Whose Pod it is; `views.Identity` is one."""

    @property
    def namespace(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def run_uid(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class Inbox(Protocol):
    """Where reports go."""

    def known(self, pod_uid: str) -> Execution | None:
        """What the store knows of that Pod; None: not seen, or not yet."""

    async def take(self, key: tuple[str, str], report: Report, received: datetime) -> tuple[int, Answer]:
        """Take a report of the run of this namespace and name; returns when what it carries is stored.
        200: go on or stop; 409: stop, or an older one; 404: stop; 503: not stored, try again."""


class Refused(Exception):
    """A request that is answered without the inbox."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        self.status, self.message = status, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(message)


def parsed(body: bytes) -> Report:
    """The report in a body. Raises Refused."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if body.count(b",") > _VALUES and _values(document) > _VALUES:
        raise Refused(422, f"the report has more than {_VALUES} values; leave out tasks that are done")
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refused(422, f"not a report: {path}: {first['msg']}") from None


def stranger(bound: Bound, execution: Execution, namespace: str, run: str, attempt: int) -> str | None:
    """Why the Pod of this token may not report here; None: it may."""
    if bound.namespace != execution.namespace:
        return "the token's namespace is not that of its Pod"
    if (namespace, run, attempt) != (execution.namespace, execution.run, execution.attempt):
        return "the token is that of another run's or attempt's Pod; report to the URL of your own"
    return None


def foreign(report: Report, execution: Execution, pod_uid: str) -> str | None:
    """What in a report speaks of another execution than the one that sends it; None: nothing."""
    want = (execution.run_uid, execution.attempt, pod_uid)
    for part, its in (("snapshot", report.snapshot), ("outcome", report.outcome)):
        if its is not None and (its.run_uid, its.attempt, its.pod_uid) != want:
            return f"{part} is that of another run, attempt or Pod"
    return None


def check_uploads(report: Report) -> None:
    """Each upload is what its digest says, and fits a ConfigMap. Raises Refused."""
    uploads: list[tuple[str, Upload | None]] = [("checkpoint", report.checkpoint)]
    uploads += [(f"files.{index}", file.upload) for index, file in enumerate(report.files)]
    for path, upload in uploads:
        try:
            size = len(upload.content()) if upload else 0
        except ValueError as error:
            raise Refused(422, f"not a report: {path}: {error}") from None
        if size > STORED_LIMIT_BYTES:
            raise Refused(413, f"{path} has {size} bytes, and {STORED_LIMIT_BYTES} can be kept; leave it out")


def application(
    checker: TokenChecker,
    inbox: Inbox,
    answered: Counter,
    *,
    now: Callable[[], datetime] = clock.now,
    tick: Callable[[], float] = time.monotonic,
) -> web.Application:
    """The endpoint. `answered` counts by its one label, the status code."""
    reports = Buckets(_REPORTS_PER_SECOND, _REPORTS_BURST, tick=tick)
    failures = Buckets(_FAILURES_PER_SECOND, _FAILURES_PER_SECOND, tick=tick)
    large = asyncio.Semaphore(_LARGE_AT_ONCE)

    @web.middleware
    async def answering(request: web.Request, handler: _Handler) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                response = await handler(request)
        except Refused as refused:
            response = _error(refused.status, refused.message, refused.headers)
        except web.HTTPException as error:  # of the router
            response = _error(error.status, f"reports go by POST to {names.report_path('NAMESPACE', 'RUN', 'ATTEMPT')}")
        except TimeoutError:
            response = _error(503, "the report was not stored in time; send it again", _SOON)
        except Exception:
            log.exception("a report could not be answered")
            response = web.Response(status=500, text="internal error; send the report again\n")
        answered.labels(str(response.status)).inc()
        return response

    async def authenticated(request: web.Request) -> Bound:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(401, "send the Pod's token as Authorization: Bearer", WWW_Authenticate="Bearer")
        token, remote = token.strip(), request.remote or ""
        if (bound := checker.known(token)) is None:  # a good token passes, whoever floods from its address
            if failures.spent(remote):
                raise Refused(429, "too many bad tokens come from this address", **_SOON)
            try:
                bound = await checker.check(token)
            except Unauthenticated as error:
                failures.take(remote)
                raise Refused(401, str(error), WWW_Authenticate='Bearer error="invalid_token"') from None
            except Undecided as error:
                raise Refused(503, f"{error}; send the report again", **_SOON) from None
        if not reports.take(bound.pod_uid):
            raise Refused(429, f"at most {_REPORTS_PER_SECOND} reports a second", **_SOON)
        return bound

    async def post(request: web.Request) -> web.Response:
        bound = await authenticated(request)
        key = (request.match_info["namespace"], request.match_info["run"])
        if (execution := inbox.known(bound.pod_uid)) is None:
            raise Refused(503, "the operator has not seen this Pod yet; send the report again", **_SOON)
        if reason := stranger(bound, execution, *key, int(request.match_info["attempt"])):
            raise Refused(403, reason)
        size = request.content_length
        if size is not None and size > REPORT_LIMIT_BYTES:
            raise _too_large()
        async with large if size is None or size > _LARGE_BYTES else nullcontext():
            body = await _body(request)
            try:
                report = parsed(body)
            except Refused:
                reports.take(bound.pod_uid, _BAD_REPORT_COST)
                raise
            if reason := foreign(report, execution, bound.pod_uid):
                raise Refused(403, reason)
            check_uploads(report)
            status, answer = await inbox.take(key, report, now())
        text = answer.model_dump_json(by_alias=True, exclude_none=True)
        headers = _SOON if status == 503 else None
        return web.Response(status=status, text=text, content_type="application/json", headers=headers)

    app = web.Application(middlewares=[answering], client_max_size=REPORT_LIMIT_BYTES + 1)
    app.router.add_post(_ROUTE, post)
    return app


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not come within {_BODY_SECONDS:.0f} s; send the report again") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except (web.RequestPayloadError, ConnectionError):
        raise Refused(400, "the body broke off or is malformed; send the report again") from None


def _too_large() -> Refused:
    return Refused(413, f"a report has at most {REPORT_LIMIT_BYTES} bytes; leave files out, then the checkpoint")


def _values(document: Any) -> int:
    """How many values a document holds, at all depths; counts no further than is asked for."""
    count, todo = 0, [document]
    while todo and count <= _VALUES:
        value = todo.pop()
        if isinstance(value, dict | list):
            count += len(value)
            todo.extend(value.values() if isinstance(value, dict) else value)
    return count


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message[:_MESSAGE_LENGTH]}, status=status, headers=headers)


async def serve(app: web.Application, host: str, port: int, context: ssl.SSLContext | None) -> web.AppRunner:
    """Start to serve; `cleanup()` of what is returned ends it. Bodies are taken as they come, never inflated."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_no_log,
        auto_decompress=False,
        lingering_time=_LINGER_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    return runner


def tls(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS, with the certificate and the key of this folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def keep_certificate(context: ssl.SSLContext, folder: Path, seconds: float = 30.0) -> None:
    """Take the certificate again when its files change, for ever: kubelet renews what it mounts in place."""
    loaded = _stamp(folder)
    while True:
        await asyncio.sleep(seconds)
        try:
            if (stamp := _stamp(folder)) == loaded:
                continue
            tls(folder)  # a key that does not fit must not get into the context that serves
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        except OSError as error:  # ssl.SSLError is one
            log.warning("the new certificate cannot be used; the old one stays", folder=str(folder), error=str(error))
            continue
        loaded = stamp
        log.info("a new certificate is in use", folder=str(folder))


def authorities(folder: Path) -> str:
    """The certificate authorities that runners trust, as PEM."""
    text = (folder / "ca.crt").read_text()
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
        cadata=text
    )  # no certificate fails here, not in runners
    return text


def _stamp(folder: Path) -> tuple[int, ...]:
    return tuple((folder / name).stat().st_mtime_ns for name in ("tls.crt", "tls.key"))

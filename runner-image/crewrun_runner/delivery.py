"""Telling a webhook: what is sent, which answers are tried again, and when. Purely computational: sending, waiting
and logging are arguments."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote, urlsplit

from crewrun_api import names
from crewrun_api.outcome import cut
from crewrun_api.reasons import WebhookOutcome
from crewrun_api.webhook import DELIVERY_HEADER, USER_AGENT, Delivery, WebhookRecord

#: Seconds between two tries; one more try than waits.
WAITS = (1.0, 2.0, 4.0, 8.0)
_LONGEST_RETRY_AFTER = 60.0
_TRIED_AGAIN = frozenset({408, 425, 429})
#: What says where the body goes and ends is not the user's.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_MESSAGE_LIMIT_BYTES = 300
_IN_A_TARGET = "/%:=&?~#+!$,;'@()*[]"


class Unsendable(Exception):
    """What no try can mend."""


@dataclass(frozen=True)
class Request:
    """One POST."""

    secure: bool
    host: str
    port: int
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What came of it; status 0: no answer, and `error` says why."""

    status: int = 0
    retry_after: float | None = None
    error: str = ""


def request_of(delivery: Delivery, environ: Mapping[str, str]) -> Request:
    """The request. Raises Unsendable, and never quotes an address or a value."""
    url = (delivery.url or environ.get(names.ENV_WEBHOOK_URL, "")).strip()
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise Unsendable("its URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Unsendable("its URL does not begin with http:// or https:// and a host")
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_A_TARGET)
    body = json.dumps(delivery.body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, DELIVERY_HEADER: delivery.id}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    for name, value in _users_headers(delivery, environ).items():
        headers = {known: each for known, each in headers.items() if known.lower() != name.lower()} | {name: value}
    return Request(parts.scheme == "https", host, port, target, headers, body)


def secrets_of(delivery: Delivery, environ: Mapping[str, str]) -> set[str]:
    """The values that must not leave the process, and what they are made of."""
    found: set[str] = set()
    for number in range(len(delivery.headers)):
        value = environ.get(f"{names.ENV_WEBHOOK_HEADER}{number}", "")
        found |= {value, *value.split()}
    url = (delivery.url or environ.get(names.ENV_WEBHOOK_URL, "")).strip()
    try:
        parts = urlsplit(url)
        found |= {text for text in (parts.password, parts.query) if text}
        if not delivery.url:
            found |= {url, parts.netloc, parts.hostname or "", parts.path, *parts.path.split("/")}
    except ValueError:
        found.add(url)
    return found


def deliver(
    send: Callable[[], Reply], wait: Callable[[float], None], tell: Callable[[int, Reply], None]
) -> WebhookRecord:
    """Send until the receiver has it, refuses it, or was asked often enough."""
    tries = 0
    for pause in (*WAITS, None):
        reply = send()
        tries += 1
        tell(tries, reply)
        if 200 <= reply.status < 300:
            return WebhookRecord(outcome=WebhookOutcome.DELIVERED, status_code=reply.status, tries=tries)
        if pause is None or not _again(reply):
            break
        wait(max(pause, min(reply.retry_after or 0.0, _LONGEST_RETRY_AFTER)))
    last = f", the last of {tries} tries" if tries > 1 else ""
    return failed(f"{said(reply)}{last}", reply.status or None, tries)


def failed(message: str, status: int | None = None, tries: int = 0) -> WebhookRecord:
    """The record of what is not tried again."""
    message = cut(message, _MESSAGE_LIMIT_BYTES)
    return WebhookRecord(outcome=WebhookOutcome.FAILED, status_code=status, tries=tries, message=message)


def said(reply: Reply) -> str:
    """The reply in words. Of the receiver's own words none is repeated: they may quote what it was sent."""
    if not reply.status:
        return f"no answer: {reply.error}"
    try:
        phrase = f" {HTTPStatus(reply.status).phrase}"
    except ValueError:
        phrase = ""
    redirect = "; a redirect is not followed, name the address that it leads to" if 300 <= reply.status < 400 else ""
    return f"answered {reply.status}{phrase}{redirect}"


def _again(reply: Reply) -> bool:
    return reply.status == 0 or reply.status >= 500 or reply.status in _TRIED_AGAIN


def _users_headers(delivery: Delivery, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for number, name in enumerate(delivery.headers):
        value = environ.get(f"{names.ENV_WEBHOOK_HEADER}{number}")
        if value is None:
            raise Unsendable(f"the value of its header {name} is missing")
        value = value.strip()  # a Secret that was made from a file ends in a line break
        if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
            raise Unsendable(f"the value of its header {name} has a control character in it")
        if name.lower() not in _OURS:
            headers[name] = value
    return headers

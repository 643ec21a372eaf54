"""A chat completion request as the script sees it: parsed from bytes, without I/O."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .errors import bad_request

HASH_LENGTH = 16


@dataclass(frozen=True)
class Message:
    role: str
    text: str


@dataclass(frozen=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    messages_sha256: str
    stream: bool
    include_usage: bool
    max_tokens: int | None

    def last_text(self, *roles: str) -> str:
        """The text of the last message of one of these roles; empty when there is none."""
        return next((message.text for message in reversed(self.messages) if message.role in roles), "")


def parse_chat(body: bytes) -> ChatRequest:
    """Read a request body. Raises ApiError with a 400 that names the parameter; never quotes the body."""
    data = _json_object(body)
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request("model must be the name of a model", param="model")
    raw_messages = data.get("messages")
    if not isinstance(raw_messages, list) or not raw_messages:
        raise bad_request("messages must be a list with at least one message", param="messages")
    if data.get("n", 1) not in (1, None):
        raise bad_request("this server gives one choice: leave n out or set it to 1", param="n")
    options = data.get("stream_options")
    return ChatRequest(
        model=model,
        messages=tuple(_message(raw, position) for position, raw in enumerate(raw_messages)),
        messages_sha256=short_sha256(raw_messages),
        stream=data.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=_limit(data),
    )


def short_sha256(value: object) -> str:
    """A short fingerprint: equal messages give equal ones, and it tells nothing about the text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def bearer_key(authorization: str) -> str | None:
    """The key of an Authorization header, or None."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def key_sha256(key: str | None) -> str | None:
    """What may be stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() if key else None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        # The parser's own message is left out: it may quote the text.
        raise bad_request("the body is not valid JSON") from None
    if not isinstance(data, dict):
        raise bad_request("the body must be a JSON object")
    return data


def _message(raw: object, position: int) -> Message:
    if not isinstance(raw, dict) or not isinstance(raw.get("role"), str):
        raise bad_request("each message needs a role", param=f"messages[{position}].role")
    return Message(raw["role"], _content(raw.get("content"), position))


def _content(content: object, position: int) -> str:
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            return "\n".join(text for text in texts if isinstance(text, str))
        case _:
            message = "content must be text, a list of parts, or null"
            raise bad_request(message, param=f"messages[{position}].content")


def _limit(data: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = data.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise bad_request("must be a whole number of at least 1", param=name)
        return value
    return None

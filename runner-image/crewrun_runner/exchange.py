"""One HTTP request to a model and its answer, read by shape: no provider's SDK is imported. Purely computational.

A token of a byte-level tokenizer stands for at least one byte, so the bytes of a request bound the tokens of its
prompt, whatever the model.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crewrun_runner.bound import FRAME_TOKENS
from crewrun_runner.tokens import MOST_TOKENS, Tokens

#: What a provider adds to the prompt of a request with tools, to explain them to the model.
_TOOLS_TOKENS = 1024
#: An image by its address is a few bytes here, and tokens there.
_IMAGE_TOKENS = 50_000
_IMAGES = (b'"image_url"', b'"input_image"', b'"fileData"', b'"type":"image"', b'"type": "image"')
_LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete", "response.failed")
_PROMPTS = ("messages", "input", "contents", "prompt")

#: Where the longest answer stands, by the end of the address. The first is used for a limit of ours.
_LIMITS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("/chat/completions", (("max_tokens",), ("max_completion_tokens",))),
    ("/completions", (("max_tokens",),)),
    ("/responses", (("max_output_tokens",),)),
    ("/messages", (("max_tokens",),)),
    (":generateContent", (("generationConfig", "maxOutputTokens"),)),
    (":streamGenerateContent", (("generationConfig", "maxOutputTokens"),)),
)
#: What takes a prompt and gives no answer to it: counts of tokens, embeddings.
_NO_ANSWER = (
    *("/count_tokens", ":countTokens", "/input_tokens", "/tokenize"),
    *("/embeddings", ":embedContent", ":batchEmbedContents", "/moderations"),
)
#: These take the older name of the limit for some models only.
_NEWER_NAME = ("api.openai.com", ".openai.azure.com")


@dataclass(frozen=True)
class Asked:
    """What a request asks for. `answer` is its own limit, None without one."""

    prompt: int
    answer: int | None
    choices: int
    limits: tuple[tuple[str, ...], ...]

    @property
    def limitable(self) -> bool:
        return bool(self.limits)


@dataclass(frozen=True)
class Answered:
    """What an answer says of itself. `cut`: it ended at the limit."""

    tokens: Tokens | None
    cut: bool = False


def asked(host: str, path: str, body: bytes) -> Asked | None:
    """None for a request that does not ask a model for an answer."""
    document = _json(body)
    if path.endswith(_NO_ANSWER) or not isinstance(document, dict) or not any(name in document for name in _PROMPTS):
        return None
    limits = next((limits for end, limits in _LIMITS if path.endswith(end)), ())
    if len(limits) > 1 and host.endswith(_NEWER_NAME):
        limits = limits[::-1]
    own = [value for at in limits if isinstance(value := _at(document, at), int) and not isinstance(value, bool)]
    choices = document.get("n")
    return Asked(
        prompt=len(body) + _extra(document, body),
        answer=min(max(0, min(own)), MOST_TOKENS) if own else None,
        choices=choices if isinstance(choices, int) and choices > 1 else 1,
        limits=limits,
    )


def limited(body: bytes, asked: Asked, answer: int) -> bytes:
    """The request with this limit for each of its answers."""
    document = json.loads(body)
    at = next((at for at in asked.limits if _at(document, at) is not None), asked.limits[0])
    parent = document
    for name in at[:-1]:
        if not isinstance(parent.get(name), dict):
            parent[name] = {}
        parent = parent[name]
    parent[at[-1]] = answer
    return json.dumps(document).encode()


def answered(content_type: str, body: bytes) -> Answered:
    """A whole answer, as JSON or as a stream of events."""
    documents = list(_events(body)) if "event-stream" in content_type else [_json(body)]
    if len(documents) == 1 and isinstance(documents[0], list):  # Gemini streams a list without server-sent events
        documents = documents[0]
    usage: dict[str, Any] = {}
    cut = False
    for document in documents:
        for part in _parts(document):
            for name in ("usage", "usageMetadata"):
                if isinstance(found := part.get(name), Mapping):
                    usage.update({key: value for key, value in found.items() if value is not None})
            cut = cut or _is_cut(part)
    tokens = Tokens.of(usage)
    return Answered(tokens if tokens.total else None, cut)


def ended(body: bytes) -> bool:
    """Whether the last event of a stream is there."""
    last = next((line[5:].strip() for line in reversed(body.splitlines()) if line.startswith(b"data:")), b"")
    event = _json(last)
    return last == b"[DONE]" or (isinstance(event, Mapping) and event.get("type") in _LAST_EVENTS)


def _parts(document: Any) -> Iterator[Mapping[str, Any]]:
    """A document, and what events carry it in."""
    if isinstance(document, Mapping):
        yield document
        for name in ("response", "message", "delta"):
            if isinstance(inner := document.get(name), Mapping):
                yield inner


def _is_cut(part: Mapping[str, Any]) -> bool:
    ends = [part.get("stop_reason"), part.get("stopReason")]
    for choice in (*_list(part.get("choices")), *_list(part.get("candidates"))):
        if isinstance(choice, Mapping):
            ends += [choice.get("finish_reason"), choice.get("finishReason")]
    details = part.get("incomplete_details")
    ends.append(details.get("reason") if isinstance(details, Mapping) else None)
    return any(end in ("length", "max_tokens", "MAX_TOKENS", "max_output_tokens") for end in ends)


def _extra(document: Mapping[str, Any], body: bytes) -> int:
    pieces = sum(len(_list(document.get(name))) for name in (*_PROMPTS, "tools"))
    images = sum(body.count(mark) for mark in _IMAGES)
    return pieces * FRAME_TOKENS + (_TOOLS_TOKENS if document.get("tools") else 0) + images * _IMAGE_TOKENS


def _events(body: bytes) -> Iterator[Any]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            yield _json(line[5:])


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _at(document: Mapping[str, Any], path: Iterable[str]) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""Answers in the shape of OpenAI's chat completions. Purely computational.

The same request gets the same answer: ids and times come from its sequence number, tokens from the
length of the texts. A test can work out what it will see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .requests import ChatRequest
from .script import Reply

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4  # the role and the marks around a message
CHUNK_CHARACTERS = 40
_EPOCH = 1_700_000_000  # `created` is this plus the sequence number: no clock, so answers can be compared


def count_tokens(text: str) -> int:
    """One token for each four characters begun."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def prompt_tokens(request: ChatRequest) -> int:
    """Four for each message and the tokens of its text; tool descriptions are not counted."""
    return sum(TOKENS_PER_MESSAGE + count_tokens(message.text) for message in request.messages)


@dataclass(frozen=True)
class Tokens:
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


@dataclass(frozen=True)
class Answer:
    """A successful answer before it is put on the wire, streamed or whole."""

    sequence: int
    model: str
    text: str | None
    tool_calls: list[dict[str, Any]]
    finish_reason: str
    tokens: Tokens


def build_answer(reply: Reply, request: ChatRequest, sequence: int) -> Answer:
    """The answer of a reply without a fault. A text above the request's token limit is cut."""
    calls = [
        {
            "id": f"call_{sequence:08d}_{position}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for position, call in enumerate(reply.tool_calls or [])
    ]
    text, finish_reason = reply.text, "tool_calls" if calls else "stop"
    if text is not None and request.max_tokens is not None and count_tokens(text) > request.max_tokens:
        text, finish_reason = text[: request.max_tokens * CHARACTERS_PER_TOKEN], "length"
    return Answer(sequence, request.model, text, calls, finish_reason, _tokens(reply, request, text, calls))


def completion_body(answer: Answer) -> dict[str, Any]:
    """The whole answer as one JSON document."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    message["annotations"] = []
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    body = _envelope(answer.sequence, answer.model, "chat.completion")
    return body | {"choices": [choice], "usage": answer.tokens.body()}


def completion_chunks(answer: Answer, include_usage: bool) -> Iterator[dict[str, Any]]:
    """The answer as the documents of a stream; with `include_usage` a last one carries the tokens."""

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        body = _envelope(answer.sequence, answer.model, "chat.completion.chunk") | {"choices": [choice]}
        return body | {"usage": None} if include_usage else body

    yield chunk({"role": "assistant", "content": None if answer.text is None else "", "refusal": None})
    text = answer.text or ""
    for start in range(0, len(text), CHUNK_CHARACTERS):
        yield chunk({"content": text[start : start + CHUNK_CHARACTERS]})
    for index, call in enumerate(answer.tool_calls):
        yield chunk({"tool_calls": [{"index": index} | call]})
    yield chunk({}, answer.finish_reason)
    if include_usage:
        yield usage_chunk(answer.sequence, answer.model, answer.tokens)


def usage_chunk(sequence: int, model: str, tokens: Tokens) -> dict[str, Any]:
    """The document of a stream that has no choice and carries the tokens."""
    body = _envelope(sequence, model, "chat.completion.chunk")
    return body | {"choices": [], "usage": tokens.body()}


def no_choices_body(sequence: int, model: str, tokens: Tokens) -> dict[str, Any]:
    """A well-formed answer that holds nothing."""
    return _envelope(sequence, model, "chat.completion") | {"choices": [], "usage": tokens.body()}


def models_body(names: list[str]) -> dict[str, Any]:
    """The list of models."""
    rows = [{"id": name, "object": "model", "created": _EPOCH, "owned_by": "scripted"} for name in names]
    return {"object": "list", "data": rows}


def _envelope(sequence: int, model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{sequence:08d}",
        "object": kind,
        "created": _EPOCH + sequence,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _tokens(reply: Reply, request: ChatRequest, text: str | None, calls: list[dict[str, Any]]) -> Tokens:
    functions = (call["function"] for call in calls)
    written = (text or "") + "".join(function["name"] + function["arguments"] for function in functions)
    prompt, completion = prompt_tokens(request), count_tokens(written)
    if reply.usage is None:
        return Tokens(prompt, completion)
    if reply.usage.prompt_tokens is not None:
        prompt = reply.usage.prompt_tokens
    if reply.usage.completion_tokens is not None:
        completion = reply.usage.completion_tokens
    cached = min(reply.usage.cached_tokens, prompt)
    return Tokens(prompt, completion, cached, min(reply.usage.reasoning_tokens, completion))

"""A request to a model and its answer, by the shape of each provider's interface. What comes over the network is
anybody's."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crewrun_runner.exchange import Answered, Asked, answered, asked, ended, limited
from crewrun_runner.tokens import Tokens

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GENERATE, STREAM = "/v1beta/models/gemini-2:generateContent", "/v1beta/models/gemini-2:streamGenerateContent"
OPENAI, AZURE, OTHER = "api.openai.com", "mine.openai.azure.com", "vllm.team-a.svc"
HELLO = [{"role": "user", "content": "hello"}]
GEMINI_HELLO = [{"role": "user", "parts": [{"text": "hello"}]}]


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def asks(path: str, host: str = OTHER, **fields: Any) -> Asked:
    found = asked(host, path, body(**fields))
    assert found is not None
    return found


ASKED: dict[str, tuple[str, dict[str, Any], int | None, int, bool]] = {
    "OpenAI chat": (CHAT, {"messages": HELLO}, None, 1, True),
    "OpenAI chat with its limit": (CHAT, {"messages": HELLO, "max_tokens": 5}, 5, 1, True),
    "OpenAI chat with the newer name of it": (CHAT, {"messages": HELLO, "max_completion_tokens": 6}, 6, 1, True),
    "OpenAI chat with both": (CHAT, {"messages": HELLO, "max_tokens": 9, "max_completion_tokens": 6}, 6, 1, True),
    "OpenAI chat with choices": (CHAT, {"messages": HELLO, "n": 3}, None, 3, True),
    "OpenAI completions": ("/v1/completions", {"prompt": "hello", "max_tokens": 7}, 7, 1, True),
    "OpenAI responses": (RESPONSES, {"input": "hello"}, None, 1, True),
    "OpenAI responses with its limit": (RESPONSES, {"input": HELLO, "max_output_tokens": 8}, 8, 1, True),
    "Anthropic": (MESSAGES, {"messages": HELLO, "max_tokens": 4096}, 4096, 1, True),
    "Gemini": (GENERATE, {"contents": GEMINI_HELLO}, None, 1, True),
    "Gemini with its limit": (
        GENERATE,
        {"contents": GEMINI_HELLO, "generationConfig": {"maxOutputTokens": 9, "temperature": 1}},
        9,
        1,
        True,
    ),
    "Gemini as a stream": (STREAM, {"contents": [], "generationConfig": {"maxOutputTokens": 9}}, 9, 1, True),
    "a limit that another interface knows": (RESPONSES, {"input": "hello", "max_tokens": 5}, None, 1, True),
    "a limit that is no number": (CHAT, {"messages": HELLO, "max_tokens": "5"}, None, 1, True),
    "a limit that is a truth": (CHAT, {"messages": HELLO, "max_tokens": True}, None, 1, True),
    "a limit below zero": (CHAT, {"messages": HELLO, "max_tokens": -5}, 0, 1, True),
    "no choice": (CHAT, {"messages": HELLO, "n": 0}, None, 1, True),
    "choices that are a text": (CHAT, {"messages": HELLO, "n": "3"}, None, 1, True),
    "a prompt for an interface that nobody knows": ("/v1/guess", {"prompt": "x", "max_tokens": 5}, None, 1, False),
}


@pytest.mark.parametrize(("path", "fields", "want_answer", "want_choices", "want_limitable"), ASKED.values(), ids=ASKED)
def test_a_request_says_how_long_its_answer_may_be(
    path: str, fields: dict[str, Any], want_answer: int | None, want_choices: int, want_limitable: bool
) -> None:
    found = asks(path, **fields)
    assert (found.answer, found.choices, found.limitable) == (want_answer, want_choices, want_limitable)


NO_MODEL: dict[str, tuple[str, bytes]] = {
    "a file": ("/v1/files", body(purpose="batch", file="x")),
    "a batch": ("/v1/batches", body(input_file_id="f")),
    "a tool of the crew": ("/search", body(q="bees")),
    "no body": (CHAT, b""),
    "no JSON": (CHAT, b"--boundary\r\n"),
    "a list": (CHAT, b"[]"),
    "a text": (CHAT, b'"messages"'),
    "half a request": (CHAT, b'{"messages": ['),
    "not UTF-8": (CHAT, b'{"messages": "\xff"}'),
    "a count of Anthropic's tokens": ("/v1/messages/count_tokens", body(model="claude", messages=HELLO)),
    "a count of Gemini's tokens": ("/v1beta/models/gemini-2:countTokens", body(contents=GEMINI_HELLO)),
    "embeddings": ("/v1/embeddings", body(input=["a", "b"])),
    "a count of OpenAI's tokens": ("/v1/responses/input_tokens", body(input="hello")),
}


@pytest.mark.parametrize(("path", "data"), NO_MODEL.values(), ids=NO_MODEL)
def test_a_request_that_asks_no_model_does_not_count(path: str, data: bytes) -> None:
    assert asked(OTHER, path, data) is None


def test_the_bytes_of_a_request_bound_its_prompt() -> None:
    text = "日本語😀" * 100
    data = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    found = asked(OTHER, CHAT, data)
    assert found is not None
    assert 1300 + 64 <= found.prompt <= 1300 + 200


#: What a request has more than another one, and the least that it adds to the bound.
MORE: dict[str, tuple[str, dict[str, Any], int]] = {
    "a message": (CHAT, {"messages": HELLO * 2}, 64),
    "ten messages": (CHAT, {"messages": HELLO * 11}, 640),
    "tools": (CHAT, {"messages": HELLO, "tools": [{}] * 3}, 1024 + 3 * 64),
    "no tools": (CHAT, {"messages": HELLO, "tools": []}, 0),
    "an image of OpenAI": (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]},
        50_000,
    ),
    "an image of OpenAI's responses": (RESPONSES, {"input": [{"type": "input_image", "image_url": "u"}]}, 50_000),
    "an image of Anthropic": (MESSAGES, {"messages": [{"content": [{"type": "image", "source": {}}]}]}, 50_000),
    "a file of Gemini": (GENERATE, {"contents": [{"parts": [{"fileData": {"fileUri": "gs://x"}}]}]}, 50_000),
    "two images": (MESSAGES, {"messages": [{"content": [{"type": "image", "source": {}}] * 2}]}, 100_000),
}


@pytest.mark.parametrize(("path", "fields", "want_more"), MORE.values(), ids=MORE)
def test_what_a_provider_adds_to_a_prompt_is_in_its_bound(path: str, fields: dict[str, Any], want_more: int) -> None:
    plain = asks(CHAT, messages=HELLO).prompt - len(body(messages=HELLO))
    assert asks(path, **fields).prompt - len(body(**fields)) >= plain + want_more


def test_images_are_found_however_a_client_spaces_its_json() -> None:
    document = {"messages": [{"content": [{"type": "image", "source": {}}]}]}
    for separators in ((",", ":"), (", ", ": ")):
        found = asked(OTHER, MESSAGES, json.dumps(document, separators=separators).encode())
        assert found is not None and found.prompt > 50_000


#: Host, path and request, and where the limit stands then.
LIMITED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "OpenAI itself has the newer name": (OPENAI, CHAT, {}, {"max_completion_tokens": 3}),
    "Azure too": (AZURE, CHAT, {}, {"max_completion_tokens": 3}),
    "others have the older one": (OTHER, CHAT, {}, {"max_tokens": 3}),
    "the name that the request has stays": (OTHER, CHAT, {"max_completion_tokens": 9}, {"max_completion_tokens": 3}),
    "with OpenAI also": (OPENAI, CHAT, {"max_tokens": 9}, {"max_tokens": 3}),
    "a name without a value is none": (OPENAI, CHAT, {"max_tokens": None}, {"max_completion_tokens": 3}),
    "responses": (OPENAI, RESPONSES, {}, {"max_output_tokens": 3}),
    "Anthropic": ("api.anthropic.com", MESSAGES, {"max_tokens": 9}, {"max_tokens": 3}),
    "completions": (OPENAI, "/v1/completions", {}, {"max_tokens": 3}),
    "Gemini without a configuration": (OTHER, GENERATE, {}, {"generationConfig": {"maxOutputTokens": 3}}),
    "Gemini with one": (
        OTHER,
        STREAM,
        {"generationConfig": {"temperature": 0.5, "maxOutputTokens": 9}},
        {"generationConfig": {"temperature": 0.5, "maxOutputTokens": 3}},
    ),
    "Gemini with one that is nothing": (
        OTHER,
        GENERATE,
        {"generationConfig": None},
        {"generationConfig": {"maxOutputTokens": 3}},
    ),
}


@pytest.mark.parametrize(("host", "path", "fields", "want_fields"), LIMITED.values(), ids=LIMITED)
def test_a_limit_stands_where_the_interface_has_it(
    host: str, path: str, fields: dict[str, Any], want_fields: dict[str, Any]
) -> None:
    prompt: dict[str, Any] = {"messages": HELLO, "temperature": 0.1, "stream": True, "stop": ["Observation:"]}
    data = body(**prompt, **fields)
    found = asked(host, path, data)
    assert found is not None
    made = json.loads(limited(data, found, 3))
    assert {name: value for name, value in made.items() if value is not None} == {**prompt, **want_fields}
    again = asked(host, path, json.dumps(made).encode())
    assert again is not None and again.answer == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from([CHAT, RESPONSES, MESSAGES, GENERATE]), JSON, st.integers(0, 10**6))
@example(CHAT, [{"content": "half a pair \ud800"}], 3)  # a model may answer so, and the next prompt quotes it
def test_a_limit_changes_nothing_else(path: str, prompt: Any, answer: int) -> None:
    data = body(messages=prompt)
    found = asked(OTHER, path, data)
    assert found is not None
    made = json.loads(limited(data, found, answer))
    *parents, name = found.limits[0]
    place = made
    for parent in parents:
        place = place[parent]
    assert place.pop(name) == answer
    for parent in parents:
        assert made.pop(parent) == {}
    assert made == json.loads(data)


def stream(*events: dict[str, Any], end: str = "") -> bytes:
    lines = [f"event: {event.get('type', 'e')}\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join([": a comment\n\n", *lines, f"data: {end}\n\n" if end else ""]).encode()


CHAT_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
RESPONSE_USAGE = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
GEMINI_USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5}
USED, USED_CACHED = Tokens(10, 0, 5), Tokens(10, 4, 5)
WHOLE, EVENTS = "application/json", "text/event-stream; charset=utf-8"

ANSWERED: dict[str, tuple[str, bytes, Answered]] = {
    "OpenAI chat": (
        WHOLE,
        body(choices=[{"finish_reason": "stop"}], usage=CHAT_USAGE),
        Answered(USED),
    ),
    "OpenAI chat, cut": (
        WHOLE,
        body(choices=[{"finish_reason": "stop"}, {"finish_reason": "length"}], usage=CHAT_USAGE),
        Answered(USED, cut=True),
    ),
    "OpenAI chat as a stream": (
        EVENTS,
        stream(
            {"choices": [{"delta": {"content": "he"}, "finish_reason": None}], "usage": None},
            {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None},
            {"choices": [], "usage": CHAT_USAGE},
            end="[DONE]",
        ),
        Answered(USED),
    ),
    "OpenAI chat as a stream, cut": (
        EVENTS,
        stream({"choices": [{"delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": CHAT_USAGE}),
        Answered(USED, cut=True),
    ),
    "OpenAI chat as a stream that was not asked for usage": (
        EVENTS,
        stream({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}, end="[DONE]"),
        Answered(None),
    ),
    "OpenAI responses": (WHOLE, body(status="completed", usage=RESPONSE_USAGE), Answered(USED_CACHED)),
    "OpenAI responses, cut": (
        WHOLE,
        body(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=RESPONSE_USAGE),
        Answered(USED_CACHED, cut=True),
    ),
    "OpenAI responses, not finished for another reason": (
        WHOLE,
        body(status="incomplete", incomplete_details={"reason": "content_filter"}, usage=RESPONSE_USAGE),
        Answered(USED_CACHED),
    ),
    "OpenAI responses as a stream": (
        EVENTS,
        stream(
            {"type": "response.created", "response": {"usage": None, "incomplete_details": None}},
            {"type": "response.output_text.delta", "delta": "hello"},
            {"type": "response.completed", "response": {"usage": RESPONSE_USAGE}},
        ),
        Answered(USED_CACHED),
    ),
    "OpenAI responses as a stream, cut": (
        EVENTS,
        stream(
            {
                "type": "response.incomplete",
                "response": {"usage": RESPONSE_USAGE, "incomplete_details": {"reason": "max_output_tokens"}},
            }
        ),
        Answered(USED_CACHED, cut=True),
    ),
    "Anthropic": (
        WHOLE,
        body(stop_reason="end_turn", usage={"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 5}),
        Answered(USED_CACHED),
    ),
    "Anthropic, cut": (
        WHOLE,
        body(stop_reason="max_tokens", usage={"input_tokens": 10, "output_tokens": 5}),
        Answered(USED, cut=True),
    ),
    "Anthropic as a stream": (
        EVENTS,
        stream(
            {
                "type": "message_start",
                "message": {
                    "stop_reason": None,
                    "usage": {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 1},
                },
            },
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hello"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ),
        Answered(USED_CACHED),
    ),
    "Anthropic as a stream, cut": (
        EVENTS,
        stream(
            {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}},
        ),
        Answered(USED, cut=True),
    ),
    "Gemini": (
        WHOLE,
        body(candidates=[{"finishReason": "STOP"}], usageMetadata=GEMINI_USAGE),
        Answered(USED),
    ),
    "Gemini, cut": (
        WHOLE,
        body(candidates=[{"finishReason": "MAX_TOKENS"}], usageMetadata=GEMINI_USAGE),
        Answered(USED, cut=True),
    ),
    "Gemini as a stream, whose last figures count": (
        EVENTS,
        stream(
            {"candidates": [{}], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1}},
            {"candidates": [{"finishReason": "MAX_TOKENS"}], "usageMetadata": GEMINI_USAGE},
        ),
        Answered(USED, cut=True),
    ),
    "Gemini as a list": (
        WHOLE,
        json.dumps([{"candidates": [{}]}, {"candidates": [{}], "usageMetadata": GEMINI_USAGE}]).encode(),
        Answered(USED),
    ),
    "Bedrock converse, cut": (
        WHOLE,
        body(stopReason="max_tokens", usage={"inputTokens": 10, "outputTokens": 5}),
        Answered(USED, cut=True),
    ),
    "no usage": (WHOLE, body(choices=[{"finish_reason": "stop"}]), Answered(None)),
    "a usage of nothing": (WHOLE, body(usage={"prompt_tokens": 0, "completion_tokens": 0}), Answered(None)),
    "a usage that is none": (WHOLE, body(usage=[10, 5]), Answered(None)),
    "no JSON": (WHOLE, b"<html>502</html>", Answered(None)),
    "half an answer": (WHOLE, body(usage=CHAT_USAGE)[:-1], Answered(None)),
    "empty": (WHOLE, b"", Answered(None)),
    "an empty stream": (EVENTS, b"", Answered(None)),
    "lists in the place of objects": (WHOLE, body(choices=[["length"]], usage=CHAT_USAGE), Answered(USED)),
    "more brackets than anybody reads": (WHOLE, b"[" * 100_000, Answered(None)),
}


@pytest.mark.parametrize(("content_type", "data", "want_answered"), ANSWERED.values(), ids=ANSWERED)
def test_an_answer_says_what_it_used_and_whether_it_was_cut(
    content_type: str, data: bytes, want_answered: Answered
) -> None:
    assert answered(content_type, data) == want_answered


ENDED: dict[str, tuple[bytes, bool]] = {
    "OpenAI chat": (stream({"choices": []}, end="[DONE]"), True),
    "OpenAI responses": (stream({"type": "response.completed", "response": {}}), True),
    "Anthropic": (stream({"type": "message_delta"}, {"type": "message_stop"}), True),
    "OpenAI chat, torn": (stream({"choices": [{"delta": {"content": "he"}}]}), False),
    "Anthropic, torn": (stream({"type": "message_start"}, {"type": "content_block_delta"}), False),
    "OpenAI responses, torn": (stream({"type": "response.created"}), False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize(("data", "want_ended"), ENDED.values(), ids=ENDED)
def test_a_stream_has_ended_when_its_last_event_is_there(data: bytes, want_ended: bool) -> None:
    assert ended(data) is want_ended


def test_what_a_model_writes_does_not_end_its_stream() -> None:
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "it ends with message_stop"}}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}}
    assert not ended(stream(start, delta))


PARTS = st.sampled_from(
    [b"data:", b"\n", b"{", b"}", b"[", b"]", b'"usage":', b'"choices":', b'"n":', b'"messages":', b"null", b"1", b'"']
)
GARBAGE = st.binary() | st.lists(PARTS, max_size=12).map(b"".join) | JSON.map(lambda value: json.dumps(value).encode())


@settings(deadline=None)
@given(st.sampled_from([WHOLE, EVENTS, "", "text/html"]), GARBAGE)
def test_no_answer_is_a_reason_to_fail(content_type: str, data: bytes) -> None:
    found = answered(content_type, data)
    assert found.tokens is None or found.tokens.total > 0
    ended(data)


FIELDS = [
    *("messages", "input", "contents", "n", "tools", "max_tokens", "generationConfig"),
    *("usage", "usageMetadata", "choices", "candidates", "incomplete_details", "stop_reason"),
    *("response", "message", "delta"),
]
ODD = st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))


@settings(deadline=None)
@given(st.sampled_from([CHAT, RESPONSES, MESSAGES, GENERATE, "/"]), ODD)
def test_no_odd_document_is_a_reason_to_fail(path: str, document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    answered(WHOLE, data)
    answered(EVENTS, b"data: " + data)
    found = asked(OPENAI, path, data)
    if found is not None:
        assert found.choices >= 1 and found.prompt >= len(data) and (found.answer is None or found.answer >= 0)
        if found.limitable:
            again = asked(OPENAI, path, limited(data, found, 3))
            assert again is not None and again.answer is not None and again.answer <= 3


@settings(deadline=None)
@given(GARBAGE)
def test_no_request_is_a_reason_to_fail(data: bytes) -> None:
    asked(OTHER, CHAT, data)

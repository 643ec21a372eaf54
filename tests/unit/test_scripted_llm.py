"""The scripted LLM over plain HTTP: answers, faults, ledger, control."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from crewrun_testing import ScriptedLLM, ThreadedLLM

KEY = "sk-test-canary-4711"
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
SECRET_TEXT = "the secret question"
MiB = 1024 * 1024


class Client:
    """A caller with a key."""

    def __init__(self, llm: ScriptedLLM, session: aiohttp.ClientSession) -> None:
        self.llm = llm
        self.session = session

    async def chat(self, text: str = "hello", **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | more
        return await self.send("POST", "/v1/chat/completions", json=body)

    async def send(self, method: str, path: str, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {KEY}"} | more.pop("headers", {})
        async with self.session.request(method, self.llm.url + path, headers=headers, **more) as response:
            text = await response.text()
            is_json = response.content_type == "application/json" and text.endswith("}")
            return response.status, json.loads(text) if is_json else text, response

    async def ledger(self) -> Any:
        return (await self.send("GET", "/ledger"))[1]


def with_llm(script: Any, test: Callable[[Client], Awaitable[None]]) -> None:
    """Run a test against a server of its own."""

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with ScriptedLLM(script) as llm, aiohttp.ClientSession(timeout=timeout) as session:
            await test(Client(llm, session))

    asyncio.run(run())


def fault(value: Any) -> dict[str, Any]:
    return {"rules": [{"name": "broken", "replies": [{"fault": value}]}]}


async def eventually(check: Callable[[], bool]) -> None:
    """Give the loop turns until a condition holds."""
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0)


def events(stream: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_whole_answer_has_the_shape_that_clients_check() -> None:
    async def test(client: Client) -> None:
        status, body, response = await client.chat("12345")
        want_usage = {
            "prompt_tokens": 4 + 2,
            "completion_tokens": 1,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        }
        assert status == 200
        assert response.headers["x-request-id"] == "req_00000001"
        assert body["id"] == "chatcmpl-00000001"
        assert body["object"] == "chat.completion"
        assert body["model"] == "gpt-4o"
        assert isinstance(body["created"], int)
        assert body["choices"][0]["message"] | {"annotations": []} == {
            "role": "assistant",
            "content": "42",
            "refusal": None,
            "annotations": [],
        }
        assert body["choices"][0]["finish_reason"] == "stop"
        assert want_usage.items() <= body["usage"].items()

    with_llm({"default": {"text": "42"}}, test)


def test_a_stream_gives_the_same_text_and_usage_only_when_asked() -> None:
    text = "A longer text, cut into pieces. " * 5

    async def test(client: Client) -> None:
        _, plain, _ = await client.chat()
        for include in (True, False):
            options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include else {}
            status, raw, response = await client.chat(stream=True, **options)
            chunks = events(raw)
            deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
            assert (status, response.content_type) == (200, "text/event-stream")
            assert deltas[0]["role"] == "assistant"
            assert len(deltas) > 4
            assert "".join(delta.get("content") or "" for delta in deltas) == text
            finishes = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
            assert finishes[-1] == "stop" and set(finishes[:-1]) == {None}
            assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == [plain["usage"]] * include
        totals = (await client.ledger())["totals"]
        assert totals["totalTokens"] == 3 * plain["usage"]["total_tokens"]

    with_llm({"default": {"text": text}}, test)


def test_tool_calls_carry_arguments_as_text_whole_and_streamed() -> None:
    script = {"default": {"toolCalls": [{"name": "search", "arguments": {"q": "kopf"}}, {"name": "stop"}]}}
    want_functions = [{"name": "search", "arguments": '{"q": "kopf"}'}, {"name": "stop", "arguments": "{}"}]

    async def test(client: Client) -> None:
        _, body, _ = await client.chat()
        message = body["choices"][0]["message"]
        assert message["content"] is None
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        assert [call["function"] for call in message["tool_calls"]] == want_functions
        assert [call["id"] for call in message["tool_calls"]] == ["call_00000001_0", "call_00000001_1"]
        chunks = events((await client.chat(stream=True))[1])
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert [(call["index"], call["function"]) for call in calls] == list(enumerate(want_functions))

    with_llm(script, test)


@pytest.mark.parametrize(
    ("value", "want_status", "want_type", "want_code", "want_retry_after"),
    [
        ({"status": 401}, 401, "invalid_request_error", "invalid_api_key", None),
        ({"status": 404}, 404, "invalid_request_error", "model_not_found", None),
        ({"status": 429, "retryAfterSeconds": 7}, 429, "requests", "rate_limit_exceeded", "7"),
        ({"status": 429, "retryAfterSeconds": 0.5}, 429, "requests", "rate_limit_exceeded", "0.5"),
        (
            {"status": 429, "code": "insufficient_quota"},
            429,
            "insufficient_quota",
            "insufficient_quota",
            None,
        ),
        ({"status": 500}, 500, "server_error", None, None),
        ({"status": 503, "retryAfterSeconds": 30}, 503, "server_error", None, "30"),
        ({"status": 418}, 418, "invalid_request_error", None, None),
        ("contextTooLong", 400, "invalid_request_error", "context_length_exceeded", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_fault_answers_as_the_real_api_does(
    value: Any,
    want_status: int,
    want_type: str,
    want_code: str | None,
    want_retry_after: str | None,
    stream: bool,
) -> None:
    async def test(client: Client) -> None:
        status, body, response = await client.chat(stream=stream)
        entry = client.llm.ledger.entries[0]
        assert status == want_status
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert (body["error"]["type"], body["error"]["code"]) == (want_type, want_code)
        assert response.headers.get("Retry-After") == want_retry_after
        assert (entry.status, entry.succeeded, entry.rule) == (want_status, False, "broken")
        assert entry.fault
        assert client.llm.ledger.totals.total_tokens == 0

    with_llm(fault(value), test)


@pytest.mark.parametrize(
    ("kind", "want_type"), [("garbage", "application/json"), ("html", "text/html")], ids=["garbage", "html"]
)
def test_a_200_that_is_no_json_is_not_a_success_in_the_ledger(kind: str, want_type: str) -> None:
    async def test(client: Client) -> None:
        status, text, response = await client.chat()
        assert (status, response.content_type) == (200, want_type)
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert client.llm.ledger.totals.succeeded_calls == 0

    with_llm(fault(kind), test)


def test_no_choices_is_well_formed_and_empty_whole_and_streamed() -> None:
    async def test(client: Client) -> None:
        _, body, _ = await client.chat()
        chunks = events((await client.chat(stream=True))[1])
        assert body["choices"] == []
        assert [chunk["choices"] for chunk in chunks] == [[]]

    with_llm(fault("noChoices"), test)


def test_a_connection_reset_is_seen_as_one() -> None:
    async def test(client: Client) -> None:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.chat()
        entry = client.llm.ledger.entries[0]
        assert (entry.status, entry.fault, entry.client_disconnected) == (None, "connectionReset", False)

    with_llm(fault("connectionReset"), test)


def test_a_timeout_hangs_up_after_its_bound() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.chat()
        entry = client.llm.ledger.entries[0]
        assert (entry.status, entry.fault, entry.client_disconnected) == (None, "timeout", False)

    with_llm(fault({"kind": "timeout", "seconds": 0.05}), test)


@pytest.mark.parametrize(
    ("reply", "want_fault", "want_tokens"),
    [({"fault": "timeout"}, "timeout", 0), ({"text": "1234", "delaySeconds": 60}, None, 4 + 2 + 1)],
    ids=["timeout", "delay"],
)
def test_a_client_that_leaves_is_recorded_at_once(reply: Any, want_fault: str | None, want_tokens: int) -> None:
    async def test(client: Client) -> None:
        ledger = client.llm.ledger
        call = asyncio.create_task(client.chat("hello"))
        await eventually(lambda: ledger.totals.in_flight == 1)
        assert (await client.ledger())["entries"][0]["endTime"] is None
        call.cancel()
        await eventually(lambda: ledger.totals.in_flight == 0)
        entry = ledger.entries[0]
        assert (entry.client_disconnected, entry.succeeded, entry.fault) == (True, False, want_fault)
        assert (ledger.totals.disconnected_calls, ledger.totals.disconnected_tokens) == (1, want_tokens)
        assert ledger.totals.total_tokens == 0

    with_llm({"default": reply}, test)


@pytest.mark.parametrize("reply", [{"fault": "timeout"}, {"text": "late", "delaySeconds": 60}])
def test_stopping_does_not_wait_for_held_requests(reply: Any) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            async with ScriptedLLM({"default": reply}) as llm:
                call = asyncio.create_task(Client(llm, session).chat())
                await eventually(lambda: llm.ledger.totals.in_flight == 1)
                began = time.monotonic()
            await asyncio.gather(call, return_exceptions=True)
            entry = llm.ledger.entries[0]
            assert time.monotonic() - began < 2
            assert (entry.client_disconnected, entry.succeeded, entry.end_time is None) == (
                False,
                False,
                False,
            )

    asyncio.run(run())


def test_the_ledger_tells_all_about_a_request_but_key_and_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script = {"rules": [{"name": "facts", "match": {"user": "secret"}, "replies": [{"text": "the answer"}]}]}

    async def test(client: Client) -> None:
        await client.chat(SECRET_TEXT)
        body = await client.ledger()
        entry = body["entries"][0]
        want = {
            "sequence": 1,
            "path": "/v1/chat/completions",
            "model": "gpt-4o",
            "messageCount": 1,
            "rule": "facts",
            "streaming": False,
            "promptTokens": 4 + 5,
            "completionTokens": 3,
            "totalTokens": 12,
            "cachedTokens": 0,
            "status": 200,
            "fault": None,
            "succeeded": True,
            "authorizationSha256": KEY_SHA256,
            "clientDisconnected": False,
        }
        assert want.items() <= entry.items()
        assert entry["startTime"] <= entry["endTime"]
        assert len(entry["messagesSha256"]) == 16
        assert body["totals"]["calls"] == body["totals"]["succeededCalls"] == 1
        for place in (json.dumps(body), caplog.text):
            assert KEY not in place
            assert SECRET_TEXT not in place
            assert "the answer" not in place
        assert "rule=facts status=200" in caplog.text

    with_llm(script, test)


def test_a_request_that_is_not_http_leaves_no_trace_of_its_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.llm.port)
        writer.write(f"NONSENSE\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        await reader.read()
        writer.close()
        assert KEY not in caplog.text

    with_llm(None, test)


@pytest.mark.parametrize(
    ("body", "want_param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "model"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [1]}', "messages[0].role"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 1}]}', "messages[0].content"),
        (b'{"model": "m", "messages": [{"role": "user"}], "n": 2}', "n"),
        (b'{"model": "m", "messages": [{"role": "user"}], "max_tokens": 0}', "max_tokens"),
        (b"[" * 100_000, None),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_parameter(body: bytes, want_param: str | None) -> None:
    async def test(client: Client) -> None:
        status, answer, _ = await client.send("POST", "/v1/chat/completions", data=body)
        assert (status, answer["error"]["param"]) == (400, want_param)
        assert client.llm.ledger.entries[0].status == 400

    with_llm(None, test)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_a_413_and_one_below_is_read(chunked: bool) -> None:
    async def pieces(size: int) -> Any:
        for _ in range(size // MiB):
            yield b"x" * MiB

    async def test(client: Client) -> None:
        for mebibytes, want_status in ((3, 400), (5, 413)):
            data = pieces(mebibytes * MiB) if chunked else io.BytesIO(b"x" * mebibytes * MiB)
            try:
                status, _, _ = await client.send("POST", "/v1/chat/completions", data=data)
            except aiohttp.ClientConnectionError:
                status = 413  # the answer was overtaken by the end of the connection; the ledger tells
            assert status == want_status
            assert client.llm.ledger.entries[-1].status == want_status

    with_llm(None, test)


def test_the_script_can_be_replaced_and_a_wrong_one_changes_nothing() -> None:
    async def test(client: Client) -> None:
        status, body, _ = await client.send("PUT", "/script", data="rules: [{replies: [{text: new, x: 1}]}]")
        assert status == 400
        assert body["problems"] == ["rules[0].replies[0].x: Extra inputs are not permitted"]
        assert (await client.chat())[1]["choices"][0]["message"]["content"] == "old"
        status, body, _ = await client.send("PUT", "/script", data="rules: [{replies: [{text: new}]}]")
        assert (status, body) == (200, {"rules": 1})
        assert (await client.chat())[1]["choices"][0]["message"]["content"] == "new"
        assert client.llm.ledger.totals.calls == 2

    with_llm({"default": {"text": "old"}}, test)


def test_a_reset_empties_the_ledger_and_rewinds_the_rules() -> None:
    async def test(client: Client) -> None:
        for _ in range(2):
            assert [(await client.chat())[0] for _ in range(3)] == [500, 200, 200]
            await client.send("DELETE", "/ledger")
            body = await client.ledger()
            assert (body["entries"], body["totals"]["calls"], body["dropped"]) == ([], 0, 0)

    with_llm({"rules": [{"replies": [{"fault": {"status": 500}}, {"text": "fine"}]}]}, test)


def test_the_ledger_can_be_read_from_a_sequence_number_on() -> None:
    async def test(client: Client) -> None:
        for _ in range(3):
            await client.chat()
        _, body, _ = await client.send("GET", "/ledger?after=2")
        assert [entry["sequence"] for entry in body["entries"]] == [3]
        assert (await client.send("GET", "/ledger?after=x"))[0] == 400

    with_llm(None, test)


def test_other_routes() -> None:
    async def test(client: Client) -> None:
        assert (await client.send("GET", "/healthz"))[:2] == (200, {"status": "ok"})
        _, models, _ = await client.send("GET", "/v1/models")
        assert [model["id"] for model in models["data"]] == ["gpt-4o", "small"]
        status, body, _ = await client.send("POST", "/v1/embeddings", json={})
        assert (status, body["error"]["code"]) == (404, "unknown_url")
        assert (await client.send("GET", "/nothing"))[0] == 404
        assert (await client.send("POST", "/ledger"))[0] == 405
        status, body, _ = await client.chat(model="gpt-9")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert (await client.chat(model="small"))[0] == 200
        want_paths = ["/v1/models", "/v1/embeddings", *["/v1/chat/completions"] * 2]
        assert [entry.path for entry in client.llm.ledger.entries] == want_paths
        assert client.llm.ledger.totals.calls == 2

    with_llm({"models": ["gpt-4o", "small"]}, test)


def test_a_rude_provider_echoes_the_key_and_our_log_does_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(client: Client) -> None:
        _, body, _ = await client.chat()
        assert KEY in body["error"]["message"]
        assert KEY not in json.dumps(await client.ledger())
        assert KEY not in caplog.text

    with_llm(fault({"status": 401, "echoKey": True}), test)


def test_it_runs_in_a_thread_for_tests_without_a_loop() -> None:
    async def ask(url: str) -> int:
        async with aiohttp.ClientSession() as session:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return response.status

    with ThreadedLLM() as llm:
        assert asyncio.run(ask(llm.base_url)) == 200
        assert llm.ledger.totals.succeeded_calls == 1
        assert llm.ledger.entries[0].authorization_sha256 is None
        with pytest.raises(OSError), ThreadedLLM(port=llm.port):
            pass

"""How a webhook is told: what is sent, what is tried again and when, and what is never said."""

import json
from typing import Any

import pytest

from crewrun_api.reasons import WebhookOutcome
from crewrun_api.webhook import Delivery, WebhookRecord
from crewrun_runner.delivery import Reply, Unsendable, deliver, failed, request_of, secrets_of

URL = "https://hooks.example.test/services/T00/secret-path?key=in-the-query"
LOST = Reply(error="ConnectionRefusedError: [Errno 111] Connection refused")


def told(*replies: Reply) -> tuple[WebhookRecord, list[float]]:
    """The record, and the waits between tries; the last reply is given again and again."""
    left, waits = list(replies), list[float]()
    tries: list[int] = []
    record = deliver(lambda: left.pop(0) if len(left) > 1 else left[0], waits.append, lambda n, _: tries.append(n))
    assert tries == [*range(1, record.tries + 1)]
    return record, waits


def a_delivery(url: str | None = URL, *headers: str) -> Delivery:
    return Delivery(url=url, headers=list(headers), id="uid/2", body={"event": "RunFailed", "text": "fünf"})


@pytest.mark.parametrize(
    ("replies", "want_waits", "want_status"),
    [
        ([Reply(200)], [], 200),
        ([Reply(204)], [], 204),
        ([Reply(299)], [], 299),
        ([LOST, Reply(500), Reply(201)], [1, 2], 201),
        ([Reply(408), Reply(425), Reply(429), Reply(503), Reply(200)], [1, 2, 4, 8], 200),
        ([Reply(429, 7.0), Reply(200)], [7], 200),
        ([Reply(503, 0.1), Reply(200)], [1], 200),
        ([Reply(503, 3600.0), Reply(200)], [60], 200),
    ],
)
def test_it_is_delivered(replies: list[Reply], want_waits: list[float], want_status: int) -> None:
    record, waits = told(*replies)
    assert (record.outcome, record.status_code, record.tries) == (
        WebhookOutcome.DELIVERED, want_status, len(replies),
    )  # fmt: skip
    assert (waits, record.message) == (want_waits, "")


@pytest.mark.parametrize(
    ("reply", "want_tries", "want_message"),
    [
        (Reply(400), 1, "answered 400 Bad Request"),
        (Reply(404), 1, "answered 404 Not Found"),
        (Reply(410, 5.0), 1, "answered 410 Gone"),
        (Reply(301), 1, "answered 301 Moved Permanently; a redirect is not followed, name the address"),
        (Reply(307), 1, "answered 307 Temporary Redirect; a redirect"),
        (Reply(499), 1, "answered 499"),
        (Reply(503), 5, "answered 503 Service Unavailable, the last of 5 tries"),
        (Reply(429, 90.0), 5, "answered 429 Too Many Requests, the last of 5 tries"),
        (LOST, 5, "no answer: ConnectionRefusedError: [Errno 111] Connection refused, the last of 5 tries"),
    ],
)
def test_it_fails_for_good(reply: Reply, want_tries: int, want_message: str) -> None:
    record, waits = told(reply)
    assert (record.outcome, record.status_code) == (WebhookOutcome.FAILED, reply.status or None)
    assert record.message.startswith(want_message)
    assert (record.tries, len(waits)) == (want_tries, want_tries - 1)


def test_all_tries_together_are_shorter_than_the_jobs_deadline() -> None:
    _, waits = told(Reply(429, 9999.0))
    assert sum(waits) + 5 * 10 < 600 / 2


def test_a_message_is_short() -> None:
    assert len(failed("x" * 5000).message) == 300


# the request


def test_the_request_says_whose_it_is() -> None:
    request = request_of(a_delivery(), {})
    assert (request.secure, request.host, request.port) == (True, "hooks.example.test", 443)
    assert request.target == "/services/T00/secret-path?key=in-the-query"
    assert request.headers == {
        "Content-Type": "application/json",
        "User-Agent": "crewrun",
        "X-CrewRun-Delivery": "uid/2",
    }
    assert json.loads(request.body) == {"event": "RunFailed", "text": "fünf"}


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("http://a", (False, "a", 80, "/")),
        ("http://a:8080/x y/ü?q=ä#part", (False, "a", 8080, "/x%20y/%C3%BC?q=%C3%A4")),
        ("https://[::1]:8443/", (True, "::1", 8443, "/")),
        ("https://bücher.test", (True, "xn--bcher-kva.test", 443, "/")),
        ("https://a/%2Fb", (True, "a", 443, "/%2Fb")),
    ],
)
def test_an_address_is_taken_as_it_is(url: str, want: tuple[Any, ...]) -> None:
    request = request_of(a_delivery(url), {})
    assert (request.secure, request.host, request.port, request.target) == want


def test_a_user_in_the_address_becomes_a_header() -> None:
    assert request_of(a_delivery("http://me:p%40ss@a/"), {}).headers["Authorization"] == "Basic bWU6cEBzcw=="


def test_an_address_from_a_secret_may_end_in_a_line_break() -> None:
    assert request_of(a_delivery(None), {"CREWRUN_URL": "https://a/b\n"}).target == "/b"


def test_a_variable_does_not_replace_the_address_of_the_run() -> None:
    assert request_of(a_delivery("https://a"), {"CREWRUN_URL": "https://b"}).host == "a"


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "https://", "hooks.example.test", "https://a:port", "https://[", "file:///x"]
)
def test_what_is_no_address_is_never_tried_nor_quoted(url: str) -> None:
    with pytest.raises(Unsendable, match=r"^its URL (cannot be read|does not begin with http)") as raised:
        request_of(a_delivery(None), {"CREWRUN_URL": url})
    assert url in ("", "https://") or url not in str(raised.value)


def test_the_users_headers_come_last_and_cannot_say_where_the_body_goes() -> None:
    headers = ["Authorization", "user-agent", "Host", "content-length", "Transfer-Encoding", "Connection"]
    values = ["Bearer abc\n", "mine", "evil", "0", "chunked", "keep-alive"]
    environ = {f"CREWRUN_HEADER_{number}": value for number, value in enumerate(values)}
    assert request_of(a_delivery(URL, *headers), environ).headers == {
        "Content-Type": "application/json",
        "X-CrewRun-Delivery": "uid/2",
        "Authorization": "Bearer abc",
        "user-agent": "mine",
    }


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\0b", "a\x7fb"])
def test_a_header_cannot_bring_another(value: str) -> None:
    with pytest.raises(Unsendable, match="its header X-Key has a control character in it") as raised:
        request_of(a_delivery(URL, "X-Key"), {"CREWRUN_HEADER_0": value})
    assert value not in str(raised.value)


def test_a_header_without_its_variable_is_told_by_name() -> None:
    with pytest.raises(Unsendable, match="the value of its header X-Key is missing"):
        request_of(a_delivery(URL, "X-Key"), {})


def test_what_is_secret_is_known() -> None:
    found = secrets_of(a_delivery(None, "Authorization"), {"CREWRUN_URL": URL, "CREWRUN_HEADER_0": "Bearer token-1"})
    assert {URL, "hooks.example.test", "secret-path", "key=in-the-query", "Bearer token-1", "token-1"} <= found
    assert secrets_of(a_delivery("https://me:password@a/b?token=2"), {}) >= {"password", "token=2"}
    assert "hooks.example.test" not in secrets_of(a_delivery(URL), {})

"""The Pod of a webhook as a process of its own, against a local receiver."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.webhook import Delivery, WebhookRecord, parse_webhook_record
from tests.runner.harness import POD_UID, ROOT, RUN_UID, Runner, wait_for

#: The same with less patience.
HURRIED = """
import sys
from crewrun_runner import delivery, webhook
delivery.WAITS, webhook.TIMEOUT_SECONDS = (0.1, 0.1, 0.1, 0.1), 0.5
sys.exit(webhook.main())
"""
SECRET = "Bearer hook-canary-7d19e2"
BODY = {"event": "RunFailed", "message": "fünf"}


@dataclass
class Receiver:
    """Answers with the statuses it is given, the last of them for good; keeps what it was sent."""

    url: str
    statuses: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            its.requests.append((self.path, dict(self.headers.items()), body))
            if its.hangs:
                over.wait(30)
            status = its.statuses.pop(0) if len(its.statuses) > 1 else its.statuses[0]
            self.send_response(status)
            for name, value in its.headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    over = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        its = Receiver(f"http://127.0.0.1:{server.server_port}/hooks/of-the-team?room=1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield its
        over.set()
        server.shutdown()


@dataclass
class Told:
    """What was left behind."""

    exit_code: int
    record: WebhookRecord | None
    lines: list[dict[str, Any]]
    everything: str
    seconds: float


class Teller:
    """Starts the Pod's command as its Job does."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python, self._folder = python, folder
        self._start = time.monotonic()

    def start(
        self, delivery: Delivery, *, edited: bool = False, hurried: bool = False, **env: str
    ) -> subprocess.Popen[str]:
        document = delivery.model_dump_json(by_alias=True, exclude_none=True).encode()
        (self._folder / names.WEBHOOK_FILE).write_bytes(document + b" " * edited)
        (self._folder / "termination-log").touch()
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner-image'}",
            "CREWRUN_SPEC_DIR": str(self._folder),
            "CREWRUN_TERMINATION_LOG": str(self._folder / "termination-log"),
            names.ENV_RUN_NAMESPACE: "team-a",
            names.ENV_RUN_NAME: "research-x7k2p",
            names.ENV_RUN_UID: RUN_UID,
            names.ENV_ATTEMPT: "0",
            names.ENV_POD_UID: POD_UID,
            names.ENV_DIGEST: names.payload_digest(document, b""),
            **env,
        }
        arguments = ["-c", HURRIED] if hurried else ["-m", "crewrun_runner.webhook"]
        self._start = time.monotonic()
        environ = {name: value for name, value in variables.items() if value}
        command = [self._python, *arguments]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> Told:
        stdout, stderr = process.communicate(timeout=60)
        message = (self._folder / "termination-log").read_text()
        return Told(
            exit_code=process.returncode,
            record=parse_webhook_record(message),
            lines=[json.loads(line) for line in stdout.splitlines()],
            everything=stdout + stderr + message,
            seconds=time.monotonic() - self._start,
        )

    def tell(self, delivery: Delivery, **options: Any) -> Told:
        return self.finish(self.start(delivery, **options))


@pytest.fixture
def teller(runner: Runner, tmp_path: Path) -> Teller:
    return Teller(runner._python, tmp_path)


def a_delivery(url: str | None, *headers: str) -> Delivery:
    return Delivery(url=url, headers=list(headers), id=f"{RUN_UID}/2", body=BODY)


def outcome(told: Told) -> tuple[int, str, int | None, int]:
    assert told.record is not None, told.everything
    return told.exit_code, str(told.record.outcome), told.record.status_code, told.record.tries


def test_a_receiver_is_told_at_once(teller: Teller, receiver: Receiver) -> None:
    told = teller.tell(a_delivery(receiver.url))
    assert outcome(told) == (0, "Delivered", 200, 1)
    ((path, headers, body),) = receiver.requests
    assert (path, body) == ("/hooks/of-the-team?room=1", BODY)
    assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", "crewrun")
    assert headers["X-CrewRun-Delivery"] == f"{RUN_UID}/2"
    (line,) = told.lines
    assert (line["event"], line["status"], line["run"], line["attempt"]) == (
        "webhook_delivered", 200, "team-a/research-x7k2p", 0,
    )  # fmt: skip
    assert told.seconds < 1.5, "crewai is not imported"


def test_a_receiver_that_fails_twice_is_asked_again(teller: Teller, receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 200]
    told = teller.tell(a_delivery(receiver.url))
    assert outcome(told) == (0, "Delivered", 200, 3)
    assert [line["event"] for line in told.lines] == ["webhook_refused", "webhook_refused", "webhook_delivered"]
    assert len({headers["X-CrewRun-Delivery"] for _, headers, _ in receiver.requests}) == 1
    assert 3 <= told.seconds < 5


def test_a_receiver_says_when_to_come_again(teller: Teller, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [429, 200], {"Retry-After": "3"}
    told = teller.tell(a_delivery(receiver.url))
    assert outcome(told) == (0, "Delivered", 200, 2)
    assert told.seconds >= 3


def test_a_receiver_that_refuses_is_asked_once(teller: Teller, receiver: Receiver) -> None:
    receiver.statuses = [404]
    told = teller.tell(a_delivery(receiver.url))
    assert outcome(told) == (1, "Failed", 404, 1)
    assert told.record is not None and told.record.message == "answered 404 Not Found"


def test_a_redirect_is_not_followed(teller: Teller, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [307], {"Location": receiver.url}
    assert outcome(teller.tell(a_delivery(receiver.url))) == (1, "Failed", 307, 1)
    assert len(receiver.requests) == 1


def test_nobody_listens(teller: Teller) -> None:
    told = teller.tell(a_delivery("http://127.0.0.1:1"), hurried=True)
    assert outcome(told) == (1, "Failed", None, 5)
    assert told.record is not None and "Connection refused" in told.record.message


def test_an_address_that_speaks_no_http_is_no_answer(teller: Teller, receiver: Receiver) -> None:
    told = teller.tell(a_delivery(receiver.url.replace("http:", "https:")), hurried=True)
    assert outcome(told) == (1, "Failed", None, 5)
    assert told.record is not None and "SSL" in told.record.message


def test_a_secret_header_arrives_and_is_nowhere_else(teller: Teller, receiver: Receiver) -> None:
    told = teller.tell(a_delivery(receiver.url, "Authorization", "X-Team"), CREWRUN_HEADER_0=SECRET + "\n",
                       CREWRUN_HEADER_1="a")  # fmt: skip
    assert outcome(told) == (0, "Delivered", 200, 1)
    ((_, headers, _),) = receiver.requests
    assert (headers["Authorization"], headers["X-Team"]) == (SECRET, "a")
    assert SECRET.split()[1] not in told.everything


def test_an_address_from_a_secret_is_used_and_is_nowhere_else(teller: Teller, receiver: Receiver) -> None:
    receiver.statuses = [403]
    told = teller.tell(a_delivery(None), CREWRUN_URL=receiver.url + "\n")
    assert outcome(told) == (1, "Failed", 403, 1)
    assert len(receiver.requests) == 1
    for part in (receiver.url, "of-the-team", "room=1", "127.0.0.1"):
        assert part not in told.everything


def test_an_error_that_quotes_a_secret_address_is_redacted(teller: Teller) -> None:
    told = teller.tell(a_delivery(None), hurried=True, CREWRUN_URL="http://canary host.test/")
    assert outcome(told) == (1, "Failed", None, 5)
    assert told.record is not None and "'[redacted]'" in told.record.message
    assert "canary" not in told.everything


@pytest.mark.parametrize("header", ["Content-Length", "host", "Transfer-Encoding"])
def test_no_header_of_the_user_says_where_the_body_goes(teller: Teller, receiver: Receiver, header: str) -> None:
    told = teller.tell(a_delivery(receiver.url, header), CREWRUN_HEADER_0="1")
    assert outcome(told) == (0, "Delivered", 200, 1)
    ((_, _, body),) = receiver.requests
    assert body == BODY


def test_proxy_variables_are_not_looked_at(teller: Teller, receiver: Receiver) -> None:
    proxy = {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    assert outcome(teller.tell(a_delivery(receiver.url), **proxy)) == (0, "Delivered", 200, 1)


def test_a_file_that_somebody_edited_is_not_sent(teller: Teller, receiver: Receiver) -> None:
    told = teller.tell(a_delivery(receiver.url), edited=True)
    assert outcome(told) == (1, "Failed", None, 0)
    assert told.record is not None and "somebody edited the Pod's annotations" in told.record.message
    assert receiver.requests == []


@pytest.mark.parametrize("variable", [names.ENV_RUN_UID, names.ENV_DIGEST])
def test_it_is_not_started_by_hand(teller: Teller, receiver: Receiver, variable: str) -> None:
    told = teller.tell(a_delivery(receiver.url), **{variable: ""})
    assert outcome(told) == (1, "Failed", None, 0)
    assert receiver.requests == []


@pytest.mark.parametrize("when", ["in a try", "between two"])
def test_sigterm_ends_it_at_once_and_leaves_no_record(teller: Teller, receiver: Receiver, when: str) -> None:
    receiver.hangs, receiver.statuses = when == "in a try", [500]
    process = teller.start(a_delivery(receiver.url))
    wait_for(lambda: receiver.requests)
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    told = teller.finish(process)
    assert (told.exit_code, told.record) == (143, None)
    assert time.monotonic() - begun < 1


def test_a_receiver_that_never_answers_is_not_waited_for(teller: Teller, receiver: Receiver) -> None:
    receiver.hangs = True
    told = teller.tell(a_delivery(receiver.url), hurried=True)
    assert outcome(told) == (1, "Failed", None, 5)
    assert {line["message"] for line in told.lines} == {"no answer: not answered within 0.5 s"}
    assert told.seconds < 6

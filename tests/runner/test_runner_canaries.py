"""Keys in every place that a key can be in, and a provider that echoes all of them: none gets out of the process."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zlib import decompress

import pytest

from crewrun_api.reasons import Outcome, Reason
from tests.runner.harness import KEY, Finished, Runner, crew, task
from tests.support.reports import ReportServer

FILE, PASSWORD, QUERY, HEADER, BODY = (
    f"canary-{place}-{number}f3a9" for number, place in enumerate(("file", "password", "query", "header", "body"))
)
#: A key is not safe because it is spelled otherwise.
CANARIES = [KEY, FILE, PASSWORD, QUERY, HEADER, BODY, b64encode(f"user:{PASSWORD}".encode()).decode()]


class Echo:
    """A provider that answers with all that it was sent, as an answer or as an error."""

    def __init__(self, failing: str) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"])).decode()
                echo = f"{self.path} {dict(self.headers)} {KEY} {PASSWORD} {FILE} {BODY} sk-in-json:{json.dumps(FILE)}"
                outer.asked.append(echo)
                failed = failing and failing in sent
                choice = {"index": 0, "message": {"role": "assistant", "content": echo}, "finish_reason": "stop"}
                answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]}
                error = {"error": {"message": echo, "type": "x", "code": "y"}}
                body = json.dumps(error if failed else answer).encode()
                self.send_response(400 if failed else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Echo":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def operator() -> Iterator[ReportServer]:
    with ReportServer() as server:
        yield server


def run(runner: Runner, echo: Echo, operator: ReportServer, folder: Path, **settings: Any) -> Finished:
    secret = folder / "secret"
    secret.mkdir()
    (secret / "token").write_text(FILE + "\n")
    llm = {
        "model": "openai/gpt-4o",
        "base_url": f"http://user:{PASSWORD}@127.0.0.1:{echo.port}/v1",
        "default_headers": {"X-Api-Key": HEADER},
        "default_query": {"api_key": QUERY},
    }
    definition = crew(task("facts", output_file="facts.md"), task("report"))
    definition["agents"] = {"writer": {**definition["agents"]["writer"], "llm": llm}}
    secrets = [
        {"name": "OPENAI_API_KEY", "secretKeyRef": {"name": "keys", "key": "openai"}},
        {"name": "INNER", "secretKeyRef": {"name": "keys", "key": "inner"}},
        {"mountPath": str(secret), "secretName": "files"},
    ]
    return runner.run(definition, secrets=secrets, env={"INNER": BODY}, reports=operator.url, **settings)


def assert_no_canary(finished: Finished, operator: ReportServer) -> None:
    for taken in operator.taken:
        report = taken.report
        texts = [taken.body.decode()]
        texts += [file.upload.content().decode() for file in report.files if file.upload]
        if report.checkpoint:
            texts.append(decompress(report.checkpoint.content()).decode())
        assert_clean("a report", *texts)
    assert_clean("the log", finished.stdout)
    assert_clean("stderr", finished.stderr)
    assert_clean("the termination message", finished.message.decode())


def assert_clean(where: str, *texts: str) -> None:
    found = [canary for canary in CANARIES for text in texts if canary in text]
    assert not found, f"{where} holds {found}"


@pytest.mark.parametrize("verbose", [False, True])
def test_a_model_that_answers_with_every_key_gives_none_of_them_away(
    runner: Runner, operator: ReportServer, tmp_path: Path, verbose: bool
) -> None:
    with Echo(failing="") as echo:
        finished = run(runner, echo, operator, tmp_path, verbose=verbose)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert [canary for canary in CANARIES[:7] if canary not in echo.asked[0]] == []
    assert any(report.checkpoint for report in operator.reports)
    assert [file.name for report in operator.reports for file in report.files] == ["facts.md"]
    assert "[redacted]" in (finished.end.output.value if finished.end.output else "")
    assert_no_canary(finished, operator)


def test_an_error_that_quotes_every_key_gives_none_of_them_away(
    runner: Runner, operator: ReportServer, tmp_path: Path
) -> None:
    with Echo(failing="Do report") as echo:
        finished = run(runner, echo, operator, tmp_path, verbose=True)
    assert (finished.end.outcome, finished.end.reason) == (Outcome.FAILED, Reason.LLM_BAD_REQUEST), finished.stderr
    assert "[redacted]" in finished.end.message
    assert_no_canary(finished, operator)


def test_an_exception_about_an_address_does_not_quote_its_password(
    runner: Runner, operator: ReportServer, tmp_path: Path
) -> None:
    url = f"http://user:{PASSWORD}@127.0.0.1:9/v1?token={QUERY}"
    finished = runner.run(crew(), llm={"baseURL": url}, reports=operator.url, verbose=True)
    assert finished.end.reason is Reason.LLM_UNAVAILABLE, finished.end.message
    assert_no_canary(finished, operator)
    broken = f"http://user:{PASSWORD}@[broken:x/v1"
    writer = {**crew()["agents"]["writer"], "llm": {"model": "gpt-4o", "base_url": broken}}
    definition = {**crew(), "agents": {"writer": writer}}
    other = runner.elsewhere(tmp_path / "other").run(definition, reports=operator.url)
    assert other.end.outcome is Outcome.FAILED
    assert_no_canary(other, operator)

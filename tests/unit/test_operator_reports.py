"""The endpoint over real HTTP: who may report, what is taken for a report, and what nobody gets by flooding it."""

import asyncio
import io
import json
import os
import ssl
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, Counter

from crewrun_api import names
from crewrun_api.reasons import Reason
from crewrun_api.report import REPORT_LIMIT_BYTES, STORED_LIMIT_BYTES, Action, Answer, Report, Upload
from crewrun_operator import reports
from crewrun_operator.reports import application, authorities, keep_certificate, serve, tls
from crewrun_operator.tokens import Bound, Unauthenticated, Undecided
from crewrun_operator.views import Identity
from tests.unit.fake_clock import run_at_once

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GO_ON, STOP = Answer(action=Action.CONTINUE), Answer(action=Action.STOP, reason=Reason.CANCELLED, message="Told to.")
EXECUTION = Identity("team-a", "report-0f3ab-1-x7k2p", "pod-uid", 7, "report", "run-uid", 1)
PATH = names.report_path("team-a", "report", 1)
#: Pods by token; a token that is no key here is a bad one.
TOKENS = {"good": ("team-a", "pod-uid"), "other": ("team-b", "other-uid"), "unseen": ("team-a", "unseen-uid")}
TOKENS["elsewhere"] = ("team-b", "pod-uid")
POD = "pod-uid"


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rest of bodies that nobody reads are waited for at the end of a connection; not in tests."""
    monkeypatch.setattr(reports, "_LINGER_SECONDS", 0.02)


class Checker:
    """Tokens without cryptography: a name for each Pod."""

    def __init__(self) -> None:
        self.checked = 0
        self.remembered: set[str] = set()
        self.down = False

    def known(self, token: str) -> Bound | None:
        return self._bound(token) if token in self.remembered else None

    async def check(self, token: str) -> Bound:
        self.checked += 1
        if self.down:
            raise Undecided("the API server did not check the token (500)")
        if token not in TOKENS:
            raise Unauthenticated("the token is no JWT")
        self.remembered.add(token)
        return self._bound(token)

    @staticmethod
    def _bound(token: str) -> Bound:
        namespace, uid = TOKENS[token]
        return Bound(namespace, "pod", uid, NOW)


class Inbox:
    def __init__(self) -> None:
        self.executions = {"pod-uid": EXECUTION, "other-uid": Identity("team-b", "p", "other-uid", 7, "r", "u", 1)}
        self.taken: list[tuple[tuple[str, str], Report, datetime]] = []
        self.answer: Callable[[], Awaitable[tuple[int, Answer]]] = self.go_on

    def known(self, pod_uid: str) -> Identity | None:
        return self.executions.get(pod_uid)

    async def take(self, key: tuple[str, str], report: Report, received: datetime) -> tuple[int, Answer]:
        self.taken.append((key, report, received))
        return await self.answer()

    @staticmethod
    async def go_on() -> tuple[int, Answer]:
        return 200, GO_ON


class Endpoint:
    """The application behind a real socket, its fakes, and a client."""

    def __init__(self) -> None:
        self.checker, self.inbox, self.seconds = Checker(), Inbox(), 0.0
        self.counter = Counter("crewrun_reports", "Reports.", ["code"], registry=CollectorRegistry())
        self.address = ("", 0)

    def run(self, work: Callable[["Endpoint"], Coroutine[Any, Any, Any]]) -> Any:
        async def inside() -> Any:
            app = application(self.checker, self.inbox, self.counter, now=lambda: NOW, tick=lambda: self.seconds)
            runner = await serve(app, "127.0.0.1", 0, None)
            self.address = runner.addresses[0][:2]
            try:
                return await work(self)
            finally:
                await runner.cleanup()

        return asyncio.run(inside())

    async def post(
        self, body: Any, token: str | None = "good", path: str = PATH, **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, headers, and the answer's JSON."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        sent = {**({"Authorization": f"Bearer {token}"} if token is not None else {}), **headers}
        url = f"http://{self.address[0]}:{self.address[1]}{path}"
        async with aiohttp.ClientSession() as client, client.post(url, data=data, headers=sent) as response:
            text = await response.text()
            return response.status, response.headers, json.loads(text) if text.startswith("{") else text

    async def raw(self, *lines: str, token: str = "good", body: bytes = b"", end: bool = False) -> bytes:
        """What comes back for these very bytes, up to the end of the head."""
        reader, writer = await asyncio.open_connection(*self.address)
        head = [f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        if end:
            writer.write_eof()
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        finally:
            writer.close()

    @property
    def counts(self) -> dict[str, float]:
        (family,) = self.counter.collect()
        return {each.labels["code"]: each.value for each in family.samples if each.name.endswith("_total")}


def report(**changed: Any) -> dict[str, Any]:
    """A report as the runner sends it."""
    return {"version": 1, "snapshot": {"runUID": "run-uid", "attempt": 1, "podUID": POD, "sequence": 3}, **changed}


def snapshot(**changed: Any) -> dict[str, Any]:
    return {**report()["snapshot"], **changed}


def ended(**changed: Any) -> dict[str, Any]:
    its = {name: value for name, value in snapshot().items() if name != "sequence"}
    end = {"outcome": "Succeeded", "reason": "Completed", "exitCode": 0, "startTime": "t", "completionTime": "t"}
    return {**its, **end, **changed}


def upload(data: bytes, digest: str | None = None) -> dict[str, Any]:
    return {"data": b64encode(data).decode(), "sha256": digest or sha256(data).hexdigest()}


def file(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(data), "upload": upload(data)}


def of(tasks: int) -> dict[str, Any]:
    """A report with so many tasks that are none."""
    return report(snapshot=snapshot(tasks=[{}] * tasks))


def test_a_report_is_handed_over_with_the_time_and_the_answer_goes_back() -> None:
    endpoint = Endpoint()
    status, headers, answer = endpoint.run(lambda its: its.post(report()))
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert answer == {"action": "Continue", "message": "", "intervalSeconds": 2.0}
    ((key, taken, received),) = endpoint.inbox.taken
    assert (key, taken, received) == (("team-a", "report"), Report.model_validate(report()), NOW)
    assert endpoint.counts == {"200": 1}


def test_the_end_comes_with_checkpoint_output_and_files_each_as_large_as_a_config_map() -> None:
    whole = b"x" * STORED_LIMIT_BYTES
    body = report(checkpoint=upload(whole), outcome=ended(), files=[file("a.md", whole)])
    endpoint = Endpoint()
    assert endpoint.run(lambda its: its.post(body))[0] == 200
    assert endpoint.inbox.taken[0][1].checkpoint == Upload.of(whole)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no token": ({"token": None}, 401, "Authorization"),
    "an empty token": ({"token": ""}, 401, "Authorization"),
    "a password": ({"token": None, "Authorization": "Basic Z29vZA=="}, 401, "Bearer"),
    "a bad token": ({"token": "bad"}, 401, "no JWT"),
    "a Pod that the operator has not seen": ({"token": "unseen"}, 503, "not seen"),
    "the token of another run's Pod": ({"token": "other"}, 403, "report to the URL of your own"),
    "a token of another namespace": ({"token": "elsewhere"}, 403, "namespace"),
    "another namespace": ({"path": names.report_path("team-b", "report", 1)}, 403, "report to the URL of your own"),
    "another run": ({"path": names.report_path("team-a", "other", 1)}, 403, "report to the URL of your own"),
    "another attempt": ({"path": names.report_path("team-a", "report", 2)}, 403, "report to the URL of your own"),
    "an attempt that is no number": ({"path": names.report_path("team-a", "report", "one")}, 404, "POST to /v1"),
    "a huge attempt": ({"path": names.report_path("team-a", "report", "9" * 5000)}, 404, "POST to /v1"),
    "another path": ({"path": "/v1/runs"}, 404, "POST to /v1"),
    "a snapshot of another run": ({"body": report(snapshot=snapshot(runUID="u"))}, 403, "snapshot is that"),
    "a snapshot of another attempt": ({"body": report(snapshot=snapshot(attempt=2))}, 403, "snapshot is that"),
    "a snapshot of another Pod": ({"body": report(snapshot=snapshot(podUID="other-uid"))}, 403, "snapshot is that"),
    "an outcome of another run": ({"body": report(outcome=ended(runUID="u"))}, 403, "outcome is that"),
    "an outcome of another Pod": ({"body": report(outcome=ended(podUID="other-uid"))}, 403, "outcome is that"),
    "no body": ({"body": b""}, 400, "not JSON"),
    "text": ({"body": b"hello"}, 400, "not JSON"),
    "half a report": ({"body": json.dumps(report())[:-5].encode()}, 400, "not JSON"),
    "bytes that are no text": ({"body": b'{"version": "\xff"}'}, 400, "not JSON"),
    "half a surrogate": ({"body": rb'{"version": "\ud800"}'}, 400, "not JSON"),
    "100,000 lists in each other": ({"body": b"[" * 100_000}, 400, "not JSON"),
    "deep JSON": ({"body": b'{"snapshot":' * 900 + b"1" + b"}" * 900}, 422, "snapshot"),
    "a number of 5,000 digits": ({"body": b'{"version": ' + b"9" * 5000 + b"}"}, 400, "not JSON"),
    "a number that is infinite": ({"body": b'{"version": Infinity}'}, 400, "not JSON"),
    "a list": ({"body": b"[]"}, 422, "the body: Input should be"),
    "a field of the wrong type": ({"body": report(snapshot=snapshot(sequence="x"))}, 422, "snapshot.sequence: "),
    "a count beyond its bounds": ({"body": report(snapshot=snapshot(tasksTotal=10**16))}, 422, "snapshot.tasksTotal: "),
    "two million values": ({"body": of(100_000)}, 422, "more than 50000 values"),
    "a checkpoint without its digest": ({"body": report(checkpoint=upload(b"x", "0" * 64))}, 422, "checkpoint: "),
    "a checkpoint that is no base64": ({"body": report(checkpoint={"data": "%", "sha256": ""})}, 422, "checkpoint: "),
    "a file without its digest": (
        {"body": report(files=[file("a", b"x"), {**file("b", b"y"), "upload": upload(b"y", "0")}])},
        422,
        "files.1: ",
    ),
    "a checkpoint that no ConfigMap holds": (
        {"body": report(checkpoint=upload(b"x" * (STORED_LIMIT_BYTES + 1)))},
        413,
        "checkpoint has",
    ),
    "a file that no ConfigMap holds": (
        {"body": report(files=[file("a", b"x" * (STORED_LIMIT_BYTES + 1))])},
        413,
        "files.0 has",
    ),
    "five mebibytes": ({"body": b" " * (5 * 1024 * 1024)}, 413, "at most 4194304 bytes"),
    "a body to inflate": (
        {"body": zlib.compress(json.dumps(report()).encode()), "Content-Encoding": "deflate"},
        400,
        "not JSON",
    ),
}


@pytest.mark.parametrize(("given", "want_status", "want"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_to_do(given: dict[str, Any], want_status: int, want: str) -> None:
    endpoint = Endpoint()
    status, headers, answer = endpoint.run(lambda its: its.post(**{"body": report(), **given}))
    assert (status, list(answer)) == (want_status, ["error"])
    assert want in answer["error"] and "\n" not in answer["error"] and len(answer["error"]) <= 500
    assert ("WWW-Authenticate" in headers, headers.get("Retry-After")) == (
        status == 401,
        "1" if status == 503 else None,
    )
    assert endpoint.inbox.taken == []
    assert endpoint.counts == {str(want_status): 1}


@pytest.mark.parametrize("body", [report(added=1), report(snapshot=snapshot(added=1))], ids=["report", "snapshot"])
def test_what_a_newer_runner_has_added_is_not_refused(body: dict[str, Any]) -> None:
    assert Endpoint().run(lambda its: its.post(body))[0] == 200


def test_a_body_that_has_no_length_is_read_up_to_the_limit() -> None:
    async def endless() -> Any:
        for _ in range(6):
            yield b" " * (1024 * 1024)

    endpoint = Endpoint()
    assert endpoint.run(lambda its: its.post(endless()))[0] == 413


def test_a_body_of_the_very_limit_is_taken() -> None:
    text = json.dumps(report()).encode()
    endpoint = Endpoint()
    assert endpoint.run(lambda its: its.post(text + b" " * (REPORT_LIMIT_BYTES - len(text))))[0] == 200


@pytest.mark.parametrize(("token", "want"), [("bad", b"401"), ("unseen", b"503"), ("other", b"403"), ("good", b"413")])
def test_a_body_of_a_stranger_or_that_is_too_large_is_not_waited_for(token: str, want: bytes) -> None:
    endpoint = Endpoint()
    head = endpoint.run(lambda its: its.raw("Content-Length: 99999999", token=token))
    assert head.split()[1] == want


@pytest.mark.parametrize("status", [200, 409, 404, 503])
def test_what_the_inbox_says_goes_back(status: int) -> None:
    endpoint = Endpoint()

    async def stop() -> tuple[int, Answer]:
        return status, STOP

    endpoint.inbox.answer = stop
    got, headers, answer = endpoint.run(lambda its: its.post(report()))
    assert (got, answer["action"], answer["reason"], answer["message"]) == (status, "Stop", "Cancelled", "Told to.")
    assert headers.get("Retry-After") == ("1" if status == 503 else None)


def test_an_error_of_the_inbox_is_logged_once_and_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = Endpoint()

    async def fail() -> tuple[int, Answer]:
        raise RuntimeError("a secret of the operator's")

    endpoint.inbox.answer = fail
    assert endpoint.run(lambda its: its.post(report()))[::2] == (500, "internal error; send the report again\n")
    assert capsys.readouterr().out.count("could not be answered") == 1


def test_a_report_that_is_never_stored_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_REQUEST_SECONDS", 0.05)
    endpoint = Endpoint()

    async def never() -> tuple[int, Answer]:
        await asyncio.Event().wait()
        raise AssertionError

    endpoint.inbox.answer = never
    status, headers, answer = endpoint.run(lambda its: its.post(report()))
    assert (status, headers["Retry-After"], "not stored in time" in answer["error"]) == (503, "1", True)


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_BODY_SECONDS", 0.05)
    endpoint = Endpoint()
    assert b" 408 " in endpoint.run(lambda its: its.raw("Content-Length: 100", body=b"{"))


def test_a_body_that_breaks_off_is_no_error_of_the_operator(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint()

    async def break_off(its: Endpoint) -> None:
        await its.raw("Content-Length: 100", body=b"{", end=True)
        await its.raw("Transfer-Encoding: chunked", body=b"zz\r\n{\r\n")
        await its.raw("no header")
        _, writer = await asyncio.open_connection(*its.address)
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        await writer.drain()
        writer.transport.abort()
        await its.post(report())

    endpoint.run(break_off)
    assert "500" not in endpoint.counts and capsys.readouterr().out == "" and not caplog.records
    assert len(endpoint.inbox.taken) == 1


def test_a_pod_may_report_twenty_times_a_second_and_sixty_at_once() -> None:
    endpoint = Endpoint()

    async def flood(its: Endpoint) -> list[int]:
        first = [(await its.post(report()))[0] for _ in range(61)]
        its.seconds = 1.0
        then = [(await its.post(report()))[0] for _ in range(21)]
        other = await its.post(report(), token="other")
        return [first.count(200), then.count(200), then.count(429), other[0]]

    assert endpoint.run(flood) == [60, 20, 1, 403], "one Pod's flood is not another's"
    assert endpoint.checker.checked == 2


def test_what_is_no_report_counts_as_a_seconds_worth() -> None:
    endpoint = Endpoint()

    async def flood(its: Endpoint) -> tuple[list[int], int]:
        bad = [(await its.post(b"{}"))[0] for _ in range(5)]
        its.seconds = 1.0
        return bad, (await its.post(report()))[0]

    assert endpoint.run(flood) == ([422, 422, 422, 429, 429], 200)


def test_bad_tokens_from_one_address_are_checked_fifty_times_a_second_and_good_ones_pass() -> None:
    endpoint = Endpoint()

    async def flood(its: Endpoint) -> tuple[int, int, tuple[int, Any, Any], int]:
        await its.post(report())
        bad = [(await its.post(report(), token=f"bad-{n}"))[0] for n in range(60)]
        return bad.count(401), bad.count(429), await its.post(report(), token="bad"), (await its.post(report()))[0]

    refused, limited, last, good = endpoint.run(flood)
    assert (refused, limited, endpoint.checker.checked) == (50, 10, 51)
    assert (last[0], last[1]["Retry-After"], good) == (429, "1", 200)


def test_a_token_that_cannot_be_checked_now_is_to_be_sent_again() -> None:
    endpoint = Endpoint()
    endpoint.checker.down = True
    status, headers, answer = endpoint.run(lambda its: its.post(report()))
    assert (status, headers["Retry-After"], "send the report again" in answer["error"]) == (503, "1", True)


def test_large_bodies_are_worked_a_few_at_a_time() -> None:
    endpoint, busy, most = Endpoint(), 0, 0

    async def slow() -> tuple[int, Answer]:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        await asyncio.sleep(0.02)
        busy -= 1
        return 200, GO_ON

    endpoint.inbox.answer = slow
    body = report(checkpoint=upload(b"x" * 300_000))
    answers = endpoint.run(lambda its: _gather(its.post(body) for _ in range(20)))
    assert ({status for status, *_ in answers}, most) == ({200}, 8)


async def _gather(work: Any) -> list[Any]:
    return await asyncio.gather(*work)


def certificate(folder: Path, name: str) -> None:
    """A certificate of its own for localhost, written as kubelet leaves it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file_name, data in (
        ("tls.crt", made.public_bytes(pem)),
        ("ca.crt", made.public_bytes(pem)),
        ("tls.key", private),
    ):
        (folder / file_name).write_bytes(data)


async def shown(port: int, folder: Path) -> tuple[str, str]:
    """The TLS version and the name in the certificate that a runner gets, who trusts `ca.crt`."""
    trust = ssl.create_default_context(cadata=authorities(folder))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
    peer = writer.get_extra_info("ssl_object")
    (((_, name),),) = peer.getpeercert()["subject"]
    writer.close()
    return peer.version(), name


def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(tmp_path: Path) -> None:
    certificate(tmp_path, "first")
    endpoint = Endpoint()

    async def renew() -> list[tuple[str, str]]:
        context = tls(tmp_path)
        app = application(endpoint.checker, endpoint.inbox, endpoint.counter)
        runner = await serve(app, "127.0.0.1", 0, context)
        port = runner.addresses[0][1]
        keeping = asyncio.create_task(keep_certificate(context, tmp_path, seconds=0.01))
        seen = [await shown(port, tmp_path)]
        trusted = (tmp_path / "ca.crt").read_text()
        certificate(tmp_path, "other")
        (tmp_path / "tls.key").write_text("half a key")
        (tmp_path / "ca.crt").write_text(trusted)
        await asyncio.sleep(0.1)
        seen.append(await shown(port, tmp_path))
        certificate(tmp_path, "second")
        await asyncio.sleep(0.1)
        seen.append(await shown(port, tmp_path))
        keeping.cancel()
        await runner.cleanup()
        return seen

    assert asyncio.run(renew()) == [("TLSv1.3", "first"), ("TLSv1.3", "first"), ("TLSv1.3", "second")]


def test_an_unchanged_certificate_is_not_loaded_again(tmp_path: Path) -> None:
    certificate(tmp_path, "first")

    class Context:
        def load_cert_chain(self, *_: object) -> None:
            raise AssertionError("loaded")

    async def wait() -> None:
        keeping = asyncio.create_task(keep_certificate(Context(), tmp_path))
        await asyncio.sleep(300)
        assert not keeping.done()
        os.utime(tmp_path / "tls.crt", ns=(1, 1))
        await asyncio.sleep(31)
        assert isinstance(keeping.exception(), AssertionError), "and this is how it shows"

    run_at_once(wait())


@pytest.mark.parametrize("text", ["", "-----BEGIN NOTHING-----\n"])
def test_authorities_that_are_none_are_an_error_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "ca.crt").write_text(text)
    with pytest.raises((ValueError, OSError)):
        authorities(tmp_path)

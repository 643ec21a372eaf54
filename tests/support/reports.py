"""An operator that only takes reports: it keeps what came, and answers as a test wants."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crewrun_api import names
from crewrun_api.report import Report

#: A status and a document (or text) for one report.
Said = tuple[int, Any]
CONTINUE: Said = (200, {"action": "Continue", "intervalSeconds": 0.2})


@dataclass(frozen=True)
class Taken:
    """A request that came."""

    moment: float
    path: str
    authorization: str
    body: bytes

    @property
    def report(self) -> Report:
        return Report.model_validate_json(self.body)


class ReportServer:
    """`with ReportServer(answer) as operator:` listens on loopback. `answer` is asked for each report."""

    def __init__(
        self, answer: Callable[[Report], Said] = lambda _: CONTINUE, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.answer = answer
        self.taken: list[Taken] = []
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taken = Taken(time.monotonic(), self.path, self.headers.get("authorization", ""), body)
                outer.taken.append(taken)
                status, said = outer.answer(taken.report)
                data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**outer.headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 50

            def handle_error(self, *_: object) -> None: ...  # a runner that is killed, or refuses our certificate

        self._server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        self._scheme = "https" if tls else "http"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}" + names.report_path("team-a", "research-x7k2p", 2)

    @property
    def reports(self) -> list[Report]:
        return [taken.report for taken in list(self.taken)]

    def __enter__(self) -> "ReportServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections; an operator can be started there later."""
    with ReportServer() as server:
        port = server.port
    yield port


@dataclass(frozen=True)
class Authority:
    """A certificate authority with one server certificate for 127.0.0.1."""

    pem: bytes
    context: ssl.SSLContext


def authority(folder: Path, name: str) -> Authority:
    """Made anew; its files go into `folder`."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")])
    root = _certificate(ca, ca, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0), ca_key)
    host = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = _certificate(server, ca, key.public_key(), host, ca_key)
    pem = root.public_bytes(serialization.Encoding.PEM)
    chain = folder / f"{name}.pem"
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return Authority(pem, context)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    extension: x509.ExtensionType,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .sign(signer, hashes.SHA256())
    )

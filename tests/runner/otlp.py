"""An endpoint that takes spans as OTLP over HTTP, in this process.

The packages that read them are in the runner's environment and not in this one, so its Python decodes the bodies.
"""

import base64
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_DECODE = """
import base64, json, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
print(json.dumps([MessageToDict(ExportTraceServiceRequest.FromString(base64.b64decode(line))) for line in sys.stdin]))
"""


class Span:
    """One span as it came, with its ids in hex."""

    def __init__(self, document: dict[str, Any], resource: dict[str, Any]) -> None:
        self.name = str(document["name"])
        self.trace, self.id = (_hex(document[key]) for key in ("traceId", "spanId"))
        self.parent = _hex(document.get("parentSpanId", ""))
        self.kind = str(document["kind"]).removeprefix("SPAN_KIND_")
        self.failed = document.get("status", {}).get("code") == "STATUS_CODE_ERROR"
        self.start, self.end = (int(document[f"{key}TimeUnixNano"]) for key in ("start", "end"))
        self.attributes = _values(document)
        self.resource = resource


class Receiver:
    """Takes spans; `hold()` makes it answer only after `release()`."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.asked = threading.Event()
        self._free = threading.Event()
        self._free.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(body)
                receiver.headers.append(dict(self.headers))
                receiver.asked.set()
                receiver._free.wait(60)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    @property
    def spans(self) -> list[Span]:
        """All that have come."""
        lines = b"".join(base64.b64encode(body) + b"\n" for body in self.bodies)
        done = subprocess.run([self._python, "-c", _DECODE], input=lines, capture_output=True, check=True, timeout=60)
        return [
            Span(span, _values(part["resource"]))
            for request in json.loads(done.stdout)
            for part in request["resourceSpans"]
            for scope in part["scopeSpans"]
            for span in scope["spans"]
        ]


def tree(spans: list[Span]) -> dict[str, str]:
    """Each span's name with its parent's; the name alone must tell spans apart."""
    names = {span.id: span.name for span in spans}
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: names.get(span.parent, span.parent) for span in spans}


def _hex(text: str) -> str:
    return base64.b64decode(text).hex()


def _values(document: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: _value(each["value"]) for each in document.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(each) for each in inner["values"]]
    return int(inner) if kind == "intValue" else inner

"""A server of the Model Context Protocol over HTTP with one tool, and a record of what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOOL = {
    "name": "population",
    "description": "How many people live in a town.",
    "inputSchema": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}


class McpServer:
    """`with McpServer() as server:` answers at `server.url`."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                result = server.answer(message)
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) if result else ""
                self.send_response(200 if result else 202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:
                self.send_error(405)

            def log_message(self, *_: object) -> None:
                """Nothing: the tests look at `calls`."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/mcp"

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        match message["method"]:
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "towns", "version": "1"}
                return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                return {"tools": [TOOL]}
            case "tools/call":
                self.calls.append(message["params"])
                return {"content": [{"type": "text", "text": "48 people"}], "isError": False}
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

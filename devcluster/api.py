"""The few requests that devcluster itself makes to an API server, from a kubeconfig of ours."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.errors import DevClusterError


class Api:
    """A client of one API server, with the client certificate of a kubeconfig that embeds all."""

    def __init__(self, kubeconfig: Mapping[str, Any]) -> None:
        cluster = kubeconfig["clusters"][0]["cluster"]
        user = kubeconfig["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        self._host, self._port = str(url.hostname), url.port or 443
        self._context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as pem:  # ssl takes the client's key from a file only
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self._context.load_cert_chain(pem.name)

    @classmethod
    def from_file(cls, path: Path) -> Api:
        return cls(yaml.safe_load(path.read_text()))

    def request(self, method: str, path: str, body: Any = None, *, timeout: float = 10.0) -> tuple[int, bytes]:
        """Status code and body; raises OSError when nobody answers."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        # An apply patch has to be called YAML; JSON is YAML too.
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        try:
            connection.request(
                method,
                path,
                json.dumps(body) if body is not None else None,
                {"Content-Type": kind, "Accept": "*/*"},
            )
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {error!r}") from error
        finally:
            connection.close()

    def ok(self, path: str) -> bool:
        """Whether a GET of the path answers 200: the shape of every readiness check."""
        try:
            return self.request("GET", path, timeout=2.0)[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """The object at the path, or None while there is none or nobody answers."""
        try:
            status, answer = self.request("GET", path)
        except OSError:
            return None
        return json.loads(answer) if status == 200 else None

    def apply(self, path: str, document: Mapping[str, Any]) -> None:
        """Server-side apply: creates or updates, as often as one likes."""
        query = urllib.parse.urlencode({"fieldManager": "devcluster", "force": "true"})
        status, answer = self.request("PATCH", f"{path}?{query}", document)
        if status >= 300:
            raise DevClusterError(
                f"the API server refused {document.get('kind')} at {path} ({status}): "
                f"{answer.decode(errors='replace')[:500]}"
            )

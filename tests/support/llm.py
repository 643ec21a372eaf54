"""The scripted LLM that runs in the cluster: its script is set and its ledger read through the API server."""

import hashlib
import json
from typing import Any

from tests.support.kube import Kube

Document = dict[str, Any]


class RemoteLLM:
    """The scripted LLM of one namespace."""

    def __init__(self, kube: Kube) -> None:
        self._api = kube.custom.api_client
        self._path = f"/api/v1/namespaces/{kube.namespace}/services/scripted-llm:http/proxy"
        self.base_url = f"http://scripted-llm.{kube.namespace}.svc:8080/v1"

    def play(self, *rules: Document) -> None:
        """Answer by these rules from now on, with an empty ledger."""
        self._request("PUT", "/script", {"rules": list(rules)})
        self._request("DELETE", "/ledger")

    def calls(self, key: str) -> list[Document]:
        """The chat completions that came with this key."""
        wanted = hashlib.sha256(key.encode()).hexdigest()
        entries = json.loads(self._request("GET", "/ledger"))["entries"]
        return [entry for entry in entries if entry["authorizationSha256"] == wanted]

    def _request(self, method: str, path: str, body: Document | None = None) -> bytes:
        response = self._api.rest_client.request(
            method,
            self._api.configuration.host + self._path + path,
            headers={"Content-Type": "application/json"},
            body=body,
        )
        data: bytes = response.read()
        assert response.status < 300, f"{method} {path}: {response.status} {data!r}"
        return data

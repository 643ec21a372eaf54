"""The one door to the API server: plain documents in and out, every request counted.

Built on `kubernetes.aio` for configuration and authentication. Its typed models are left aside, since they
cost more than the requests themselves.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import orjson
from kubernetes.aio import client

from crewrun_operator.metrics import Metrics

Document = dict[str, Any]
_LIST_CHUNK = 500
_MERGE_PATCH = "application/merge-patch+json"
#: The keys that sign tokens are served as application/jwk-set+json alone.
_ACCEPTED = "application/json, */*;q=0.1"
_TIMEOUT_SECONDS = 30


class ApiError(Exception):
    """An answer of the API server that is not a success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message
        super().__init__(f"{code} {reason}: {message}")


class Api:
    """Requests to the API server. Raises ApiError for an answer, the client's own errors for none."""

    def __init__(self, configuration: client.Configuration, metrics: Metrics) -> None:
        configuration.connection_pool_maxsize = 64
        self._client = client.ApiClient(configuration)
        self._configuration = configuration
        self._metrics = metrics

    async def close(self) -> None:
        await self._client.close()

    async def get(self, path: str) -> Document:
        return await self._request("GET", path)

    async def find(self, path: str) -> Document | None:
        """The same; None when there is no such object."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def create(self, path: str, body: Document) -> Document:
        return await self._request("POST", path, body)

    async def replace(self, path: str, body: Document) -> Document:
        return await self._request("PUT", path, body)

    async def merge_patch(self, path: str, body: Document) -> Document:
        return await self._request("PATCH", path, body, content_type=_MERGE_PATCH)

    async def delete(self, path: str, uid: str | None = None) -> None:
        """Delete in the background, dependants included; only the object with this UID if one is given."""
        body: Document = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._request("DELETE", path, body)

    async def pages(self, path: str, **query: str) -> AsyncIterator[Document]:
        """The chunks of a list, each a whole List document."""
        token = ""
        while True:
            page = await self._request("GET", path, query={**query, "limit": str(_LIST_CHUNK), "continue": token})
            yield page
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def _request(
        self,
        verb: str,
        path: str,
        body: Document | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": _ACCEPTED, "Content-Type": content_type, "User-Agent": "crewrun-operator"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        response = await self._client.rest_client.request(
            verb, url, headers=headers, body=body, _request_timeout=_TIMEOUT_SECONDS
        )
        data = await response.read()
        self._metrics.requests.labels(verb, resource_of(path), str(response.status)).inc()
        if response.status >= 400:
            raise _error(response.status, data)
        return _decoded(data)


def _decoded(data: bytes) -> Document:
    try:
        document: Document = orjson.loads(data)
    except orjson.JSONDecodeError:  # nested more deeply than orjson goes: somebody's object, or a list with one
        document = json.loads(data)
    return document


def resource_of(path: str) -> str:
    """The resource that a path speaks of, with its subresource: a bounded label."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts and parts[0] == "namespaces":
        parts = parts[2:]
    resource, subresource = (parts[:1] or ["other"])[0], parts[2:3]
    return "/".join([resource, *subresource])


def _error(code: int, data: bytes) -> ApiError:
    try:
        status = json.loads(data)
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(code, "", data[:500].decode(errors="replace"))

"""The API server in memory: what matters of it to a controller, behind the methods of `Api`.

Versions and conflicts, names that are taken, the status apart from the spec, preconditions, garbage
collection; and faults: the n-th write may be lost on its way there or on its way back.
"""

import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

from crewrun_operator.api import ApiError, events_of

Document = dict[str, Any]


class Lost(Exception):
    """No answer came; only the API server knows whether it did what it was asked."""


class FakeApi:
    def __init__(self, *, chunk: int = 2) -> None:
        self.objects: dict[str, Document] = {}
        self.writes: list[str] = []  # verb and path, in order, lost ones included
        self.reads: list[str] = []
        self.faults: dict[int, tuple[bool, Exception]] = {}  # of the n-th write: whether it is done, what is raised
        self.refuse: dict[str, ApiError] = {}  # by collection
        self._chunk, self._ticks = chunk, itertools.count(1)
        self._version = 1000

    def lose_request(self, write: int, error: Exception | None = None) -> None:
        self.faults[write] = (False, error or Lost("the request was lost"))

    def lose_answer(self, write: int, error: Exception | None = None) -> None:
        self.faults[write] = (True, error or Lost("the answer was lost"))

    def put(self, path: str, document: Document) -> Document:
        """Put an object there as somebody else did."""
        self._version += 1
        stored = copy.deepcopy(document)
        stored["metadata"]["resourceVersion"] = str(self._version)
        stored["metadata"].setdefault("uid", f"uid-{next(self._ticks)}")
        self.objects[path] = stored
        return copy.deepcopy(stored)

    async def get(self, path: str) -> Document:
        self.reads.append(path)
        return copy.deepcopy(self._found(path))

    async def find(self, path: str) -> Document | None:
        self.reads.append(path)
        return copy.deepcopy(self.objects.get(path))

    async def pages(self, path: str, **query: str) -> AsyncIterator[Document]:
        self.reads.append(path)
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        head, _, plural = path.rpartition("/")
        items = [
            copy.deepcopy(document)
            for its, document in self.objects.items()
            if its.startswith(f"{head}/")
            and its.split("/")[-2] == plural
            and wanted.items() <= (document["metadata"].get("labels") or {}).items()
        ]
        version = str(self._version)
        for start in range(0, max(len(items), 1), self._chunk):
            yield {"metadata": {"resourceVersion": version}, "items": items[start : start + self._chunk]}

    async def everything(self, path: str, **query: str) -> AsyncIterator[list[Document]]:
        async for events in events_of(self.pages(path, **query)):
            yield events

    async def create(self, path: str, body: Document) -> Document:
        def work() -> Document:
            if error := self.refuse.get(path):
                raise error
            its = f"{path}/{body['metadata']['name']}"
            if its in self.objects:
                raise ApiError(409, "AlreadyExists", f"{its} already exists")
            return self.put(its, body)

        return self._write("POST", path, work)

    async def replace(self, path: str, body: Document) -> Document:
        def work() -> Document:
            self._found(path)
            return self.put(path, body)

        return self._write("PUT", path, work)

    async def merge_patch(self, path: str, body: Document) -> Document:
        def work() -> Document:
            its = path.removesuffix("/status")
            old = self._found(its)
            version = body.get("metadata", {}).get("resourceVersion")
            if version not in (None, old["metadata"]["resourceVersion"]):
                raise ApiError(409, "Conflict", "the object has been modified")
            part = "status" if path.endswith("/status") else "spec"
            new = {**old, part: merged(old.get(part), body.get(part, {}))}
            return copy.deepcopy(old) if new == old else self.put(its, new)

        return self._write("PATCH", path, work)

    async def delete(self, path: str, uid: str | None = None) -> None:
        def work() -> Document:
            old = self._found(path)
            if uid not in (None, old["metadata"]["uid"]):
                raise ApiError(409, "Conflict", "the UID in the precondition is another")
            self.vanish(path)
            return old

        self._write("DELETE", path, work)

    def vanish(self, path: str) -> None:
        """Delete an object and, as the garbage collector does, what it owns."""
        uid = self.objects.pop(path)["metadata"]["uid"]
        for its, each in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", [])):
                self.vanish(its)

    def _found(self, path: str) -> Document:
        if path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} not found")
        return self.objects[path]

    def _write(self, verb: str, path: str, work: Any) -> Document:
        self.writes.append(f"{verb} {path}")
        done, error = self.faults.pop(len(self.writes), (True, None))
        document: Document = work() if done else {}
        if error is not None:
            raise error
        return document


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result

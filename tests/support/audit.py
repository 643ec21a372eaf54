"""An audit log of the API server read as rights: what a service account asked, and by which role it was allowed to.

Pure: lines and documents in, sets of rights out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Document = dict[str, Any]
_ROLE = re.compile(r" of (?:Cluster)?Role \"([^\"]+)\"")


class Right(NamedTuple):
    """One verb on one kind of resource, as a rule of a role grants it."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


class Request(NamedTuple):
    """What was asked, and the role that allowed it; no role where it was refused."""

    right: Right
    role: str
    namespace: str


def requests(lines: Iterable[str], account: str, since: str = "") -> Iterator[Request]:
    """What a service account (`namespace:name`) asked of resources, from a moment (RFC 3339, UTC) on."""
    user = f"system:serviceaccount:{account}"
    for line in lines:
        event = json.loads(line)
        target = event.get("objectRef")
        if target is None or event["user"]["username"] != user or event["requestReceivedTimestamp"] < since:
            continue
        notes = event.get("annotations", {})
        found = _ROLE.search(notes.get("authorization.k8s.io/reason", ""))
        allowed = notes.get("authorization.k8s.io/decision") == "allow"
        resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
        right = Right(target.get("apiGroup", ""), resource, event["verb"])
        yield Request(right, found[1] if found and allowed else "", target.get("namespace", ""))


def granted(role: Document) -> set[Right]:
    """What a Role or ClusterRole grants."""
    return {
        Right(group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def log_lines(log: Path) -> Iterator[str]:
    """The lines of a log and of its older parts beside it. A last line that is still being written is left out."""
    for part in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")):
        with part.open() as lines:
            yield from (line for line in lines if line.endswith("\n"))

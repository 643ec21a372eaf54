"""What an API server's audit log says of a round. Pure: lines in, figures out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class Seen:
    """What a subject asked for, and how long after a run its Job was there, in milliseconds."""

    writes: int = 0
    reads: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)


def seen(lines: Iterable[str], agent: str, namespace: str | None = None) -> Seen:
    """The requests of a user agent that speak of this namespace, or of anything, but for watches."""
    found, made = Seen(), dict[str, datetime]()
    for line in lines:
        event = json.loads(line)
        target = event.get("objectRef") or {}
        if not target or namespace not in (None, target.get("namespace")) or event["verb"] == "watch":
            continue
        code = event.get("responseStatus", {}).get("code", 0)
        resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
        if (event["verb"], resource) == ("create", "crewruns") and code == 201:
            made[name_of(event)] = at(event)
        if not event.get("userAgent", "").startswith(agent):
            continue
        kind = f"{event['verb']} {resource}"
        found.by_kind[kind] = found.by_kind.get(kind, 0) + 1
        if event["verb"] in ("get", "list"):
            found.reads += 1
        else:
            found.writes += 1
        run = name_of(event).rsplit("-", 2)[0]  # <run>-<five of its UID>-<attempt>
        if kind == "create jobs" and code == 201 and run in made:
            found.latencies.append((at(event) - made[run]).total_seconds() * 1000)
    return found


def name_of(event: dict[str, Any]) -> str:
    return str(event["objectRef"].get("name", ""))


def at(event: dict[str, Any]) -> datetime:
    """When the answer was ready."""
    return datetime.fromisoformat(event["stageTimestamp"])


def percentile(values: Iterable[float], part: float) -> float:
    """The value that this part of all does not exceed; the largest for 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

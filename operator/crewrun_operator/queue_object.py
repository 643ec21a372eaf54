"""What the operator keeps of a CrewQueue. Purely computational."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from crewrun_api.money import micro_usd
from crewrun_api.queue import QueueSpec, QueueStatus, Window
from crewrun_operator.views import Manifest, trimmed, version


@dataclass(frozen=True, slots=True)
class Cap:
    """What may be spent in a window."""

    window: Window
    micro_usd: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class QueueObject:
    """A CrewQueue, read."""

    manifest: Manifest
    spec: QueueSpec | None  # None: it says what this operator does not know
    problem: str  # what that is
    cap: Cap | None
    status: QueueStatus

    @property
    def key(self) -> tuple[str, str]:
        return self.manifest["metadata"]["namespace"], self.manifest["metadata"]["name"]

    @property
    def version(self) -> int:
        return version(self.manifest)

    @property
    def generation(self) -> int:
        return int(self.manifest["metadata"].get("generation", 0))

    def asks_for_the_same(self, other: "QueueObject") -> bool:
        """Whether nothing but the status, or what nobody reads, is different."""
        return (self.manifest["metadata"]["uid"], self.generation) == (
            other.manifest["metadata"]["uid"],
            other.generation,
        )


def queue_object(manifest: Manifest) -> QueueObject:
    """The queue of a manifest, which may be of a newer release, or edited by anybody."""
    problem = ""
    try:
        spec: QueueSpec | None = QueueSpec.model_validate(manifest["spec"])
    except ValidationError as error:
        first = error.errors()[0]
        spec, problem = None, f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"
    try:
        status = QueueStatus.model_validate(manifest.get("status") or {})
    except ValidationError:
        status = QueueStatus()
    return QueueObject(
        manifest=trimmed(manifest),
        spec=spec,
        problem=problem,
        cap=_cap(spec),
        status=status,
    )


def _cap(spec: QueueSpec | None) -> Cap | None:
    if spec is None or spec.budget is None:
        return None
    budget = spec.budget
    usd = micro_usd(budget.max_cost_usd) if budget.max_cost_usd is not None else None
    return Cap(budget.window, usd, budget.max_tokens)


def choose_queue(named: str | None, queues: Mapping[str, QueueObject]) -> QueueObject | None:
    """The queue that is named, else the namespace's newest default; None when there is neither."""
    if named is not None:
        return queues.get(named)
    defaults = [queue for queue in queues.values() if queue.spec is not None and queue.spec.default]
    return max(defaults, key=lambda queue: (queue.manifest["metadata"]["creationTimestamp"], queue.key), default=None)

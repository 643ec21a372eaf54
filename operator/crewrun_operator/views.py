"""What the operator keeps of Jobs and Pods: the few facts it decides by.

Purely computational: manifests in, frozen views out. Payload annotations, managed fields and all else are
dropped here, so that thousands of runs fit in memory.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import InvalidOperation
from sys import intern
from typing import Any, NamedTuple, TypeVar

from crewrun_api import names
from crewrun_api.quantity import in_bytes, in_cores
from crewrun_operator import tracked
from crewrun_operator.times import parse

Manifest = Mapping[str, Any]
Number = TypeVar("Number", int, float)
_DROPPED = frozenset({"managedFields", "annotations"})
#: The annotations of a custom resource that are read.
_ANNOTATIONS = frozenset({names.ANNOTATION_TRACEPARENT, *tracked.ANNOTATIONS})


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an object stands and which execution it belongs to."""

    namespace: str
    name: str
    uid: str
    version: int
    run: str
    run_uid: str
    attempt: int

    @property
    def of_hook(self) -> bool:
        """Whether it tells a webhook of the run's end, and is no attempt."""
        return self.attempt == names.WEBHOOK_ATTEMPT


@dataclass(frozen=True, slots=True)
class PodRequest:
    """What a runner's Pod requests of the cluster."""

    cores: float = 0.0
    memory: int = 0
    node_selector: str = ""  # its pairs, sorted, as `disk=ssd,zone=a`


@dataclass(frozen=True, slots=True)
class JobView:
    """The Job of one attempt, or of a webhook."""

    id: Identity
    owner_uid: str
    settings: str
    finished: str | None = None  # the reason of its condition Failed or Complete
    message: str = ""
    succeeded: bool = False  # it is finished, and one of its Pods exited 0
    out_of_time: bool = False  # it reached activeDeadlineSeconds; `finished` follows when its Pod has ended
    deleting: bool = False
    suspended: bool = False  # or its controller has not seen yet that it is not any more
    started_at: datetime | None = None  # if it may have been suspended: when its controller let its Pods go
    local_queue: str = ""  # of Kueue, which suspends the Job until it admits it
    request: PodRequest = PodRequest()


@dataclass(frozen=True, slots=True)
class Terminated:
    """How the runner's container ended."""

    exit_code: int
    signal: int
    reason: str
    message: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class PodView:
    """One execution of an attempt, or of a webhook."""

    id: Identity
    phase: str
    reason: str = ""
    message: str = ""
    waiting: tuple[str, str] | None = None  # reason and message of the container that cannot start
    started_at: datetime | None = None
    terminated: Terminated | None = None
    disruption: tuple[str, str] | None = None  # reason and message of the condition DisruptionTarget
    unschedulable: str | None = None
    deleting: bool = False
    lost_since: datetime | None = None  # when its node stopped answering, or should have ended it
    gone: bool = False  # the API server no longer has it; this is its last state

    @property
    def over(self) -> bool:
        return self.gone or self.terminated is not None or self.phase in ("Succeeded", "Failed")

    @property
    def ran(self) -> bool:
        return self.started_at is not None

    def as_gone(self) -> "PodView":
        return replace(self, gone=True)

    def without_record(self) -> "PodView":
        """The view of an execution whose end is told: its record is no longer needed."""
        if self.terminated is None or not self.terminated.message:
            return self
        return replace(self, terminated=replace(self.terminated, message=""))


class Listed(NamedTuple):
    """What a list has shown, and the version that it was made at."""

    items: list[Manifest]
    version: int


@dataclass(frozen=True, slots=True)
class ConfigMapView:
    """The texts of a ConfigMap that a run is made of; none when they are more than any run takes."""

    data: Mapping[str, str]
    size: int


def config_map_view(manifest: Manifest) -> ConfigMapView:
    """The view of a ConfigMap."""
    data: Mapping[str, str] = manifest.get("data") or {}
    size = sum(len(key.encode()) + len(text.encode()) for key, text in data.items())
    return ConfigMapView(data if size <= names.PAYLOAD_LIMIT_BYTES else {}, size)


def identity(manifest: Manifest) -> Identity | None:
    """Whose Job or Pod this is; None when it does not carry CrewRun's labels."""
    metadata = manifest["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    attempt = labels.get(names.LABEL_ATTEMPT, "")
    run = annotations.get(names.ANNOTATION_RUN)
    run_uid = labels.get(names.LABEL_RUN_UID)
    if not (attempt.isdecimal() and run and run_uid):
        return None
    return Identity(
        namespace=intern(metadata["namespace"]),
        name=metadata["name"],
        uid=metadata["uid"],
        version=version(manifest),
        run=intern(run),  # Job, Pod and run share one text
        run_uid=intern(run_uid),
        attempt=int(attempt),
    )


def trimmed(manifest: Manifest) -> dict[str, Any]:
    """A custom resource without what no decision reads."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _DROPPED}
    annotations = manifest["metadata"].get("annotations") or {}
    if kept := {key: value for key, value in annotations.items() if key in _ANNOTATIONS}:
        metadata["annotations"] = kept
    return {**manifest, "metadata": metadata}


def version(manifest: Manifest) -> int:
    """The resourceVersion, which the API promises to be comparable."""
    return int(manifest["metadata"].get("resourceVersion") or 0)


def job_view(manifest: Manifest) -> JobView | None:
    """The view of a Job; None when it is not one of CrewRun's."""
    if (its := identity(manifest)) is None:
        return None
    metadata = manifest["metadata"]
    owners = [o["uid"] for o in metadata.get("ownerReferences") or [] if o.get("controller")]
    status = manifest.get("status") or {}
    conditions, started = status.get("conditions") or [], status.get("startTime")
    failed = _condition(conditions, "Failed")
    end = failed or _condition(conditions, "Complete")
    failing = failed or _condition(conditions, "FailureTarget") or {}
    pod = manifest["spec"]["template"]["spec"]
    suspended = bool(manifest["spec"].get("suspend")) or _condition(conditions, "Suspended") is not None
    local_queue = (metadata.get("labels") or {}).get(names.LABEL_KUEUE_QUEUE, "")
    was_held = local_queue or _condition(conditions, "Suspended", "False")
    return JobView(
        id=its,
        owner_uid=owners[0] if owners else "",
        settings=intern((metadata.get("annotations") or {}).get(names.ANNOTATION_SETTINGS, "")),
        finished=(end.get("reason") or end["type"]) if end else None,
        message=end.get("message", "") if end else "",
        succeeded=failed is None and end is not None,
        out_of_time=failing.get("reason") == "DeadlineExceeded",
        deleting="deletionTimestamp" in metadata,
        suspended=suspended,
        # Of others nobody asks, and what nobody asks wakes nobody.
        started_at=parse(started) if started and was_held and not suspended else None,
        local_queue=local_queue,
        request=pod_request(pod["containers"], pod.get("nodeSelector")),
    )


def pod_request(containers: Iterable[Manifest], node_selector: Mapping[str, str] | None) -> PodRequest:
    """The requests of these containers; without one its limit counts, as in Kubernetes."""
    cores, memory = 0.0, 0
    for container in containers:
        resources = container.get("resources") or {}
        given = [resources.get("limits"), resources.get("requests")]
        asked = {name: amount for part in given if isinstance(part, Mapping) for name, amount in part.items()}
        cores += _amount(in_cores, asked.get("cpu"))
        memory += _amount(in_bytes, asked.get("memory"))
    return PodRequest(cores, memory, ",".join(f"{key}={value}" for key, value in sorted((node_selector or {}).items())))


def _amount(read: Callable[[str], Number], quantity: object) -> Number | int:
    """Nothing for a quantity that cannot be read: the API server says what is wrong with it."""
    try:
        return read(str(quantity)) if quantity is not None else 0
    except InvalidOperation:
        return 0


def pod_view(manifest: Manifest) -> PodView | None:
    """The view of a Pod; None when it is not one of CrewRun's."""
    if (its := identity(manifest)) is None:
        return None
    status = manifest.get("status") or {}
    conditions = status.get("conditions") or []
    containers = status.get("containerStatuses") or []
    runner: Manifest = next((c for c in containers if c.get("name") == names.CONTAINER), {})
    state = runner.get("state") or {}
    ended = state.get("terminated")
    waiting = state.get("waiting")
    started = (ended or state.get("running") or {}).get("startedAt")
    disruption = _condition(conditions, "DisruptionTarget")
    scheduled = _condition(conditions, "PodScheduled", "False")
    return PodView(
        id=its,
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
        started_at=parse(started) if started else None,
        terminated=_terminated(ended) if ended else None,
        disruption=(disruption.get("reason", ""), disruption.get("message", "")) if disruption else None,
        unschedulable=scheduled.get("message", "")
        if scheduled and scheduled.get("reason") == "Unschedulable"
        else None,
        deleting="deletionTimestamp" in manifest["metadata"],
        lost_since=_lost_since(manifest["metadata"], conditions, state),
    )


def _lost_since(metadata: Manifest, conditions: list[Any], state: Manifest) -> datetime | None:
    """Since when kubelet owes an answer: a deletion has its grace period in its time; of a node that is not
    ready the control plane says Ready=False for its Pods, and touches nothing else of their state."""
    if "deletionTimestamp" in metadata:
        return parse(metadata["deletionTimestamp"])
    unready = _condition(conditions, "Ready", "False")
    if unready is None or "running" not in state or not _condition(conditions, "ContainersReady"):
        return None
    since = unready.get("lastTransitionTime")
    return parse(since) if since else None


def _terminated(state: Manifest) -> Terminated:
    finished = state.get("finishedAt")
    return Terminated(
        exit_code=state.get("exitCode", 0),
        signal=state.get("signal", 0),
        reason=state.get("reason", ""),
        message=state.get("message", ""),
        finished_at=parse(finished) if finished else None,
    )


def _condition(conditions: list[Any], type_: str, status: str = "True") -> Manifest | None:
    return next((c for c in conditions if c.get("type") == type_ and c.get("status") == status), None)

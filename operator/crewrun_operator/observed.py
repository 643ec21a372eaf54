"""What a decision is made from and what it may ask for. Data only."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crewrun_api import names
from crewrun_api.policy import UNBOUNDED, Policy
from crewrun_api.reasons import Reason
from crewrun_api.report import Report
from crewrun_api.run import RunStatus, Webhook
from crewrun_api.webhook import Delivery
from crewrun_operator.queue_object import QueueObject
from crewrun_operator.queue_state import Place
from crewrun_operator.views import ConfigMapView, JobView, Manifest, PodView


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server did not take the Job of an attempt."""

    reason: Reason
    message: str
    again: bool  # whether the same Job may be taken later, as with a quota


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest report of one execution."""

    report: Report
    received_at: datetime
    kept: int = 0  # the sequence of its newest checkpoint that is stored
    refused: int = 0  # the sequence of its newest checkpoint that the API server does not take

    @property
    def sequence(self) -> int:
        return self.report.snapshot.sequence

    @property
    def checkpoint_waits(self) -> bool:
        return self.report.checkpoint is not None and self.sequence > max(self.kept, self.refused)


@dataclass(frozen=True, slots=True)
class SeenHook:
    """What is known of the Job of a webhook."""

    job: JobView | None = None
    #: The version that it was looked up live with (0: no Job); None: it was not.
    confirmed: int | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything known of one run, at one time. Jobs and Pods are those of attempts, unless a name says otherwise."""

    run: Manifest
    crew: Manifest | None
    profiles: Mapping[str, Manifest]
    #: Whether all that the run is made of was read live, and crew and profiles are still as they were then.
    sources_confirmed: bool
    #: The ConfigMaps that were read with them, by name (None: there is no such one), and when. They are kept until a
    #: Job carries what they say: no watch tells of a change.
    config_maps: Mapping[str, ConfigMapView | None]
    config_maps_read_at: datetime | None
    jobs: Mapping[int, JobView]
    pods: tuple[PodView, ...]
    #: Attempts that were looked up live, with the version of the Job that was found then (0: no Job).
    confirmed: Mapping[int, int]
    refusals: Mapping[int, Refusal]
    #: By the UID of the Pod.
    reports: Mapping[str, Reported]
    #: Names of ConfigMaps that the API server does not take.
    unkept: AbstractSet[str]
    #: When this process last wrote the status.
    written_at: datetime | None
    #: The weakest layer: what the operator itself was set up with.
    defaults: Mapping[str, Any]
    #: By the name of the Job: a run that is run again has one for each end.
    hooks: Mapping[str, SeenHook] = field(default_factory=dict)
    hook_pods: tuple[PodView, ...] = ()
    #: What runs may ask for.
    policy: Policy = UNBOUNDED
    #: The CrewQueues of the namespace, by name.
    queues: Mapping[str, QueueObject] = field(default_factory=dict)
    #: Where the run stands in its queue, if it wants a place there.
    place: Place | None = None
    #: How many runs of the cluster have an open attempt: they share what showing progress may cost.
    going: int = 1


@dataclass(frozen=True, slots=True)
class Payload:
    """What an attempt runs: two JSON documents, as the runner will read them; and what the operator decides by
    meanwhile, which is not part of what runs."""

    spec: str
    inputs: str
    settings: str

    @property
    def digest(self) -> str:
        return names.payload_digest(self.spec.encode(), self.inputs.encode())

    @property
    def size(self) -> int:
        return len(self.spec.encode()) + len(self.inputs.encode())


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Make the Job of this attempt; without a payload, with that of the Job `like`."""

    number: int
    payload: Payload | None
    like: str | None = None
    #: Go on from a checkpoint that this attempt or a later one wrote; None: from scratch.
    checkpoint_since: int | None = None
    #: Whether its queue has a rate.
    paced: bool = False


@dataclass(frozen=True, slots=True)
class StartHook:
    """Make the Job that tells a webhook; without a payload, in a Pod like those of the Job `like`."""

    job: str
    webhook: Webhook
    delivery: Delivery
    payload: Payload | None
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End this execution: its Pod, or its Job while it has no Pod."""

    job: str
    pod: str | None
    pod_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """A ConfigMap of the run's that is written whole."""

    manifest: Manifest
    #: If it is a checkpoint: the Pod's UID and the sequence of the report that it came with.
    checkpoint_of: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for a place in a queue, in the order of this time."""

    queue: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """A Kubernetes event about the run."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order: what is to be kept, status, then Job, then the rest."""

    join: Join | None = None  # and decide again: nothing is written by it
    save: Save | None = None
    status: RunStatus | None = None
    start: StartAttempt | None = None
    start_hook: StartHook | None = None
    stop: Stop | None = None
    confirm: int | None = None  # look this attempt up live and decide again
    confirm_hook: str | None = None  # look the webhook's Job of this name up live and decide again
    confirm_sources: bool = False  # read the crew and the profiles live and decide again
    delete_run: bool = False
    notices: tuple[Notice, ...] = field(default=())
    again_at: datetime | None = None
    #: Nothing follows from it before `again_at`, unless something is seen: nobody has to decide again to find that.
    settled: bool = False

"""What runs ask of the cluster: CPU, memory and Pods, of those that run, start, or would if there were room.

Purely computational. A run that has a Job requests what its newest Job says; one that waits for its first requests
what its sources say now.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crewrun_api.merge import merge
from crewrun_api.reasons import ConditionType, Phase
from crewrun_operator.observed import Observed
from crewrun_operator.resolve import choose_profile
from crewrun_operator.sources import crew_spec_of
from crewrun_operator.views import Manifest, PodRequest, pod_request

#: By the identities of the specs of profile and crew: they are those of the store, for as long as one pass takes.
Known = dict[tuple[int, int], PodRequest]
#: Namespace, queue and node selector.
Wanted = tuple[str, str, str]
_NOTHING: Mapping[str, Any] = {}

WAITING, STARTING, RUNNING = STATES = ("waiting", "starting", "running")
_STATE_OF = {
    Phase.PENDING: WAITING,
    Phase.QUEUED: WAITING,
    Phase.BACKING_OFF: WAITING,
    Phase.STARTING: STARTING,
    Phase.RUNNING: RUNNING,
    Phase.CANCELLING: RUNNING,
}


@dataclass(slots=True)
class Sum:
    """What some runs request together."""

    cores: float = 0.0
    memory: int = 0
    pods: int = 0

    def add(self, one: PodRequest) -> None:
        self.cores += one.cores
        self.memory += one.memory
        self.pods += 1


def state_of(run: Manifest) -> str | None:
    """Whether the run wants a Pod, and where that stands; None if it does not."""
    status = run.get("status") or {}
    phase = status.get("phase")
    if phase == Phase.PENDING and not _accepted(status):
        return None
    return _STATE_OF.get(phase) if phase else None


def demand(runs: Iterable[tuple[str, Observed]], label: Callable[[str], str]) -> dict[tuple[str, Wanted], Sum]:
    """The requests of runs by their state, namespace, queue and the label of their node selector."""
    sums: defaultdict[tuple[str, Wanted], Sum] = defaultdict(Sum)
    known: Known = {}
    for state, observed in runs:
        one, run = request_of(observed, known), observed.run
        sums[state, (run["metadata"]["namespace"], queue_of(run), label(one.node_selector))].add(one)
    return sums


def queue_of(run: Manifest) -> str:
    """The queue that admits the run, as a label; empty for none."""
    return str((run.get("status") or {}).get("queue") or "")


def request_of(observed: Observed, known: Known) -> PodRequest:
    """What the run's next Pod requests, or the one that it has. `known` is what such runs were found to request by
    their crew and profile alone: thousands may wait for their first Job, and few say anything themselves."""
    if observed.jobs:
        return observed.jobs[max(observed.jobs)].request
    run, crew = observed.run["spec"], crew_spec_of(observed.run, observed.crew) or _NOTHING
    chosen = choose_profile(run.get("profile") or crew.get("profile"), observed.profiles)
    profile = chosen["spec"] if chosen else _NOTHING
    if run.get("pod"):
        return _merged(observed.defaults, profile, crew, run)
    sources = (id(profile), id(crew))
    if sources not in known:
        known[sources] = _merged(observed.defaults, profile, crew)
    return known[sources]


def _merged(*layers: Mapping[str, Any]) -> PodRequest:
    pod = merge(*map(_pod_of, layers)).get("pod") or {}
    return pod_request([pod], pod.get("nodeSelector"))


def _pod_of(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    pod = layer.get("pod") or {}
    return {"pod": {key: pod[key] for key in ("resources", "nodeSelector") if pod.get(key)}}


def _accepted(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(each["type"] == ConditionType.ACCEPTED and each["status"] == "True" for each in conditions)

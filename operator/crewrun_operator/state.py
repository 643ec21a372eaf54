"""One run as the policies see it: its status parsed, its newest attempt found. Purely computational."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from pydantic import ValidationError

from crewrun_api import outcome
from crewrun_api.outcome import OutcomeRecord
from crewrun_api.queue import StopPolicy
from crewrun_api.reasons import AdmittedReason, ConditionType, Phase
from crewrun_api.report import Snapshot, parse_snapshot
from crewrun_api.resolved import AttemptSettings
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.kueue import local_queue
from crewrun_operator.leases import rate_of
from crewrun_operator.observed import Observed, Payload, Reported
from crewrun_operator.queue_object import choose_queue
from crewrun_operator.refused import Refused
from crewrun_operator.sources import LOOK_AGAIN_SECONDS, config_maps_of, crew_spec_of
from crewrun_operator.status import as_document, bounded, condition, settle, with_condition, with_window
from crewrun_operator.times import parse, stamp
from crewrun_operator.validate import Accepted, accept, attempt_settings
from crewrun_operator.views import JobView, PodView
from crewrun_operator.windows import window_start

_LOOK_AGAIN = timedelta(seconds=LOOK_AGAIN_SECONDS)


@lru_cache(maxsize=1024)
def _settings(text: str) -> AttemptSettings:
    """The settings that a Job carries: most Jobs carry the same, and each decision reads them."""
    return AttemptSettings.model_validate_json(text)


@dataclass(frozen=True)
class State:
    """What the policies read. Nothing here writes."""

    observed: Observed
    now: datetime

    @cached_property
    def status(self) -> RunStatus:
        return RunStatus.model_validate(self.observed.run.get("status") or {})

    def with_status(self, status: RunStatus) -> "State":
        """The same run with this status."""
        run = {**self.observed.run, "status": as_document(status)}
        return State(replace(self.observed, run=run), self.now)

    @property
    def uid(self) -> str:
        return str(self.observed.run["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.observed.run["metadata"].get("generation", 0))

    @property
    def being_deleted(self) -> bool:
        return "deletionTimestamp" in self.observed.run["metadata"]

    @property
    def ended(self) -> bool:
        return self.status.phase is not None and self.status.phase.ended

    @property
    def cancelled(self) -> bool:
        return bool(self.observed.run["spec"].get("cancel", False))

    @property
    def suspended(self) -> bool:
        return bool(self.observed.run["spec"].get("suspend", False))

    @property
    def queue(self) -> str | None:
        """The CrewQueue that admits it. One that has begun stays where it began."""
        if self.status.crew is not None:
            return self.status.queue
        if self.local_queue is not None:
            return None
        chosen = choose_queue(self.observed.run["spec"].get("queue"), self.observed.queues)
        return chosen.key[1] if chosen else None

    @property
    def local_queue(self) -> str | None:
        """The LocalQueue of Kueue that admits its next Job."""
        return local_queue(self.observed.run)

    @property
    def drained(self) -> bool:
        """Whether its queue lets nothing run."""
        queue = self.observed.queues.get(self.status.queue or "")
        return bool(queue and queue.spec and queue.spec.stop_policy is StopPolicy.HOLD_AND_DRAIN)

    @property
    def paced(self) -> bool:
        """Whether its queue has a rate."""
        queue = self.observed.queues.get(self.queue or "")
        return queue is not None and rate_of(queue.spec) is not None

    @property
    def rerun(self) -> str | None:
        value: str | None = self.observed.run["spec"].get("rerun")
        return value

    @cached_property
    def open_attempt(self) -> AttemptStatus | None:
        """The attempt that is recorded and has no end yet."""
        newest = self.status.attempts[-1] if self.status.attempts else None
        return newest if newest is not None and newest.outcome is None else None

    @property
    def begun_at(self) -> datetime | None:
        """Since when the open attempt may start: it is recorded, and Kueue has let its Job go. None if it may not."""
        attempt = self.open_attempt
        if attempt is None or attempt.start_time is None:
            return None
        recorded, job = parse(attempt.start_time), self.job(attempt.number)
        if job is None or self.status.queue is not None:
            return recorded
        if job.started_at is not None:
            return max(recorded, job.started_at)
        return None if job.local_queue or job.suspended else recorded

    def attempt(self, number: int) -> AttemptStatus | None:
        return next((attempt for attempt in self.status.attempts if attempt.number == number), None)

    def job(self, attempt: int) -> JobView | None:
        return self.observed.jobs.get(attempt)

    def pod(self, attempt: AttemptStatus) -> PodView | None:
        """The execution of this attempt: the one that is recorded and no other, else the newest there is."""
        pods = [pod for pod in self.observed.pods if pod.id.attempt == attempt.number]
        if attempt.pod_uid is not None:
            return next((pod for pod in pods if pod.id.uid == attempt.pod_uid), None)
        return max(pods, key=lambda pod: (not pod.gone, pod.id.version), default=None)

    def reported(self, attempt: AttemptStatus) -> Reported | None:
        """What the execution of this attempt has reported itself."""
        pod = self.pod(attempt)
        uid = attempt.pod_uid or (pod.id.uid if pod else None)
        reported = self.observed.reports.get(uid) if uid else None
        return reported if reported is not None and self.is_of(reported.report.snapshot, attempt.number, uid) else None

    def is_of(self, seen: Snapshot | OutcomeRecord | None, attempt: int, pod_uid: str | None) -> bool:
        """Whether this was said by that very execution."""
        return seen is not None and (seen.run_uid, seen.attempt, seen.pod_uid) == (self.uid, attempt, pod_uid)

    def last_words(self, attempt: AttemptStatus) -> tuple[Snapshot | None, bool]:
        """The newest snapshot of a runner that left no record, and whether nothing can have come after it: the
        one in its termination message was written before each call, the last report may be older."""
        pod, reported = self.pod(attempt), self.reported(attempt)
        message = pod.terminated.message if pod and pod.terminated else ""
        left = parse_snapshot(message)
        if pod is not None and left is not None and self.is_of(left, attempt.number, pod.id.uid):
            return left, True
        return (reported.report.snapshot, False) if reported else (None, False)

    def record(self, attempt: AttemptStatus) -> OutcomeRecord | None:
        """The outcome record that an execution left behind."""
        pod = self.pod(attempt)
        found = outcome.parse(pod.terminated.message) if pod and pod.terminated else None
        return found if pod is not None and self.is_of(found, attempt.number, pod.id.uid) else None

    @cached_property
    def config_maps(self) -> frozenset[str]:
        """The ConfigMaps that the run is made of, by what its sources say now."""
        run, crew = self.observed.run, self.observed.crew
        return config_maps_of(run["spec"], crew_spec_of(run, crew))

    @property
    def look_again_at(self) -> datetime | None:
        """When what was read of ConfigMaps is too old to accept or refuse a run by; None if it is made of none."""
        if not self.config_maps:
            return None
        return (self.observed.config_maps_read_at or self.now - _LOOK_AGAIN) + _LOOK_AGAIN

    @cached_property
    def acceptance(self) -> Accepted | Refused:
        """The acceptance check, made at most once a decision: it is the dearest part of one. The policy bounds what
        begins: what was accepted goes on, and its digest says whether that is what the sources still say."""
        try:
            return accept(self.observed, judged=self.status.crew is None)
        except Refused as refused:
            return refused

    @cached_property
    def settings(self) -> AttemptSettings:
        """What the run began with: as its newest Job carries it, else as its sources say now."""
        attempt = self.open_attempt
        jobless = attempt is not None and self.job(attempt.number) is None
        if (jobless or self.status.crew is None) and (payload := self.unchanged_payload()):
            return _settings(payload.settings)
        for number in sorted(self.observed.jobs, reverse=True):
            try:
                return _settings(self.observed.jobs[number].settings)
            except ValidationError:
                continue  # somebody edited the annotation of a Job: an older one, or the sources, must do
        if isinstance(self.acceptance, Accepted):
            return attempt_settings(self.acceptance.resolved)
        return AttemptSettings()

    def unchanged_payload(self) -> Payload | None:
        """The payload, if the sources still say what the run was accepted with."""
        if not isinstance(self.acceptance, Accepted):
            return None
        accepted = self.status.crew
        payload = self.acceptance.payload
        return payload if accepted is None or accepted.digest == payload.digest else None

    def settled(self, status: RunStatus, phase: Phase, reason: str, message: str) -> RunStatus:
        """The status in this phase, as an answer to the spec as it is now."""
        if self.generation != self.status.observed_generation:
            status = self._spec_seen(status)
        if self.rerun:
            status = status.model_copy(update={"rerun": self.rerun})
        if phase is not Phase.QUEUED:
            status = status.model_copy(update={"queue_time": None, "queue_position": None})
        if phase in (Phase.BACKING_OFF, Phase.SUSPENDED) or (phase is Phase.PENDING and status.crew is not None):
            status = self._not_waiting(status)
        if status.queue is not None:
            status = self._in_window(status)
        return bounded(settle(status, phase, reason, message, self.now, self.generation))

    def not_admitted(self, status: RunStatus, reason: AdmittedReason, message: str) -> RunStatus:
        """The status of a run that may not record an attempt."""
        return with_condition(status, ConditionType.ADMITTED, "False", reason, message, self.now, self.generation)

    def _not_waiting(self, status: RunStatus) -> RunStatus:
        """The same, and it asks no queue for anything now."""
        whom = f"CrewQueue {status.queue}" if status.queue else f"Kueue's LocalQueue {self.local_queue}"
        if status.queue is None and self.local_queue is None:
            return status
        return self.not_admitted(status, AdmittedReason.NOT_WAITING, f"it asks {whom} for no place")

    def _in_window(self, status: RunStatus) -> RunStatus:
        """The same with what the run has spent in the window of its queue."""
        queue = self.observed.queues.get(status.queue or "")
        if queue is None or queue.cap is None:
            return status
        return with_window(status, self.status.usage, stamp(window_start(queue.cap.window, self.now)))

    def _spec_seen(self, status: RunStatus) -> RunStatus:
        """The condition SpecChanged: an edit of what runs waits for `rerun`."""
        if status.crew is None or self.status.crew is None:
            return status
        changed = self.unchanged_payload() is None
        if not changed and condition(status, ConditionType.SPEC_CHANGED) is None:
            return status
        value, reason, message = (
            ("True", "WaitsForRerun", "what runs was fixed when the run was accepted; set spec.rerun once it has ended")
            if changed
            else ("False", "AsAccepted", "the spec says what was accepted")
        )
        return with_condition(status, ConditionType.SPEC_CHANGED, value, reason, message, self.now, self.generation)

"""One run as the policies see it: its status parsed, its newest attempt found. Purely computational."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from pydantic import ValidationError

from crewrun_api.reasons import Phase
from crewrun_api.resolved import AttemptSettings
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator.job import attempt_settings
from crewrun_operator.observed import Observed, Payload
from crewrun_operator.status import bounded, settle
from crewrun_operator.validate import Accepted, Refused, accept
from crewrun_operator.views import JobView, PodView


@dataclass(frozen=True)
class State:
    """What the policies read. Nothing here writes."""

    observed: Observed
    now: datetime

    @cached_property
    def status(self) -> RunStatus:
        return RunStatus.model_validate(self.observed.run.get("status") or {})

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

    @cached_property
    def open_attempt(self) -> AttemptStatus | None:
        """The attempt that is recorded and has no end yet."""
        newest = self.status.attempts[-1] if self.status.attempts else None
        return newest if newest is not None and newest.outcome is None else None

    def job(self, attempt: int) -> JobView | None:
        return self.observed.jobs.get(attempt)

    def pod(self, attempt: AttemptStatus) -> PodView | None:
        """The execution of this attempt: the one that is recorded and no other, else the newest there is."""
        pods = [pod for pod in self.observed.pods if pod.id.attempt == attempt.number]
        if attempt.pod_uid is not None:
            return next((pod for pod in pods if pod.id.uid == attempt.pod_uid), None)
        return max(pods, key=lambda pod: (not pod.gone, pod.id.version), default=None)

    @cached_property
    def acceptance(self) -> Accepted | Refused:
        """The acceptance check, made at most once a decision: it is the dearest part of one."""
        try:
            return accept(self.observed)
        except Refused as refused:
            return refused

    @cached_property
    def settings(self) -> AttemptSettings:
        """What the run began with: as its newest Job carries it, else as its sources say now."""
        for number in sorted(self.observed.jobs, reverse=True):
            try:
                return AttemptSettings.model_validate_json(self.observed.jobs[number].settings)
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
        return bounded(settle(status, phase, reason, message, self.now, self.generation))

"""What the store keeps of one run beside the run itself: its Jobs and Pods, what was looked up live, and what its
runners have said. Memory only, no I/O; of two states of an object the newer one stays."""

from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import datetime

from crewrun_api.report import Report
from crewrun_operator.observed import Refusal, Reported, SeenHook
from crewrun_operator.sources import ConfigMaps
from crewrun_operator.views import Identity, JobView, PodView


@dataclass(slots=True)
class RunState:
    """What belongs to one run, by its UID."""

    jobs: dict[int, JobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    hooks: dict[str, SeenHook] = field(default_factory=dict)  # by the name of their Job
    confirmed: dict[int, int] = field(default_factory=dict)
    refusals: dict[int, Refusal] = field(default_factory=dict)
    config_maps: ConfigMaps = field(default_factory=dict)  # those that were read with them, until a Job carries them
    config_maps_read_at: datetime | None = None
    reports: dict[str, Reported] = field(default_factory=dict)
    written_at: datetime | None = None
    saved: frozenset[str] = frozenset()  # the ConfigMaps that this process has written or found
    unkept: frozenset[str] = frozenset()  # those that the API server does not take

    def put_job(self, job: JobView) -> bool:
        """Take a Job; False when nothing is new about it that a decision reads."""
        hook = self.hooks.get(job.id.name, SeenHook())
        old = hook.job if job.id.of_hook else self.jobs.get(job.id.attempt)
        if old is not None and old.id.version >= job.id.version:
            return False
        if job.id.of_hook:
            self.hooks[job.id.name] = replace(hook, job=job, refusal=None)
        else:
            self.jobs[job.id.attempt] = job
            self.forget_config_maps()
            self.refusals.pop(job.id.attempt, None)
        return old is None or replace(old, id=job.id) != job

    def forget_job(self, job: Identity) -> None:
        """This Job is gone; another one in its place is not."""
        if job.of_hook:
            hook = self.hooks.get(job.name)
            if hook and hook.job and hook.job.id.uid == job.uid:
                del self.hooks[job.name]
        elif (old := self.jobs.get(job.attempt)) and old.id.uid == job.uid:
            del self.jobs[job.attempt]
            self.confirmed.pop(job.attempt, None)

    def put_pod(self, pod: PodView, *, ended: bool) -> bool:
        """Take a Pod of a run that has ended or not; False when nothing is new about it that a decision reads."""
        old = self.pods.get(pod.id.uid)
        if old is not None and old.id.version >= pod.id.version and not (pod.gone and not old.gone):
            return False
        if old is not None and old.gone:  # a list has shown that it is gone; what its watch tells late is its end
            pod = pod.as_gone()
        self.confirmed.pop(pod.id.attempt, None)
        self.pods[pod.id.uid] = kept = _told(pod) if ended else pod
        return old is None or replace(old, id=kept.id) != kept

    def only_pods(self, attempt: int, uids: Set[str], list_version: int) -> None:
        """A list of this attempt's Pods, made at this version, has shown these and no other."""
        for uid, pod in self.pods.items():
            if pod.id.attempt == attempt and uid not in uids and pod.id.version <= list_version:
                self.pods[uid] = pod.as_gone()

    def put_report(self, report: Report, received_at: datetime) -> bool:
        """Take what a runner says of itself; False when a newer report of it was there already."""
        seen = report.snapshot
        old = self.reports.get(seen.pod_uid)
        if old is not None and old.sequence > seen.sequence:
            return False
        if old is None or old.sequence < seen.sequence:
            old = old or Reported(report, received_at)
            self.reports[seen.pod_uid] = replace(old, report=report, received_at=received_at)
        return True

    def stored(self, config_map: str, checkpoint_of: tuple[str, int] | None) -> None:
        """The ConfigMap is stored. Of a checkpoint the bytes need no longer be in memory."""
        self.saved |= {config_map}
        pod_uid, sequence = checkpoint_of or ("", 0)
        if (reported := self.reports.get(pod_uid)) is None:
            return
        report = reported.report
        if reported.sequence <= sequence:
            report = report.model_copy(update={"checkpoint": None})
        self.reports[pod_uid] = replace(reported, report=report, kept=max(reported.kept, sequence))

    def not_stored(self, config_map: str, checkpoint_of: tuple[str, int] | None) -> None:
        """The API server does not take the ConfigMap: what waits for it goes on without. A later checkpoint is
        tried again."""
        if checkpoint_of is None:
            self.unkept |= {config_map}
        elif reported := self.reports.get(checkpoint_of[0]):
            self.reports[checkpoint_of[0]] = replace(reported, refused=max(reported.refused, checkpoint_of[1]))

    def end(self) -> None:
        """The run has ended: what its runners said is told, and only takes memory."""
        self.pods = {uid: _told(pod) for uid, pod in self.pods.items()}
        self.reports = {}
        self.forget_config_maps()

    def forget_config_maps(self) -> None:
        """What they say is carried by a Job, or wanted no more. The next who needs it reads them again."""
        self.config_maps, self.config_maps_read_at = {}, None


def _told(pod: PodView) -> PodView:
    """A Pod of a run that has ended, without its record; but that of a webhook comes after the end."""
    return pod if pod.id.of_hook else pod.without_record()

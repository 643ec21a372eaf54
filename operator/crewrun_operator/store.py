"""The store: the newest known state of everything a decision reads.

Watch events, resync lists and the answers of our own writes all go in here, and the newest resourceVersion
wins; so a decision never acts on a state older than its own last write. Memory only, no I/O.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from crewrun_api import names
from crewrun_api.policy import UNBOUNDED, Policy
from crewrun_api.reasons import Phase
from crewrun_api.report import Report
from crewrun_operator import paths
from crewrun_operator.looks import Looks
from crewrun_operator.observed import Observed, Refusal, SeenHook
from crewrun_operator.queue_object import queue_object
from crewrun_operator.queues import Queues
from crewrun_operator.run_state import RunState
from crewrun_operator.runs import Key, Runs, key_of
from crewrun_operator.sources import ConfigMaps, config_maps_of, crew_spec_of
from crewrun_operator.views import Identity, JobView, Listed, Manifest, PodView, job_view, pod_view, trimmed, version

#: Told of each run of which a newer version has come, with the version before it.
Changed = Callable[[Manifest, Manifest], None]

_TOMBSTONES = 50_000


class Store:
    """Put objects in, take observations out. `put_*` and `drop_*` return the keys to decide again."""

    def __init__(
        self, defaults: Mapping[str, Any], policy: Policy = UNBOUNDED, changed: Changed = lambda before, after: None
    ) -> None:
        self._defaults, self._policy, self._changed = defaults, policy, changed
        self.runs = Runs()
        self._crews: dict[Key, Manifest] = {}
        self._profiles: defaultdict[str, dict[str, Manifest]] = defaultdict(dict)
        self._states: defaultdict[str, RunState] = defaultdict(RunState)
        self._executions: dict[str, Identity] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._missing: dict[str | None, set[str]] = {}
        self.queues = Queues()
        self.looks = Looks()

    def observe(self, key: Key) -> Observed | None:
        """Everything known of one run; None when there is no such run."""
        run = self.runs.get(key)
        if run is None:
            return None
        namespace, spec = key[0], run["spec"]
        crew = (spec.get("crewRef") or {}).get("name")
        state = self._states.get(run["metadata"]["uid"]) or RunState()
        crew_manifest = self._crews.get((namespace, crew)) if crew else None
        unread = config_maps_of(spec, crew_spec_of(run, crew_manifest)) - state.config_maps.keys()
        return Observed(
            run=run,
            crew=crew_manifest,
            profiles=self._profiles.get(namespace, {}),
            sources_confirmed=not unread
            and self.looks.count(run["metadata"]["uid"], (namespace, crew), self._source_versions(namespace, crew)),
            config_maps=state.config_maps,
            config_maps_read_at=state.config_maps_read_at,
            jobs=state.jobs,
            pods=tuple(pod for pod in state.pods.values() if not pod.id.of_hook),
            hooks=state.hooks,
            hook_pods=tuple(pod for pod in state.pods.values() if pod.id.of_hook),
            confirmed=state.confirmed,
            refusals=state.refusals,
            reports=state.reports,
            unkept=state.unkept,
            written_at=state.written_at,
            defaults=self._defaults,
            policy=self._policy,
            queues=self.queues.objects(namespace),
            place=self.queues.place(run["metadata"]["uid"]),
            going=self.runs.going,
        )

    def put_run(self, manifest: Manifest) -> list[Key]:
        key, uid = key_of(manifest), manifest["metadata"]["uid"]
        known = self.runs.brief(key)
        if uid in self._gone or (known is not None and known.version >= version(manifest)):
            return []
        old = self.runs.get(key)
        if old is None or _asks(old) != _asks(manifest):
            self.looks.see(uid)
        if old is not None and old["metadata"]["uid"] != uid:
            self._forget_state(old["metadata"]["uid"])
        elif old is not None:  # the first version that is seen tells of nothing: it may be from before this process
            self._changed(old, manifest)
        kept = trimmed(manifest)
        brief = self.runs.put(kept)
        self.queues.put_run(kept)
        if brief.ended:
            self.looks.forget(uid)  # it asks for something else before it begins again
            if state := self._states.get(uid):
                state.end()
        return [key]

    def written(self, manifest: Manifest, at: datetime) -> None:
        """The answer to a write of our own to a run's status."""
        self.put_run(manifest)
        self._states[manifest["metadata"]["uid"]].written_at = at

    def drop_run(self, manifest: Manifest) -> list[Key]:
        key, uid = key_of(manifest), manifest["metadata"]["uid"]
        self._bury(uid)
        self._forget_state(uid)
        if (run := self.runs.get(key)) and run["metadata"]["uid"] == uid:
            self.runs.drop(key)
            if not _stale(run, manifest):  # its deletion may tell of a write whose answer never came
                self._changed(run, manifest)
        return []

    def put_crew(self, manifest: Manifest) -> list[Key]:
        key = key_of(manifest)
        if (old := self._crews.get(key)) is not None and _stale(old, manifest):
            return []
        self._crews[key] = trimmed(manifest)
        return self._runs_of_crew(key)

    def drop_crew(self, manifest: Manifest) -> list[Key]:
        self._crews.pop(key_of(manifest), None)
        return self._runs_of_crew(key_of(manifest))

    def put_profile(self, manifest: Manifest) -> list[Key]:
        namespace, name = key_of(manifest)
        profiles = self._profiles[namespace]
        if name in profiles and _stale(profiles[name], manifest):
            return []
        profiles[name] = trimmed(manifest)
        return self._waiting(namespace)

    def drop_profile(self, manifest: Manifest) -> list[Key]:
        namespace, name = key_of(manifest)
        self._profiles[namespace].pop(name, None)
        return self._waiting(namespace)

    def put_queue(self, manifest: Manifest) -> list[Key]:
        queue = queue_object(manifest)
        namespace, name = queue.key
        old = self.queues.objects(namespace).get(name)
        if old is not None and old.version >= queue.version:
            return []
        return self._not_begun(namespace) if self.queues.put_object(queue) else []

    def drop_queue(self, manifest: Manifest) -> list[Key]:
        namespace, name = key_of(manifest)
        queue = self.queues.objects(namespace).get(name)
        if queue is None or queue.version > version(manifest):  # it was made again meanwhile
            return []
        self.queues.drop_object((namespace, name))
        return self._not_begun(namespace)

    def put_job(self, manifest: Manifest) -> list[Key]:
        job = job_view(manifest)
        if job is None or self._gone.keys() & {job.id.uid, job.id.run_uid}:
            return []
        if not self._states[job.id.run_uid].put_job(job):
            return []
        if job.finished and not job.id.of_hook and self._ended(job.id):  # of both the end is told
            return []
        return self._known(job.id.namespace, job.id.run)

    def drop_job(self, manifest: Manifest) -> list[Key]:
        job = job_view(manifest)
        if job is None:
            return []
        self._forget_job(job.id)
        return self._known(job.id.namespace, job.id.run)

    def put_pod(self, manifest: Manifest) -> list[Key]:
        pod = pod_view(manifest)
        if pod is None or self._gone.keys() & {pod.id.uid, pod.id.run_uid}:
            return []
        return self._put_pod(pod)

    def drop_pod(self, manifest: Manifest) -> list[Key]:
        """Keep the last state of a Pod that is gone: it may hold the outcome record."""
        pod = pod_view(manifest)
        if pod is None or pod.id.run_uid in self._gone:
            return []
        self._bury(pod.id.uid)
        return self._put_pod(pod.as_gone())

    def _put_pod(self, pod: PodView) -> list[Key]:
        if not self._states[pod.id.run_uid].put_pod(pod, ended=self._ended(pod.id)):
            return []
        self._executions[pod.id.uid] = pod.id
        return self._known(pod.id.namespace, pod.id.run)

    def execution(self, pod_uid: str) -> Identity | None:
        """Which Pod this is, if it is a runner's and has been seen."""
        return self._executions.get(pod_uid)

    def over(self, pod_uid: str) -> bool:
        """Whether this execution has ended, or nothing of it is left."""
        its = self._executions.get(pod_uid)
        state = self._states.get(its.run_uid) if its else None
        pod = state.pods.get(pod_uid) if state else None
        return pod is None or pod.over

    def put_report(self, report: Report, received_at: datetime) -> bool:
        """Take what a runner says of itself; False when a newer report of it was there already."""
        return self._states[report.snapshot.run_uid].put_report(report, received_at)

    def is_saved(self, run_uid: str, config_map: str) -> bool:
        """Whether this process has written or found this ConfigMap of the run."""
        return config_map in self._states[run_uid].saved

    def saved(self, run_uid: str, config_map: str, checkpoint_of: tuple[str, int] | None) -> None:
        """The ConfigMap is stored, and with it the checkpoint of that Pod's report of that sequence, if it is one."""
        self._states[run_uid].stored(config_map, checkpoint_of)

    def not_saved(self, run_uid: str, config_map: str, checkpoint_of: tuple[str, int] | None) -> None:
        """The same when the API server does not take it."""
        self._states[run_uid].not_stored(config_map, checkpoint_of)

    def refuse(self, run_uid: str, attempt: int, refusal: Refusal) -> None:
        """Remember that the API server did not take the Job of this attempt."""
        self._states[run_uid].refusals[attempt] = refusal

    def refuse_hook(self, run_uid: str, job: str, refusal: Refusal) -> None:
        """Remember that the API server did not take this Job of a webhook."""
        hooks = self._states[run_uid].hooks
        hooks[job] = replace(hooks.get(job, SeenHook()), refusal=refusal)

    def doubt(self, run_uid: str, attempt: int) -> None:
        """What was looked up about this attempt may no longer be so."""
        self._states[run_uid].confirmed.pop(attempt, None)

    def confirm(
        self, run_uid: str, attempt: int, job: Manifest | None, pods: Iterable[Manifest], list_version: int
    ) -> None:
        """What the API server itself said about an attempt, just now; its Pods were listed at this version."""
        state = self._states[run_uid]
        if job is not None:
            self.put_job(job)
        else:
            state.jobs.pop(attempt, None)
        self._confirm_pods(state, attempt, list(pods), list_version)
        state.confirmed[attempt] = version(job) if job is not None else 0

    def confirm_hook(
        self, run_uid: str, name: str, job: Manifest | None, pods: Iterable[Manifest], list_version: int
    ) -> None:
        """The same about the Job of a webhook, and the Pods of all webhooks of the run."""
        state = self._states[run_uid]
        if job is not None:
            self.put_job(job)
        hook = state.hooks.get(name, SeenHook())
        confirmed = version(job) if job is not None else 0
        state.hooks[name] = replace(hook, job=hook.job if job is not None else None, confirmed=confirmed)
        self._confirm_pods(state, names.WEBHOOK_ATTEMPT, list(pods), list_version)

    def _confirm_pods(self, state: RunState, attempt: int, live: list[Manifest], list_version: int) -> None:
        for pod in live:
            self.put_pod(pod)
        state.only_pods(attempt, {pod["metadata"]["uid"] for pod in live}, list_version)

    def confirm_sources(
        self,
        run: Manifest,
        crew: Manifest | None,
        profiles: Listed,
        queues: Listed,
        config_maps: ConfigMaps,
        began: int,
        now: datetime,
    ) -> None:
        """What the API server itself said about the sources of a run, just now, in a look that began then."""
        namespace, name = run["metadata"]["namespace"], _crew_name(run)
        if crew is not None:
            self.put_crew(crew)
        elif name is not None:
            self._crews.pop((namespace, name), None)
        for plural, put, listed in (
            (paths.PROFILES, self.put_profile, profiles),
            (paths.QUEUES, self.put_queue, queues),
        ):
            for item in listed.items:
                put(item)
            self.sweep(plural, namespace, {item["metadata"]["uid"] for item in listed.items}, listed.version)
        state = self._states[run["metadata"]["uid"]]
        self.looks.end((namespace, name), began, self._source_versions(namespace, name))
        state.config_maps, state.config_maps_read_at = config_maps, now

    def _source_versions(self, namespace: str, crew: str | None) -> tuple[int, ...]:
        sources = [self._crews.get((namespace, crew)) if crew else None, *self._profiles.get(namespace, {}).values()]
        queues = self.queues.objects(namespace).values()
        return (
            *(version(source) if source is not None else 0 for source in sources),
            *(queue.generation for queue in queues),  # each write to their status is a version, too
        )

    def sweep(self, plural: str, namespace: str | None, uids: set[str], list_version: int) -> bool:
        """Drop the ghosts: objects that a list made at this version would have shown, and did not. Pods that have ended
        are in no list.

        A watch that was lost and made again never tells of what went meanwhile. True if there were any.
        """

        def ghost(uid: str, its_namespace: str, its_version: int) -> bool:
            return uid not in uids and namespace in (None, its_namespace) and its_version <= list_version

        def is_ghost(view: JobView | PodView) -> bool:
            return ghost(view.id.uid, view.id.namespace, view.id.version)

        found, missing = False, set[str]()
        for key, run in [*self.runs.briefs()] if plural == paths.CREWRUNS else ():
            if ghost(run.uid, key[0], run.version):
                found = True
                self.drop_run(self.runs[key])
        for manifest, drop in self._manifests(plural):
            metadata = manifest["metadata"]
            if ghost(metadata["uid"], metadata["namespace"], version(manifest)):
                found = True
                drop(manifest)
        for state in self._states.values():
            if plural == paths.JOBS:
                hooks = [hook.job for hook in state.hooks.values() if hook.job]
                for job in filter(is_ghost, [*state.jobs.values(), *hooks]):
                    found = True
                    self._forget_job(job.id)
            if plural == paths.PODS:
                for pod in filter(is_ghost, [pod for pod in state.pods.values() if not pod.over]):
                    found = True
                    missing.add(pod.id.uid)
                    # Its deletion, with the outcome record in it, may be on the way: one more list decides.
                    if pod.id.uid in self._missing.get(namespace, ()):
                        state.pods[pod.id.uid] = pod.as_gone()
        if plural == paths.PODS:
            self._missing[namespace] = missing
        return found

    def _manifests(self, plural: str) -> list[tuple[Manifest, Callable[[Manifest], list[Key]]]]:
        if plural == paths.CREWS:
            return [(crew, self.drop_crew) for crew in self._crews.values()]
        if plural == paths.PROFILES:
            return [(each, self.drop_profile) for some in self._profiles.values() for each in some.values()]
        if plural == paths.QUEUES:
            return [(queue.object.manifest, self.drop_queue) for queue in self.queues if queue.object]
        return []

    def _forget_job(self, job: Identity) -> None:
        self._bury(job.uid)
        if state := self._states.get(job.run_uid):
            state.forget_job(job)

    def _forget_state(self, run_uid: str) -> None:
        self.queues.drop_run(run_uid)
        self.looks.forget(run_uid)
        if state := self._states.pop(run_uid, None):
            for pod_uid in state.pods:
                self._executions.pop(pod_uid, None)

    def _bury(self, uid: str) -> None:
        """A deleted object must not come back by a list that was made before it went."""
        self._gone[uid] = None
        if len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    def _ended(self, its: Identity) -> bool:
        """Whether the run of this Job or Pod has ended."""
        run = self.runs.brief((its.namespace, its.run))
        return run is not None and run.uid == its.run_uid and run.ended

    def _known(self, namespace: str, run: str) -> list[Key]:
        return [(namespace, run)] if (namespace, run) in self.runs else []

    def _runs_of_crew(self, crew: Key) -> list[Key]:
        return [key for key in self._waiting(crew[0]) if _crew_name(self.runs[key]) == crew[1]]

    def _waiting(self, namespace: str) -> list[Key]:
        """The runs of a namespace that a changed source may let begin. Those that wait in a queue look at their
        sources when it is their turn."""
        return [key for key in self._not_begun(namespace) if not _queued(self.runs[key])]

    def _not_begun(self, namespace: str) -> list[Key]:
        return [key for key, run in self.runs.open() if key[0] == namespace and not _begun(run)]


def _stale(old: Manifest, new: Manifest) -> bool:
    return version(old) >= version(new)


def _begun(run: Manifest) -> bool:
    return bool((run.get("status") or {}).get("attemptCount"))


def _queued(run: Manifest) -> bool:
    return (run.get("status") or {}).get("phase") == Phase.QUEUED


def _asks(run: Manifest) -> tuple[str, int]:
    """What changes when a run asks for something else."""
    return run["metadata"]["uid"], run["metadata"].get("generation", 0)


def _crew_name(run: Manifest) -> str | None:
    return (run["spec"].get("crewRef") or {}).get("name")

"""Builders of what the operator sees: runs, crews, profiles, Jobs, Pods and outcome records.

Each starts from something that works and ends in `.build()`. `Scene` puts them into a real store and carries
plans out the way `apply` does, without any API server.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import yaml

from crewrun_api import names
from crewrun_api.outcome import ModelUsage, OutcomeRecord, OutputRecord, TaskRecord, Usage, encode
from crewrun_api.policy import UNBOUNDED, Policy
from crewrun_api.reasons import ConditionType, ExitCode, Outcome, Reason, TaskState
from crewrun_api.report import OutputFile, Report, Snapshot, Upload
from crewrun_api.run import RunStatus
from crewrun_operator.decide import decide
from crewrun_operator.hook_job import build_hook_job
from crewrun_operator.job import build_job
from crewrun_operator.observed import Observed, Payload, Plan, Refusal, SeenHook
from crewrun_operator.runs import key_of
from crewrun_operator.status import as_document
from crewrun_operator.store import Store
from crewrun_operator.times import stamp
from crewrun_operator.views import ConfigMapView, Listed

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NAMESPACE = "team-a"
RUN_UID = "0f3ab111-1111-4111-8111-111111111111"
DEFAULTS: dict[str, Any] = {"pod": {"image": "runner:1", "imagePullPolicy": "IfNotPresent"}}
DEFINITION: dict[str, Any] = {
    "agents": {"writer": {"role": "Writer", "goal": "Explain {topic}", "backstory": "Brief."}},
    "tasks": [
        {"name": "facts", "description": "List facts about {topic}.", "expected_output": "Facts.", "agent": "writer"},
        {"name": "report", "description": "Write.", "expected_output": "A page.", "agent": "writer"},
    ],
}


def classic_files() -> dict[str, str]:
    """The crew of `DEFINITION` as CrewAI's classic files."""
    tasks = {task["name"]: {key: task[key] for key in task if key != "name"} for task in DEFINITION["tasks"]}
    return {"agents.yaml": yaml.safe_dump(DEFINITION["agents"]), "tasks.yaml": yaml.safe_dump(tasks, sort_keys=False)}


def as_it_was(status: RunStatus) -> RunStatus:
    """The status without what says nothing but that an edit of the run was seen."""
    conditions = [
        each.model_copy(update={"observed_generation": 0})
        for each in status.conditions
        if each.type not in (ConditionType.SPEC_CHANGED, ConditionType.TTL_IGNORED)
    ]
    return status.model_copy(update={"observed_generation": 0, "conditions": conditions, "rerun": None})


def pod_uid(attempt: int, execution: int = 1) -> str:
    return f"aaaaaaaa-{attempt:04}-4000-8000-{execution:012}"


class _Manifest:
    """What all objects have in common."""

    def __init__(self, kind: str, name: str, uid: str, spec: dict[str, Any]) -> None:
        self._document: dict[str, Any] = {
            "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1", "generation": 1},
            "spec": spec,
        }

    def metadata(self, **values: Any) -> Self:
        self._document["metadata"].update(values)
        return self

    def at(self, version: int) -> Self:
        return self.metadata(resourceVersion=str(version))

    def deleting(self) -> Self:
        return self.metadata(deletionTimestamp=stamp(NOON))

    def spec(self, **values: Any) -> Self:
        self._document["spec"].update(values)
        return self

    def without(self, *fields: str) -> Self:
        for field in fields:
            del self._document["spec"][field]
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._document)


class RunBuilder(_Manifest):
    def __init__(self) -> None:
        super().__init__("CrewRun", "report", RUN_UID, {"crewRef": {"name": "research"}, "inputs": {"topic": "bees"}})
        self.metadata(creationTimestamp=stamp(NOON))
        self._document["status"] = {"observedGeneration": -1}

    def status(self, status: RunStatus) -> Self:
        self._document["status"] = as_document(status)
        return self


class CrewBuilder(_Manifest):
    def __init__(self) -> None:
        super().__init__("Crew", "research", "c0c0c0c0", {"definition": copy.deepcopy(DEFINITION)})

    def definition(self, **values: Any) -> Self:
        self._document["spec"]["definition"].update(values)
        return self


class QueueBuilder(_Manifest):
    """A CrewQueue, by default the namespace's."""

    def __init__(self, name: str = "lane", **spec: Any) -> None:
        super().__init__("CrewQueue", name, f"uid-of-{name}", {"default": True, **spec})
        self.metadata(creationTimestamp=stamp(NOON))


class ProfileBuilder(_Manifest):
    def __init__(self, name: str = "production") -> None:
        super().__init__("CrewProfile", name, f"uid-of-{name}", {"llm": {"model": "openai/gpt-4o"}})
        self.created(NOON)

    def created(self, at: datetime) -> Self:
        return self.metadata(creationTimestamp=stamp(at))


class JobBuilder(_Manifest):
    """A Job as the operator made it and the Job controller left it."""

    def __init__(self, run: dict[str, Any] | None = None, attempt: int = 1, payload: Payload | None = None) -> None:
        run = run or RunBuilder().build()
        super().__init__("Job", "", "", {})
        self._document = build_job(run, attempt, payload or a_payload())
        self.metadata(uid=f"bbbbbbbb-{attempt:04}", resourceVersion="20")

    def condition(self, type_: str, reason: str = "", message: str = "") -> Self:
        new = {"type": type_, "status": "True", "reason": reason, "message": message}
        self._document.setdefault("status", {}).setdefault("conditions", []).append(new)
        return self

    def suspend(self, suspend: bool = True) -> Self:
        return self.spec(suspend=suspend)

    def failed(self, reason: str = "BackoffLimitExceeded") -> Self:
        return self.condition("Failed", reason)

    def complete(self) -> Self:
        return self.condition("Complete")


class PodBuilder(_Manifest):
    """A runner Pod; Pending until it is told otherwise."""

    def __init__(self, attempt: int = 1, execution: int = 1, run: dict[str, Any] | None = None) -> None:
        run = run or RunBuilder().build()
        its = run["metadata"]
        job = names.job_name(its["name"], its["uid"], attempt)
        super().__init__("Pod", f"{job}-x{execution:04}", pod_uid(attempt, execution), {})
        self.at(30).metadata(
            namespace=its["namespace"],
            labels={names.LABEL_RUN_UID: its["uid"], names.LABEL_ATTEMPT: str(attempt)},
            annotations={names.ANNOTATION_RUN: its["name"]},
        )
        self._status: dict[str, Any] = {"phase": "Pending"}
        self._document["status"] = self._status

    def _container(self, **state: Any) -> Self:
        self._status["containerStatuses"] = [{"name": "sidecar"}, {"name": names.CONTAINER, "state": state}]
        return self

    def phase(self, phase: str, reason: str = "", message: str = "") -> Self:
        self._status.update({"phase": phase, "reason": reason, "message": message})
        return self

    def waiting(self, reason: str, message: str = "") -> Self:
        return self._container(waiting={"reason": reason, "message": message})

    def running(self, at: datetime = NOON) -> Self:
        return self.phase("Running")._container(running={"startedAt": stamp(at)})

    def ended(self, code: int = 0, message: str = "", reason: str = "", at: datetime = NOON) -> Self:
        state = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "message": message,
            "startedAt": stamp(at - timedelta(seconds=5)),
            "finishedAt": stamp(at),
        }
        return self.phase("Failed" if code else "Succeeded")._container(terminated=state)

    def condition(self, type_: str, status: str = "True", reason: str = "", message: str = "") -> Self:
        new = {"type": type_, "status": status, "reason": reason, "message": message}
        self._status.setdefault("conditions", []).append(new)
        return self

    def disrupted(self, reason: str) -> Self:
        return self.condition("DisruptionTarget", reason=reason, message="the node is drained")

    def unschedulable(self, message: str = "0/3 nodes are available") -> Self:
        return self.condition("PodScheduled", "False", "Unschedulable", message)


class RecordBuilder:
    """An outcome record of the first attempt; a success until it is told otherwise."""

    def __init__(self, attempt: int = 1, execution: int = 1, run_uid: str = RUN_UID) -> None:
        self._fields: dict[str, Any] = {
            "run_uid": run_uid,
            "attempt": attempt,
            "pod_uid": pod_uid(attempt, execution),
            "outcome": Outcome.SUCCEEDED,
            "reason": Reason.COMPLETED,
            "message": "done",
            "exit_code": ExitCode.SUCCEEDED,
            "start_time": stamp(NOON),
            "completion_time": stamp(NOON),
            "usage": a_usage(),
            "tasks": [TaskRecord(name="facts", agent="Writer", state=TaskState.SUCCEEDED, preview="Bees fly.")],
            "tasks_total": 2,
            "tasks_succeeded": 2,
            "output": OutputRecord.of("Bees fly."),
        }

    def with_(self, **values: Any) -> Self:
        self._fields.update(values)
        return self

    def failed(self, reason: Reason = Reason.TASK_FAILED, **values: Any) -> Self:
        failed = {"outcome": Outcome.FAILED, "reason": reason, "message": "task facts raised", "output": None}
        return self.with_(**{**failed, "exit_code": ExitCode.TASK_FAILED, "tasks_succeeded": 0, **values})

    def stopped(self, reason: Reason = Reason.CANCELLED) -> Self:
        return self.failed(reason, outcome=Outcome.STOPPED, exit_code=ExitCode.STOPPED, message="told to stop")

    def build(self) -> OutcomeRecord:
        return OutcomeRecord(**self._fields)

    def text(self) -> str:
        """As kubelet hands it on."""
        return encode(self.build()).decode()


class ReportBuilder:
    """A report of the first attempt, from the middle of its first task."""

    def __init__(self, attempt: int = 1, sequence: int = 1, execution: int = 1) -> None:
        self._snapshot: dict[str, Any] = {
            "run_uid": RUN_UID,
            "attempt": attempt,
            "pod_uid": pod_uid(attempt, execution),
            "sequence": sequence,
            "tasks": [TaskRecord(name="facts", agent="Writer", state=TaskState.RUNNING)],
            "tasks_total": 2,
        }
        self._parts: dict[str, Any] = {}

    def with_(self, **values: Any) -> Self:
        self._snapshot.update(values)
        return self

    def checkpoint(self, data: bytes = b"finished tasks") -> Self:
        self._parts["checkpoint"] = Upload.of(data)
        return self

    def outcome(self, record: RecordBuilder, *files: OutputFile) -> Self:
        self._parts.update(outcome=record.build(), files=list(files))
        return self

    def build(self) -> Report:
        return Report(snapshot=Snapshot(**self._snapshot), **self._parts)


def a_usage(tokens: int = 100, model: str = "openai/gpt-4o") -> Usage:
    return Usage(
        requests=1,
        prompt_tokens=tokens - 10,
        completion_tokens=10,
        total_tokens=tokens,
        by_model=[ModelUsage(model=model, requests=1, prompt_tokens=tokens - 10, completion_tokens=10)],
    )


def a_payload(**settings: Any) -> Payload:
    """The payload of a run of the default crew with these settings."""
    plan = Scene(RunBuilder().spec(**settings).build()).decide()
    assert plan.start is not None and plan.start.payload is not None, plan
    return plan.start.payload


class Scene:
    """One run among its crew, profiles, Jobs and Pods; plans are carried out on a real store."""

    def __init__(
        self, run: dict[str, Any] | None = None, crew: dict[str, Any] | None = None, policy: Policy = UNBOUNDED
    ) -> None:
        self.store = Store(DEFAULTS, policy)
        self.now = NOON
        self._version = 100
        self.made: list[str] = []  # names of the Jobs that were made, in order
        self.saved: list[Mapping[str, Any]] = []  # the ConfigMaps that were written, in order
        self.config_maps: dict[str, ConfigMapView | None] = {}  # as they are whenever they are read
        self.deleted: list[str] = []  # names of the Pods and Jobs that plans asked to delete
        self._jobs: dict[int, dict[str, Any]] = {}  # the Jobs as they stand, by attempt
        self._hooks: dict[str, dict[str, Any]] = {}  # those of webhooks, by name
        self.store.put_crew(crew or CrewBuilder().build())
        self.store.put_run(run or RunBuilder().build())

    @property
    def key(self) -> tuple[str, str]:
        return next(iter(self.store.runs))

    @property
    def run(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self.store.runs[self.key]))

    @property
    def status(self) -> RunStatus:
        return RunStatus.model_validate(self.run["status"])

    def observe(self) -> Observed:
        """The sources as confirmed as those of a run that is decided about a second time."""
        crew = self.store._crews.get((self.key[0], "research"))
        queues = Listed([queue.manifest for queue in self.store.queues.objects(self.key[0]).values()], 0)
        self.store.confirm_sources(
            self.run, crew, Listed([], 0), queues, self.config_maps, self.store.looks.begin(), self.now
        )
        self.store.queues.stir()
        self.store.queues.admit(self.now)
        observed = self.store.observe(self.key)
        assert observed is not None
        return observed

    def decide(self) -> Plan:
        return decide(self.observe(), self.now)

    def later(self, seconds: float) -> Self:
        self.now += timedelta(seconds=seconds)
        return self

    def edit(self, **spec: Any) -> Self:
        """Somebody changes the run."""
        run = self.run
        run["spec"].update(spec)
        run["metadata"]["generation"] += 1
        self._put_run(run)
        return self

    def edit_crew(self) -> Self:
        self.store.put_crew(CrewBuilder().definition(inputs={"more": "words"}).at(self._next()).build())
        return self

    def queue(self, name: str = "lane", **spec: Any) -> Self:
        """A CrewQueue is made or changed."""
        version = self._next()
        self.store.put_queue(QueueBuilder(name, **spec).metadata(generation=version).at(version).build())
        return self

    def other(self, name: str, status: dict[str, Any], **spec: Any) -> Self:
        """Another run in the same queue, as it stands."""
        run = RunBuilder().metadata(name=name, uid=f"uid-of-{name}").spec(**spec).at(self._next()).build()
        self.store.put_run({**run, "status": {"queue": "lane", **status}})
        return self

    def pod(self, pod: PodBuilder) -> Self:
        self.store.put_pod(pod.at(self._next()).build())
        return self

    def pod_gone(self, pod: PodBuilder) -> Self:
        self.store.drop_pod(pod.at(self._next()).build())
        return self

    def report(self, report: ReportBuilder) -> Self:
        """A runner says something of itself."""
        self.store.put_report(report.build(), self.now)
        return self

    def job_gone(self, attempt: int) -> Self:
        self.store.drop_job(self._job(attempt).build())
        return self

    def job_goes(self, attempt: int) -> Self:
        """Kueue lets the Job go, and the Job controller starts it."""
        self._jobs[attempt] = self._job(attempt).suspend(False).build()
        self._jobs[attempt]["status"] = {"startTime": stamp(self.now)}
        self.store.put_job(self._jobs[attempt])
        return self

    def job_waits(self, attempt: int) -> Self:
        """Kueue takes the place of the Job back."""
        self._jobs[attempt] = self._job(attempt).suspend().condition("Suspended", "JobSuspended").build()
        self.store.put_job(self._jobs[attempt])
        return self

    def job_ends(self, attempt: int, reason: str = "BackoffLimitExceeded") -> Self:
        self._jobs[attempt] = self._job(attempt).failed(reason).build()
        self.store.put_job(self._jobs[attempt])
        return self

    def restart(self, policy: Policy = UNBOUNDED) -> Self:
        """A new operator lists everything: what is gone is not there, what was confirmed is forgotten."""
        old, run = self.observe(), self.run
        self.store = Store(DEFAULTS, policy)
        if old.crew:
            self.store.put_crew(old.crew)
        for queue in old.queues.values():
            self.store.put_queue(queue.manifest)
        self.store.put_run(run)
        state = self.store._states[run["metadata"]["uid"]]
        state.jobs.update(old.jobs)
        state.hooks.update({name: SeenHook(hook.job) for name, hook in old.hooks.items() if hook.job})
        state.pods.update({pod.id.uid: pod for pod in (*old.pods, *old.hook_pods) if not pod.gone})
        return self

    def carry_out(self, plan: Plan, *, without_job: bool = False) -> Self:
        """What `apply` does, the answers of the API server included; `without_job` is a crash after the status."""
        if plan.join is not None:
            self.store.queues.join(self.store.runs[self.key], plan.join.queue, plan.join.time, self.now)
        if plan.save is not None:
            self.saved.append(plan.save.manifest)
            self.store.saved(
                self.run["metadata"]["uid"], plan.save.manifest["metadata"]["name"], plan.save.checkpoint_of
            )
        if plan.status is not None:
            run = self.run
            run["status"] = as_document(plan.status)
            run["metadata"]["resourceVersion"] = str(self._next())
            self.store.written(run, self.now)
        if plan.start is not None and not without_job:
            payload = plan.start.payload or self._payload_of(plan.start.number - 1)
            name = names.job_name(self.run["metadata"]["name"], self.run["metadata"]["uid"], plan.start.number)
            self.made.append(name)
            job = JobBuilder(self.run, plan.start.number, payload).at(self._next())
            job.metadata(uid=hashlib.sha256(f"{name}{self._version}".encode()).hexdigest()[:36])
            self._jobs[plan.start.number] = job.build()
            self.store.put_job(job.build())
        if plan.start_hook is not None and not without_job:
            payload = plan.start_hook.payload or self._payload_of(self.status.attempt_count)
            self.made.append(plan.start_hook.job)
            self.hook(build_hook_job(self.run, plan.start_hook, payload))
        if plan.stop is not None:
            self.deleted.append(plan.stop.pod or plan.stop.job)
        if plan.confirm is not None:
            self.confirm(plan.confirm)
        if plan.confirm_hook is not None:
            self.confirm_hook(plan.confirm_hook)
        if plan.delete_run:
            self.deleted.append(self.run["metadata"]["name"])
        if plan.settled and not without_job:
            self._rests_until(plan.again_at)
        return self

    def _rests_until(self, moment: datetime | None) -> None:
        """Nothing follows before that moment; never, when there is none."""
        now = self.now
        for self.now in (now, max(now, moment - timedelta(seconds=1)) if moment else now + timedelta(days=365)):
            plan = self.decide()
            assert plan.status in (None, self.status), f"a settled plan left something to say at {self.now}: {plan}"
            rest = replace(plan, status=None, again_at=None)
            assert rest == Plan(), f"a settled plan left something to do at {self.now}: {plan}"
            assert plan.again_at is None or (moment and plan.again_at >= moment), f"again at {moment}, not {plan}"
        self.now = now

    def confirm(self, attempt: int) -> Self:
        """The API server says what the store believes."""
        observed = self.observe()
        pods = [p for p in observed.pods if p.id.attempt == attempt and not p.gone]
        live = [PodBuilder(attempt).metadata(uid=p.id.uid, name=p.id.name).at(0).build() for p in pods]
        job = observed.jobs.get(attempt)
        found = self._jobs[attempt] if job else None
        self.store.confirm(self.run["metadata"]["uid"], attempt, found, live, self._version)
        return self

    def hook(self, job: dict[str, Any]) -> Self:
        """The Job of a webhook, as it stands from now on."""
        name, version = job["metadata"]["name"], str(self._next())
        job["metadata"] = {"uid": f"uid-{version}", **job["metadata"], "resourceVersion": version}
        self._hooks[name] = job
        self.store.put_job(job)
        return self

    def hook_job_ends(self, type_: str = "Failed", reason: str = "BackoffLimitExceeded") -> Self:
        job = list(self._hooks.values())[-1]
        end = {"type": type_, "status": "True", "reason": reason, "message": "m"}
        return self.hook({**job, "status": {"conditions": [end]}})

    def hook_job_gone(self) -> Self:
        _, job = self._hooks.popitem()
        job["metadata"]["resourceVersion"] = str(self._next())
        self.store.drop_job(job)
        return self

    def hook_pod(self, pod: PodBuilder) -> Self:
        """A Pod of the newest webhook's Job; `pod` is one of attempt 0."""
        return self.pod(pod.metadata(name=f"{list(self._hooks)[-1]}-x0001"))

    def confirm_hook(self, name: str) -> Self:
        """The API server says what the store believes of the Pods, and of the Job what it is."""
        pods = [pod for pod in self.observe().hook_pods if not pod.gone]
        live = [PodBuilder(0).metadata(uid=p.id.uid, name=p.id.name).at(0).build() for p in pods]
        uid = self.run["metadata"]["uid"]
        self.store.confirm_hook(uid, name, self._hooks.get(name), live, self._version)
        return self

    def refuse(self, attempt: int, reason: Reason, message: str = "no", again: bool = False) -> Self:
        self.store.refuse(self.run["metadata"]["uid"], attempt, Refusal(reason, message, again))
        return self

    def settle(self) -> Plan:
        """Decide and carry out until nothing new is planned; the last plan."""
        for _ in range(10):
            plan = self.decide()
            news = plan.join or plan.start or plan.start_hook or plan.confirm or plan.confirm_hook or plan.save
            quiet = not news and (plan.status is None or plan.status == self.status)
            self.carry_out(plan)
            if quiet:
                return plan
        raise AssertionError(f"still planning: {plan}")

    def _job(self, attempt: int) -> JobBuilder:
        job = JobBuilder(self.run, attempt)
        job._document = copy.deepcopy(self._jobs[attempt])
        return job.at(self._next())

    def _payload_of(self, attempt: int) -> Payload:
        job = self._jobs[attempt]
        its = {**job["metadata"]["annotations"], **job["spec"]["template"]["metadata"]["annotations"]}
        return Payload(its[names.ANNOTATION_SPEC], its[names.ANNOTATION_INPUTS], its[names.ANNOTATION_SETTINGS])

    def _put_run(self, run: dict[str, Any]) -> None:
        run["metadata"]["resourceVersion"] = str(self._next())
        assert self.store.put_run(run) == [key_of(run)]

    def _next(self) -> int:
        self._version += 1
        return self._version

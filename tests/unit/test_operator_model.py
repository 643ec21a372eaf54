"""The whole operator but its watches' wire, in a simulated cluster where anything may happen at any time.

A history is a list of steps and numbers; a step that does not apply does nothing, and a number picks what it is
applied to. So a history that fails shrinks well, and can stand in HISTORIES as it is printed.
To search deeper: `CREWRUN_MODEL_EXAMPLES=20000 pytest tests/unit/test_operator_model.py` (other histories each time).
"""

import asyncio
import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st

from crewrun_api import names
from crewrun_api.reasons import Outcome, Phase, Reason
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_operator import clock, feed, paths
from crewrun_operator.controller import Controller
from crewrun_operator.metrics import Metrics
from crewrun_operator.settings import OperatorSettings
from crewrun_operator.store import Store
from crewrun_operator.times import stamp
from tests.unit.builders import DEFAULTS, NAMESPACE, NOON, CrewBuilder, QueueBuilder, RunBuilder
from tests.unit.fake_api import Document
from tests.unit.fake_clock import run_at_once
from tests.unit.simulated_cluster import Machinery, Request, SimulatedApi, alive, kind_of, whose

SETTINGS = OperatorSettings(runner_image="runner:1", workers=2, resync_seconds=300)
ATTEMPTS, DISRUPTIONS = 2, 1
RETRY = {"maxAttempts": ATTEMPTS, "maxDisruptions": DISRUPTIONS, "backoff": {"initialSeconds": 2}}
RUNS = [paths.custom(paths.CREWRUNS, NAMESPACE, name) for name in ("report", "other")]
CREW = paths.custom(paths.CREWS, NAMESPACE, "research")
QUEUE = paths.custom(paths.QUEUES, NAMESPACE, "lane")
MORE = paths.config_maps(NAMESPACE, "more")
INPUTS_FROM = [{"configMapRef": {"name": "more"}}]
SECONDS = (0.5, 2, 10, 60, 400)
_MOMENT = 0.001


class Promises:
    """What holds of every write, whatever happened before it; and of every moment.

    When somebody takes a Pod away by force, its Job may make another after the attempt was closed. The operator ends
    such a stray once it sees it, but cannot prevent it: attempts with more than one execution may overlap others.
    """

    def __init__(self, api: SimulatedApi, machinery: Machinery) -> None:
        self.api, self.machinery = api, machinery
        self.broken: list[str] = []
        self.places = 0  # how many attempts may be open at once; 0: any number
        self._stopped: set[tuple[str, int]] = set()  # attempts whose Job the operator deleted
        self.crews: dict[str, Document] = {}  # the crew's metadata when a run was made, by the run's UID
        self._before_rerun: dict[str, int] = {}  # attempts that were made before a run was run again

    def moment(self) -> None:
        """At most one attempt of a run is at work."""
        pods = [self.api.objects[path] for path in self.machinery.pods("Running")]
        runs = Counter(uid for uid, _ in {whose(pod) for pod in pods if alive(pod) and self._single(*whose(pod))})
        self._expect(all(count == 1 for count in runs.values()), "two attempts run at the same time")

    def is_expected(self, path: str) -> bool:
        """Whether a Pod is of an attempt that is open."""
        pod = self.api.objects[path]
        uid, attempt = whose(pod)
        return any(open_attempt(run) == attempt for run in self.api.objects.values() if run["metadata"]["uid"] == uid)

    def write(self, request: Request, before: Document | None, after: Document | None) -> None:
        kind = request.path.removesuffix("/status").split("/")[-1 if request.verb == "POST" else -2]
        match request.verb, kind:
            case "POST", paths.JOBS:
                self._job_made(after or {})
            case "DELETE", paths.JOBS:
                self._stopped.add(whose(before or {}))
            case "PATCH", paths.CREWRUNS:
                self._status_written(request, before or {}, after or {})

    def _job_made(self, job: Document) -> None:
        uid, attempt = whose(job)
        owner = job["metadata"]["ownerReferences"][0]
        its_name = names.job_name(owner["name"], uid, attempt)
        self._expect((owner["uid"], job["metadata"]["name"]) == (uid, its_name), "a Job belongs to its run alone")
        for run in (run for run in self.api.objects.values() if run["metadata"]["uid"] == uid):
            resumed = run["spec"].get("suspend") is False  # before anybody saw that the attempt was over
            self._expect((uid, attempt) not in self._stopped or resumed, "a Job that was stopped is made again")
            self._expect(open_attempt(run) == attempt, "a Job is made without its attempt in the status")
            template = job["spec"]["template"]["metadata"]["annotations"]
            parts = [template[key].encode() for key in (names.ANNOTATION_SPEC, names.ANNOTATION_INPUTS)]
            accepted = run["status"]["crew"]["digest"]
            self._expect(names.payload_digest(*parts) == accepted, "a Job runs something else than was accepted")
        for pod in (self.api.objects[path] for path in self.machinery.pods("Pending", "Running")):
            its_uid, its = whose(pod)
            other = its_uid == uid and its != attempt and alive(pod) and self._single(its_uid, its)
            self._expect(not other, f"attempt {attempt} is made while attempt {its} is alive")

    def _status_written(self, request: Request, before: Document, after: Document) -> None:
        old, new = (RunStatus.model_validate(each.get("status") or {}) for each in (before, after))
        uid, name = after["metadata"]["uid"], after["metadata"]["name"]
        was, now = ({attempt.number: attempt for attempt in status.attempts} for status in (old, new))
        rerun = before["spec"].get("rerun") not in (None, (before.get("status") or {}).get("rerun"))
        if rerun and old.phase and old.phase.ended:
            self._before_rerun[uid] = old.attempt_count
        else:
            end = RunStatus.model_fields.keys() - {"conditions", "observed_generation"}
            same = all(getattr(new, field) == getattr(old, field) for field in end)
            self._expect(same or not (old.phase and old.phase.ended), "an end has changed")
        suspended = sum(each.reason is Reason.SUSPENDED for each in new.attempts)  # these count for nothing
        made = new.attempt_count - self._before_rerun.get(uid, 0) - suspended
        self._expect(made <= ATTEMPTS + DISRUPTIONS and new.disruptions <= DISRUPTIONS + 1, "too many attempts")
        self._expect(new.attempt_count - old.attempt_count in (0, 1), "attempts are counted one by one")
        runs = [run for path, run in self.api.objects.items() if kind_of(path) == paths.CREWRUNS]
        held = sum(open_attempt(run) is not None for run in runs if run.get("status", {}).get("queue"))
        self._expect(not self.places or held <= self.places, "more attempts are open than the queue has places")
        self._expect([*now] == [*range(1, new.attempt_count + 1)][-10:], "an attempt's number is lost or used again")
        if new.crew and (crew := self.crews.get(uid)) and crew["uid"] == new.crew.uid:
            self._expect((new.crew.generation or 0) >= crew["generation"], "the crew is older than the run")
        self._expect(all(each.outcome for each in new.attempts[:-1]), "two attempts are open")
        for number, attempt in now.items():
            self._expect(attempt.job == names.job_name(name, uid, number), "the Job of another run")
            if (earlier := was.get(number)) and earlier.outcome:
                self._expect(attempt == earlier, "the end of an attempt has changed")
            elif attempt.outcome:
                self._attempt_closed(request, uid, attempt, new)
        used = sum(each.usage.total_tokens for each in new.attempts if each.usage)
        told = new.usage.total_tokens if new.usage else 0
        self._expect(told == used or new.attempt_count > 10, "usage is not the sum over attempts")
        succeeded = bool(new.attempts) and new.attempts[-1].outcome is Outcome.SUCCEEDED
        self._expect(succeeded or new.phase is not Phase.SUCCEEDED, "the run's success is not its last attempt's")

    def _attempt_closed(self, request: Request, uid: str, attempt: AttemptStatus, new: RunStatus) -> None:
        """Nothing of it may be alive. A record counts if it is in the cluster, or was told to the operator."""
        its, executions = (uid, attempt.number), self.machinery.executions[uid, attempt.number]
        objects = {each["metadata"]["uid"]: (kind_of(path), each) for path, each in self.api.objects.items()}
        mine = [
            (kind, each) for kind, each in objects.values() if kind in (paths.JOBS, paths.PODS) and whose(each) == its
        ]
        left = executions == 1 and any(kind == paths.PODS and alive(each) for kind, each in mine)
        self._expect(not left, "an attempt is closed before its Pod has ended")
        self._expect(executions or not mine, "an attempt is closed while its Job may still make a Pod")
        found = self.machinery.records.items()
        records = {pod: record for pod, record in found if (record.run_uid, record.attempt) == its}
        if attempt.outcome is Outcome.SUCCEEDED or (attempt.usage and attempt.usage.total_tokens):
            said = records.get(attempt.pod_uid or "")
            if said is None:
                self._expect(False, "an end without a record of this very Pod")
                return
            self._expect(said.outcome is attempt.outcome, "another outcome than the record's")
            self._expect(said.usage == attempt.usage, "another usage than the record's")
            success = attempt.outcome is Outcome.SUCCEEDED
            self._expect(not success or new.phase is Phase.SUCCEEDED, "an attempt has succeeded and its run has not")
        elif executions == 1:
            known = (request.told | objects.keys()) & records.keys()
            self._expect(not known, "a record that was there is not believed")

    def _single(self, uid: str, attempt: int) -> bool:
        return self.machinery.executions[uid, attempt] == 1

    def _expect(self, kept: object, broken: str) -> None:
        if not kept:
            self.broken.append(broken)


def open_attempt(run: Document) -> int | None:
    newest = ((run.get("status") or {}).get("attempts") or [{"outcome": "none"}])[-1]
    return None if "outcome" in newest else newest["number"]


class World:
    """An operator at work in a simulated cluster."""

    def __init__(self, places: int = 0, kueue: bool = False, **spec: Any) -> None:
        """With `places` there is a queue of so many, and runs are in it, unless they wait for Kueue."""
        self._labels = {names.LABEL_KUEUE_QUEUE: "gpu"} if kueue else {}
        self._spec = {"retry": RETRY, **spec}
        self._places = places
        self._begun, self._made = asyncio.get_running_loop().time(), 0
        self.api = SimulatedApi(self.now)
        self.machinery = Machinery(self.api)
        self.promises = Promises(self.api, self.machinery)
        self.api.observe = self.promises.write
        self.promises.places = places
        self.make_crew()
        self.make_config_map()
        self.make_queue()
        self.make_run(0)
        self.start_operator()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=asyncio.get_running_loop().time() - self._begun)

    def make_crew(self, n: int = 0) -> None:
        if CREW not in self.api.objects:
            self.api.add(CREW, CrewBuilder().build())

    def make_config_map(self, n: int = 0) -> None:
        if MORE not in self.api.objects:
            metadata = {"name": "more", "namespace": NAMESPACE}
            self.api.add(MORE, {"metadata": metadata, "data": {"more": "words"}})

    def make_queue(self, n: int = 0) -> None:
        if self._places and QUEUE not in self.api.objects:
            self.api.add(QUEUE, QueueBuilder(maxConcurrentRuns=self._places).build())

    def make_run(self, n: int) -> None:
        """From 6 on its UID begins like that of the first."""
        path = RUNS[n % 2]
        if path not in self.api.objects:
            uid = f"{self._made if n < 6 else 0:05}aaa-0000-4000-8000-{self._made:012}"
            run = RunBuilder().spec(**self._spec).metadata(name=path.rpartition("/")[2], uid=uid, labels=self._labels)
            self.api.add(path, run.build())
            self._made += 1
            self.promises.crews[uid] = self.api.objects.get(CREW, {"metadata": {"uid": ""}})["metadata"]

    def start_operator(self) -> None:
        """A new process: it knows nothing, and its watches begin with a list."""
        self.metrics = metrics = Metrics()
        store = self.make_store(metrics)
        controller = Controller(SETTINGS, self.api, store, metrics)  # type: ignore[arg-type]
        self.feed = feed.takers(store, controller.seen)
        self.api.told.clear()
        for kind in self.feed:
            self.api.lose_watch(kind)
        self.operator = asyncio.create_task(controller.run())

    def make_store(self, metrics: Metrics) -> Store:
        return Store(DEFAULTS, changed=metrics.changed)

    async def stop_operator(self) -> None:
        self.operator.cancel()
        await asyncio.wait([self.operator])

    async def settle(self, seconds: float = _MOMENT) -> None:
        """Everybody does what they can; a process that ends is started again."""
        await asyncio.sleep(seconds)
        self.promises.moment()
        assert not self.promises.broken, self.promises.broken
        if self.operator.done():
            self.api.trace(f"the operator ends: {self.operator.exception()!r}")
            self.start_operator()
            await self.settle()

    async def serve(self, n: int = 0) -> None:
        while waiting := [*self.api.requests]:
            for request in waiting:
                self.api.answer(request)
            await self.settle()

    async def deliver(self, n: int, most: int = 1_000_000) -> None:
        """Up to so many events of one of the kinds that have some."""
        kinds = [kind for kind in self.feed if self.api.watches[kind]]
        for kind in kinds[n % len(kinds) :][:1] if kinds else []:
            for _ in range(min(most, len(self.api.watches[kind]))):
                self.feed[kind](self.api.deliver(kind))

    async def keep_up(self, n: int = 0) -> None:
        await self.serve()
        while any(self.api.watches[kind] for kind in self.feed):
            await self.deliver(0)
        await self.settle()
        await self.serve()

    async def wait(self, n: int) -> None:
        """While it is long everything is answered."""
        seconds = SECONDS[n % len(SECONDS)]
        while seconds > 10:
            await self.settle(10)
            await self.serve()
            seconds -= 10
        await self.settle(seconds)

    async def crash(self, n: int) -> None:
        """Of the requests that are under way some arrive all the same."""
        self.api.trace("the operator is killed")
        for number, request in enumerate([*self.api.requests]):
            if not request.arrived and n >> number & 1:
                self.api.arrive(request)
        await self.stop_operator()
        self.start_operator()

    def go_on(self, n: int) -> bool:
        if steps := self.machinery.next_steps():
            name, step = steps[n % len(steps)]
            self.api.trace(name)
            step()
        return bool(steps)

    async def come_to_rest(self) -> None:
        """No more faults; everything takes its course until nothing is written for a long time."""
        self.api.trace("all goes well from here")
        self.api.prompt = True
        quiet = 0.0
        for _ in range(400):
            written = self.written()
            await self.keep_up()
            for pod in filter(self.promises.is_expected, self.machinery.pods("Running")):
                self.machinery.end(pod, "succeeds")
            went_on = self.go_on(0)
            await self.settle(_MOMENT if went_on else 30)
            quiet = 0 if went_on or self.written() > written else quiet + 30
            if quiet > 2.5 * SETTINGS.resync_seconds:
                assert not self.machinery.pods("Running"), "a runner is left that nobody waits for"
                return
        raise AssertionError(f"the operator never comes to rest: {self.api.writes[-5:]}")

    def written(self) -> int:
        """Writes, but for those that say how long runs have waited by now."""
        return sum("crewqueues" not in write for write in self.api.writes)

    def admits(self) -> bool:
        """Whether the queue lets runs begin."""
        queue = self.api.objects.get(QUEUE)
        return queue is not None and queue["spec"].get("stopPolicy", "None") == "None"

    def statuses(self) -> dict[str, RunStatus]:
        found = {path: self.api.objects[path] for path in RUNS if path in self.api.objects}
        return {
            path.rpartition("/")[2]: RunStatus.model_validate(run.get("status") or {}) for path, run in found.items()
        }


Doing = Callable[[World, int], object]  # or a coroutine


def _request(fate: Callable[[SimulatedApi, Request], None], *arrived: bool) -> Doing:
    """Something happens to a request; `arrived` says which."""

    def doing(world: World, n: int) -> None:
        if waiting := [each for each in world.api.requests if each.arrived in arrived]:
            fate(world.api, waiting[n % len(waiting)])

    return doing


def _pod(what: Callable[[Machinery, str], None], *phases: str) -> Doing:
    """Something happens to a Pod in one of these phases."""

    def doing(world: World, n: int) -> None:
        if pods := world.machinery.pods(*phases):
            world.api.trace(f"to {pods[n % len(pods)].rpartition('/')[2]}:")
            what(world.machinery, pods[n % len(pods)])

    return doing


def _to(kind: str, do: Callable[[SimulatedApi, str], object]) -> Doing:
    """Somebody does something to an object of a kind."""

    def doing(world: World, n: int) -> None:
        if found := [path for path in world.api.objects if kind_of(path) == kind]:
            do(world.api, found[n % len(found)])

    return doing


def _to_job(what: Callable[[Machinery, str], None]) -> Doing:
    """Something happens to a Job."""

    def doing(world: World, n: int) -> None:
        if found := [path for path in world.api.objects if kind_of(path) == paths.JOBS]:
            what(world.machinery, found[n % len(found)])

    return doing


def _edit(kind: str, *path: str, of: Callable[[SimulatedApi, Any], Any]) -> Doing:
    """Somebody sets a field, to a value made of the old one."""

    def edit(api: SimulatedApi, its: str) -> None:
        old: Any = api.objects[its]
        old = functools.reduce(lambda document, key: (document or {}).get(key), path, old)
        api.change(its, functools.reduce(lambda inner, key: {key: inner}, reversed(path), of(api, old)))

    return _to(kind, edit)


def _broken_watch(world: World, n: int) -> None:
    world.api.lose_watch([*world.feed][n % len(world.feed)])


def _ends(how: str) -> Doing:
    return _pod(lambda machinery, pod: machinery.end(pod, how), "Running")


def _stopped(old: str | None) -> str:
    return {None: "Hold", "None": "HoldAndDrain", "Hold": "HoldAndDrain"}.get(old, "None")


_GOAL = ("spec", "definition", "agents", "writer", "goal")
_RUNS, _CREWS, _PODS, _JOBS = paths.CREWRUNS, paths.CREWS, paths.PODS, paths.JOBS
#: What may happen, and how often it does.
STEPS: dict[str, tuple[int, Doing]] = {
    "nothing": (1, lambda world, n: None),
    "everything is served and delivered": (24, World.keep_up),
    "every request is served": (16, World.serve),
    "a request is served": (8, _request(SimulatedApi.answer, False)),
    "a request arrives": (3, _request(SimulatedApi.arrive, False)),
    "an answer is let through": (3, _request(SimulatedApi.let_through, True)),
    "a request is lost": (2, _request(SimulatedApi.lose, False)),
    "an answer is lost": (
        3,
        _request(SimulatedApi.lose_answer, True, False),
    ),
    "the API server fails": (
        1,
        _request(SimulatedApi.fail, False),
    ),
    "a watch delivers an event": (8, lambda world, n: world.deliver(n, 1)),
    "a watch delivers all it has": (10, World.deliver),
    "a watch breaks": (2, _broken_watch),
    "the operator is killed": (3, World.crash),
    "time passes": (12, World.wait),
    "the cluster goes on": (24, World.go_on),
    **{f"a runner {how}": (2, _ends(how)) for how in Machinery.ENDINGS},
    "an image cannot be pulled": (1, _pod(Machinery.hold_up, "Pending")),
    "a Pod is evicted": (2, _pod(Machinery.evict, "Running")),
    "a Pod is deleted": (2, _to(_PODS, SimulatedApi.terminate)),
    "a Pod is deleted by force": (2, _pod(Machinery.remove_pod, "Pending", "Running", "Succeeded", "Failed")),
    "a Job is deleted": (2, _to(_JOBS, SimulatedApi.terminate)),
    "Kueue takes a place back": (3, _to_job(Machinery.suspend)),
    "a run is made": (4, World.make_run),
    "a run is cancelled": (2, _edit(_RUNS, "spec", "cancel", of=lambda api, old: True)),
    "a run is suspended, or no longer": (2, _edit(_RUNS, "spec", "suspend", of=lambda api, old: not old)),
    "a run is to run again": (1, _edit(_RUNS, "spec", "rerun", of=lambda api, old: str(len(api.writes)))),
    "a run is labelled": (1, _edit(_RUNS, "metadata", "labels", "n", of=lambda api, old: f"{old}n")),
    "a run is deleted": (2, _to(_RUNS, SimulatedApi.terminate)),
    "a run goes after all it owns": (1, _edit(_RUNS, "metadata", "deletionTimestamp", of=lambda api, old: stamp(NOON))),
    "the crew is edited": (1, _edit(_CREWS, *_GOAL, of=lambda api, old: f"{old} Briefly.")),
    "the crew is deleted": (1, _to(_CREWS, SimulatedApi.terminate)),
    "the crew is made": (2, World.make_crew),
    "the queue is deleted": (1, _to(paths.QUEUES, SimulatedApi.terminate)),
    "the queue is made": (2, World.make_queue),
    "the queue is stopped, or no longer": (
        2,
        _edit(paths.QUEUES, "spec", "stopPolicy", of=lambda api, old: _stopped(old)),
    ),
    "a ConfigMap is edited": (1, _edit("configmaps", "data", "more", of=lambda api, old: f"{old}, words")),
    "a ConfigMap is deleted": (1, _to("configmaps", SimulatedApi.terminate)),
    "a ConfigMap is made": (2, World.make_config_map),
}
History = list[tuple[str, int]]
histories = st.lists(
    st.tuples(st.sampled_from([name for name, (weight, _) in STEPS.items() for _ in range(weight)]), st.integers(0, 7)),
    min_size=30,
    max_size=120,
)


def play(history: History, spec: dict[str, Any], make: Callable[..., World] = World) -> World:
    """The world after a history and a rest; what happened in it is printed if a promise is broken."""
    world: World | None = None

    async def story() -> None:
        nonlocal world
        world = make(**spec)
        clock.now = world.now
        await world.settle()
        for name, n in history:
            doing = STEPS[name][1](world, n)
            if inspect.isawaitable(doing):
                await doing
            await world.settle()
        await world.come_to_rest()
        await world.stop_operator()

    real = clock.now
    try:
        with structlog.testing.capture_logs() as logs:
            run_at_once(story())
        errors = sum(line["event"] == "decision failed" for line in logs)
        assert world and errors <= world.api.losses * len(RUNS), "an error of our own"  # a look may be for both
        for status in world.statuses().values():
            refused = any(each.type == "Accepted" and each.status == "False" for each in status.conditions)
            waits = status.phase is Phase.SUSPENDED or refused or (status.phase is Phase.QUEUED and not world.admits())
            assert status.phase and (status.phase.ended or waits), f"nobody knows what {status.phase} waits for"
    except AssertionError as error:
        error.add_note(
            "\n".join([str([step for step in history if step[0] != "nothing"]), *(world.api.told_of if world else [])])
        )
        raise
    finally:
        clock.now = real
    return world


EXAMPLES = int(os.environ.get("CREWRUN_MODEL_EXAMPLES", 0))


@settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[*HealthCheck],
    database=None,
    phases=[Stage.generate, Stage.shrink],
    report_multiple_bugs=False,
)
@given(
    histories,
    st.fixed_dictionaries(
        {},
        optional={
            "timeoutSeconds": st.just(300),
            "attemptTimeoutSeconds": st.just(5),
            "inputsFrom": st.just(INPUTS_FROM),
            "places": st.integers(1, 2),
            "kueue": st.just(True),
        },
    ),
)
def test_no_history_breaks_a_promise(history: History, spec: dict[str, Any]) -> None:
    play(history, spec)


SERVED, ON = ("everything is served and delivered", 0), ("the cluster goes on", 0)
RUNNING = [SERVED, ON, ON, SERVED]  # an attempt whose runner has just begun
JOB_IS_ASKED_FOR = [("a request is served", 0)] * 10  # six lists, crew, profiles, queues, status
GONE_BY_FORCE = [*RUNNING, ("time passes", 1), SERVED, ("a Pod is deleted by force", 0)]
HISTORIES: dict[str, tuple[History, str]] = {
    "a run that nobody disturbs": ([], "Succeeded: Completed"),
    "the operator dies before its Job is made": (
        [*JOB_IS_ASKED_FOR, ("the operator is killed", 0)],
        "Succeeded: Completed",
    ),
    "the operator dies before it hears that its Job is made": (
        [*JOB_IS_ASKED_FOR, ("the operator is killed", 1)],
        "Succeeded: Completed",
    ),
    "the request for a Job is lost, then the answer to it, and the run is cancelled": (
        [*JOB_IS_ASKED_FOR, ("a request is lost", 0), ("time passes", 0), *[("a request is served", 0)] * 2,
         ("an answer is lost", 0), ("a run is cancelled", 0), ("a watch delivers all it has", 0)],
        "Cancelled: Cancelled",
    ),
    "the answer to the request for a Job is lost, and the run is cancelled": (
        [*JOB_IS_ASKED_FOR, ("an answer is lost", 0), ("a run is cancelled", 0), ("a watch delivers all it has", 0)],
        "Cancelled: Cancelled",
    ),
    "the end of a Job is seen before its Pod": (
        [SERVED, SERVED, ON, ON, ("a runner succeeds", 0), ON, ("a watch delivers all it has", 0)],
        "Succeeded: Completed",
    ),
    "a Pod goes while its watch is broken": (
        [*GONE_BY_FORCE, ("a watch breaks", 4)],
        "Succeeded: RunnerLost, Completed",
    ),
    "a Pod goes by force, and its Job makes another that succeeds": (
        [*GONE_BY_FORCE, ("the cluster goes on", 1), ON, ("a runner succeeds", 0)],
        "Succeeded: PodDeleted, Completed",
    ),
    "a Pod goes by force, and its Job makes another when the attempt is closed": (
        [*GONE_BY_FORCE, SERVED, ("the cluster goes on", 1), ON, SERVED],
        "Succeeded: PodDeleted, Completed",
    ),
    "a run is made again while a status of the one before it is on its way": (
        [*JOB_IS_ASKED_FOR[1:], ("a run is deleted", 0), ("a run is made", 0), SERVED],
        "Succeeded: Completed",
    ),
    "a Pod that has succeeded goes, a look finds none, and then its watch tells of its end": (
        [SERVED, ON, ON, ("a runner succeeds", 0), ON, ("a run is cancelled", 0), ("a watch delivers an event", 1),
         ("a watch delivers an event", 1), ("a Pod is deleted", 0)],
        "Succeeded: Completed",
    ),
    "a Pod on a drained node ends, and its watch does not tell": (
        [SERVED, ON, ON, ("a Pod is evicted", 0), SERVED, ON, ("time passes", 4)],
        "Succeeded: Evicted, Completed",
    ),
    "a run is made again while the Pod of the one before it runs": (
        [*RUNNING, ("a run is deleted", 0), ("a run is made", 0), SERVED],
        "Succeeded: Completed",
    ),
    "a run is made again whose UID begins like that of the one before it": (
        [*RUNNING, ("a run is deleted", 0), ("a run is made", 6), SERVED],
        "Failed: JobRejected",
    ),
    "a crew is edited before a run is made, and seen after it": (
        [*RUNNING, ("the crew is edited", 0), ("a run is deleted", 0), ("a run is made", 0),
         ("a watch delivers an event", 0), ("a watch delivers an event", 0), ("every request is served", 0)],
        "Succeeded: Completed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_ends_as_it_should(name: str) -> None:
    history, end = HISTORIES[name]
    status = play(history, {}).statuses()["report"]
    assert f"{status.phase}: {', '.join(str(each.reason) for each in status.attempts)}" == end


CONFIG_MAP_HISTORIES: dict[str, tuple[History, str]] = {
    "nobody disturbs it": ([], "Succeeded: Completed"),
    "it is gone at first": (
        [("a ConfigMap is deleted", 0), SERVED, ("time passes", 3), ("a ConfigMap is made", 0)],
        "Succeeded: Completed",
    ),
    "it is edited while the first attempt runs": (
        [*RUNNING, ("a ConfigMap is edited", 0), ("a runner fails", 0), SERVED],
        "Succeeded: TaskFailed, Completed",
    ),
    "it is edited, and the operator dies before the Job is made": (
        [*JOB_IS_ASKED_FOR, ("a request is served", 0), ("a request is lost", 0), ("a ConfigMap is edited", 0),
         ("the operator is killed", 0)],
        "Failed: CrewChanged",
    ),
    "the operator dies before the Job is made": (
        [*JOB_IS_ASKED_FOR, ("a request is served", 0), ("a request is lost", 0), ("the operator is killed", 0)],
        "Succeeded: Completed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIG_MAP_HISTORIES)
def test_a_run_that_is_made_of_a_config_map_ends_as_it_should(name: str) -> None:
    history, end = CONFIG_MAP_HISTORIES[name]
    status = play(history, {"inputsFrom": INPUTS_FROM}).statuses()["report"]
    assert f"{status.phase}: {', '.join(str(each.reason) for each in status.attempts)}" == end


QUEUED = [SERVED, ON, SERVED]  # its Job is suspended, and its controller has said so
LET_GO = [ON, ON, *RUNNING]  # Kueue lets it go, its controller starts it, and its runner begins
TAKEN_BACK, POD_ON = ("Kueue takes a place back", 0), ("the cluster goes on", 1)
STOPPED = [ON, POD_ON]  # the Job controller deletes the Pod, and its runner ends
KUEUE_HISTORIES: dict[str, tuple[History, str]] = {
    "nobody disturbs it": ([], "Succeeded: Completed"),
    "it is preempted": ([*QUEUED, *LET_GO, TAKEN_BACK, *STOPPED, SERVED], "Succeeded: Preempted, Completed"),
    "it is preempted, and its Pod is gone before the operator hears of the Job": (
        [*QUEUED, *LET_GO, TAKEN_BACK, *STOPPED, POD_ON, ("a watch delivers all it has", 1)],
        "Succeeded: Preempted, Completed",
    ),
    "it is preempted, and succeeds all the same": (
        [*QUEUED, *LET_GO, TAKEN_BACK, ON, ("a runner succeeds", 0), SERVED],
        "Succeeded: Completed",
    ),
    "its place is taken back before its runner began": (
        [*QUEUED, ON, ON, ON, SERVED, TAKEN_BACK, ON, ON, SERVED],
        "Succeeded: Completed",
    ),
    "it is cancelled while it waits": ([*QUEUED, ("a run is cancelled", 0), SERVED], "Cancelled: Cancelled"),
    "it is preempted, and the operator is killed": (
        [*QUEUED, *LET_GO, TAKEN_BACK, *STOPPED, ("the operator is killed", 0)],
        "Succeeded: Preempted, Completed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KUEUE_HISTORIES)
def test_a_run_that_kueue_admits_ends_as_it_should(name: str) -> None:
    history, end = KUEUE_HISTORIES[name]
    status = play(history, {"kueue": True}).statuses()["report"]
    assert f"{status.phase}: {', '.join(str(each.reason) for each in status.attempts)}" == end


@pytest.mark.parametrize(("steps", "writes"), [([ON], 3), ([ON, ("time passes", 1)], 4)])
def test_what_a_run_costs_that_succeeds_at_once(steps: History, writes: int) -> None:
    """One write more when its runner is seen running for a second or longer."""
    world = play([SERVED, ON, *steps, SERVED, ("a runner succeeds", 0), SERVED], {})
    assert len(world.api.writes) == writes

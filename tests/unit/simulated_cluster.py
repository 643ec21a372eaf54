"""A cluster in memory, one step at a time: what an API server, its controllers and a kubelet may do, and when.

`SimulatedApi` stands behind the methods of `Api`. A request waits until the test lets it arrive, and its answer
until the test lets it through; each kind's watch is a stream of its own. It knows paths and not kinds.
`Machinery` is the Job controller, the kubelet, the garbage collector, and people who take things away.
"""

import asyncio
import copy
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from crewrun_api import names
from crewrun_api.outcome import OutcomeRecord
from crewrun_api.reasons import ExitCode, Reason
from crewrun_operator import paths
from crewrun_operator.api import ApiError, events_of
from crewrun_operator.times import parse, stamp
from tests.unit.builders import PodBuilder, RecordBuilder, a_usage
from tests.unit.fake_api import Document, Lost, merged

Step = tuple[str, Callable[[], object]]
_CLIENT_TIMEOUT = 30
_CHUNK = 2
_OVER = ("Succeeded", "Failed")


@dataclass(eq=False)
class Request:
    """A request of the operator, under way."""

    verb: str
    path: str
    work: Callable[[], Any]
    answer: asyncio.Future[Any]
    told: frozenset[str]  # Pods whose end the operator had been told of when it asked
    arrived: bool = False
    result: Any = None
    error: Exception | None = None

    def __str__(self) -> str:
        return f"{self.verb} {'/'.join(self.path.split('/')[-3:])}"


class SimulatedApi:
    """The API server. Documents are never changed in place, so nobody needs a copy of one."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.objects: dict[str, Document] = {}
        self.requests: list[Request] = []
        self.watches: defaultdict[str, deque[Document]] = defaultdict(deque)
        self.prompt = False  # whether every request is answered at once
        self.writes: list[str] = []  # that arrived
        self.told: set[str] = set()  # Pods whose end the operator was told of
        self.told_of: list[str] = []  # what happened, for people
        self.losses = 0  # requests that the operator got no answer to
        self.observe: Callable[[Request, Document | None, Document | None], None] = lambda *_: None
        self._version, self._numbers = 1000, itertools.count(1)

    # The methods of Api.

    async def get(self, path: str) -> Document:
        document: Document = await self._ask("GET", path, lambda: self._found(path))
        return document

    async def find(self, path: str) -> Document | None:
        found: Document | None = await self._ask("GET", path, lambda: self.objects.get(path))
        return found

    async def pages(self, path: str, **query: str) -> AsyncIterator[Document]:
        def work() -> tuple[list[Document], str]:
            found = self._listed(path, query.get("labelSelector", ""))
            if query.get("fieldSelector"):
                assert query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
                found = [pod for pod in found if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
            return found, str(self._version)

        items, version = await self._ask("LIST", path, work)
        for start in range(0, max(len(items), 1), _CHUNK):
            yield {"metadata": {"resourceVersion": version}, "items": items[start : start + _CHUNK]}

    async def everything(self, path: str, **query: str) -> AsyncIterator[list[Document]]:
        async for events in events_of(self.pages(path, **query)):
            yield events

    async def create(self, path: str, body: Document) -> Document:
        def work() -> Document:
            its = f"{path}/{body['metadata']['name']}"
            if its in self.objects:
                raise ApiError(409, "AlreadyExists", f"{its} already exists")
            return self.add(its, {key: value for key, value in body.items() if key != "status"})

        document: Document = await self._ask("POST", path, work)
        return document

    async def merge_patch(self, path: str, body: Document) -> Document:
        document: Document = await self._ask("PATCH", path, lambda: self._patched(path, body))
        return document

    async def replace(self, path: str, body: Document) -> Document:
        def work() -> Document:
            old, metadata = self._found(path), body["metadata"]
            self._expect(old["metadata"], resourceVersion=metadata.get("resourceVersion"), uid=metadata.get("uid"))
            kept = {key: old["metadata"][key] for key in ("uid", "creationTimestamp", "generation")}
            status = {"status": old["status"]} if "status" in old else {}
            return self._put(path, "MODIFIED", merged({**copy.deepcopy(body), **status}, {"metadata": kept}))

        document: Document = await self._ask("PUT", path, work)
        return document

    async def delete(self, path: str, uid: str | None = None) -> None:
        def work() -> None:
            self._expect(self._found(path)["metadata"], uid=uid)
            self.terminate(path)

        await self._ask("DELETE", path, work)

    # What becomes of a request.

    def arrive(self, request: Request) -> None:
        """The API server does what it is asked."""
        self.trace(f"arrives: {request}")
        request.arrived = True
        path = request.path.removesuffix("/status")
        before = self.objects.get(path)
        try:
            request.result = request.work()
        except ApiError as error:
            request.error = error
        if request.verb not in ("GET", "LIST"):
            self.writes.append(str(request))
            if request.error is None:
                self.observe(request, before, request.result if request.verb == "POST" else self.objects.get(path))

    def let_through(self, request: Request) -> None:
        """The operator gets its answer."""
        if request.answer.done():
            return
        if request.error is not None:
            request.answer.set_exception(request.error)
            return
        for each in request.result[0] if request.verb == "LIST" else [request.result or {}]:
            self._tells(each)
        request.answer.set_result(request.result)

    def answer(self, request: Request) -> None:
        """Both, if it has not arrived."""
        if not request.arrived:
            self.arrive(request)
        self.let_through(request)

    def lose(self, request: Request) -> None:
        """The connection breaks before the request arrives."""
        self._end(request, Lost(f"lost: {request}"))

    def lose_answer(self, request: Request) -> None:
        """The connection breaks once it has arrived."""
        if not request.arrived:
            self.arrive(request)
        self._end(request, Lost(f"lost: the answer to {request}"))

    def fail(self, request: Request) -> None:
        """The API server can do nothing at all."""
        self._end(request, ApiError(500, "InternalError", f"failed: {request}"))

    def _end(self, request: Request, error: Exception) -> None:
        if (
            "/namespaces/" in request.path and not request.answer.done()
        ):  # else it is a resync, whose failure is a restart
            self.trace(str(error))
            request.arrived = True
            request.answer.set_exception(error)

    def trace(self, what: str) -> None:
        self.told_of.append(f"{self.now():%H:%M:%S} {what}")

    async def _ask(self, verb: str, path: str, work: Callable[[], Any]) -> Any:
        request = Request(verb, path, work, asyncio.get_running_loop().create_future(), frozenset(self.told))
        self.requests.append(request)
        if self.prompt:
            self.answer(request)
        try:
            async with asyncio.timeout(_CLIENT_TIMEOUT):
                return await request.answer
        except (TimeoutError, Lost):
            self.losses += 1
            raise Lost(f"no answer to {request}") from None
        finally:
            self.requests.remove(request)

    # What others do.

    def add(self, path: str, document: Document) -> Document:
        """A new object."""
        number = next(self._numbers)
        metadata = {"creationTimestamp": stamp(self.now()), "generation": 1}
        if kind_of(path) != paths.CREWRUNS:
            metadata["uid"] = f"{number:05}000-0000-4000-8000-{number:012}"
        return self._put(path, "ADDED", merged(copy.deepcopy(document), {"metadata": metadata}))

    def change(self, path: str, patch: Document) -> Document:
        """Somebody changes what they please."""
        old = self.objects[path]
        new = merged(old, patch)
        if new == old:
            return old
        generation = old["metadata"]["generation"] + (new.get("spec") != old.get("spec"))
        return self._put(path, "MODIFIED", merged(new, {"metadata": {"generation": generation}}))

    def terminate(self, path: str) -> None:
        """Delete an object: a Pod that has not ended gets its grace period, anything else goes at once."""
        its = self.objects[path]
        if kind_of(path) == paths.PODS and its["status"]["phase"] not in _OVER:
            if "deletionTimestamp" not in its["metadata"]:
                self.change(path, {"metadata": {"deletionTimestamp": stamp(self.now())}})
        else:
            self.remove(path)

    def remove(self, path: str) -> None:
        """The object is gone."""
        self._put(path, "DELETED", self.objects[path])
        del self.objects[path]

    def lose_watch(self, kind: str) -> None:
        """A watch breaks and is made again: what it had not delivered is lost, what is there is listed."""
        listed = [each for path, each in self.objects.items() if kind_of(path) == kind]
        self.watches[kind] = deque({"type": None, "object": each} for each in listed)

    def deliver(self, kind: str) -> Document:
        """The next event of a watch."""
        event = self.watches[kind].popleft()
        self.trace(f"watch: {event['type']} {kind} {event['object']['metadata']['name']}")
        self._tells(event["object"])
        return event

    def _put(self, path: str, event: str, document: Document) -> Document:
        self._version += 1
        stored: Document = merged(document, {"metadata": {"resourceVersion": str(self._version)}})
        self.objects[path] = stored
        self.watches[kind_of(path)].append({"type": event, "object": stored})
        return stored

    def _patched(self, path: str, body: Document) -> Document:
        its = path.removesuffix("/status")
        metadata = dict(body.get("metadata") or {})
        expected = {key: metadata.pop(key, None) for key in ("resourceVersion", "uid")}
        self._expect(self._found(its)["metadata"], **expected)
        if its != path:
            return self.change(its, {"status": body["status"]})
        rest = {key: value for key, value in body.items() if key != "status"}
        return self.change(its, {**rest, "metadata": metadata})

    def _listed(self, path: str, selector: str) -> list[Document]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        head, _, kind = path.rpartition("/")
        return [
            each
            for its, each in self.objects.items()
            if its.startswith(f"{head}/")
            and kind_of(its) == kind
            and wanted.items() <= (each["metadata"].get("labels") or {}).items()
        ]

    def _found(self, path: str) -> Document:
        if path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} not found")
        return self.objects[path]

    def _expect(self, metadata: Document, **expected: str | None) -> None:
        for key, value in expected.items():
            if value not in (None, metadata[key]):
                raise ApiError(409, "Conflict", f"{key} is {metadata[key]} and not {value}")

    def _tells(self, document: Document) -> None:
        if (document.get("status") or {}).get("phase") in _OVER:
            self.told.add(document["metadata"]["uid"])


class Machinery:
    """Everybody but the operator and the users of CrewRun."""

    ENDINGS = ("succeeds", "fails", "fails for good", "is stopped", "leaves no record", "leaves the record of another")

    def __init__(self, api: SimulatedApi) -> None:
        self.api = api
        self.records: dict[str, OutcomeRecord] = {}  # what each Pod truthfully said, by its UID
        self.executions: Counter[tuple[str, int]] = Counter()  # Pods made, by run and attempt
        self._last: dict[str, str] = {}  # how the last Pod of a Job stood, by the Job's UID
        self._let_off: set[str] = set()  # Pods that went since their Job was suspended: they count as nothing
        self._numbers = itertools.count(1)

    def next_steps(self) -> list[Step]:
        """What may happen next without anybody's help."""
        uids = {each["metadata"]["uid"]: each for each in self.api.objects.values()}
        steps: list[Step] = []
        for path, its in self.api.objects.items():
            metadata = its["metadata"]
            owners = [uids.get(owner["uid"]) for owner in metadata.get("ownerReferences", [])]
            going = "deletionTimestamp" in metadata
            if owners and not going and all(o is None or "deletionTimestamp" in o["metadata"] for o in owners):
                steps.append((f"{metadata['name']} is garbage", partial(self.api.terminate, path)))
            if kind_of(path) == paths.JOBS:
                steps += self._steps_of_job(path, its)
            elif kind_of(path) == paths.PODS:
                steps += self._steps_of_pod(path, its, going)
            elif going and not any(self._owned(metadata["uid"])):
                steps.append((f"{metadata['name']} goes after all it owned", partial(self.api.remove, path)))
        return steps

    def pods(self, *phases: str) -> list[str]:
        """The paths of Pods in these phases."""
        found = [path for path in self.api.objects if kind_of(path) == paths.PODS]
        return [path for path in found if self.api.objects[path]["status"]["phase"] in phases]

    def end(self, path: str, how: str) -> None:
        """The runner of a Pod ends, in one of ENDINGS."""
        pod = self.api.objects[path]
        metadata = pod["metadata"]
        run_uid, attempt = whose(pod)
        record = RecordBuilder(attempt, 1, run_uid).with_(pod_uid=metadata["uid"], usage=self._usage(metadata["uid"]))
        code = ExitCode.SUCCEEDED
        match how:
            case "fails":
                record, code = record.failed(), ExitCode.TASK_FAILED
            case "fails for good":
                record, code = record.failed(Reason.LLM_AUTHENTICATION), ExitCode.LLM_PERMANENT
            case "is stopped":
                record, code = record.stopped(), ExitCode.STOPPED
            case "leaves the record of another":
                record = record.with_(pod_uid="another")
        if how == "leaves no record":
            status = PodBuilder().ended(137, at=self.api.now())
        else:
            status = PodBuilder().ended(code, record.text(), at=self.api.now())
            if how != "leaves the record of another":
                self.records[metadata["uid"]] = record.build()
        self._status(path, status)

    def evict(self, path: str) -> None:
        conditions = PodBuilder().disrupted("EvictionByEvictionAPI").build()["status"]["conditions"]
        self.api.change(path, {"status": {"conditions": conditions}})
        self.api.terminate(path)

    def hold_up(self, path: str) -> None:
        self._status(path, PodBuilder().waiting("ImagePullBackOff", "not there"))

    def suspend(self, path: str) -> None:
        """Kueue takes the place of a Job back."""
        if names.LABEL_KUEUE_QUEUE in self.api.objects[path]["metadata"]["labels"]:
            self.api.trace(f"Kueue takes back the place of {path.rpartition('/')[2]}")
            self.api.change(path, {"spec": {"suspend": True}})

    def remove_pod(self, path: str) -> None:
        """A Pod goes, by force if it has not ended."""
        pod = self.api.objects[path]
        if pod["metadata"]["uid"] not in self._let_off:
            self._last[pod["metadata"]["ownerReferences"][0]["uid"]] = pod["status"]["phase"]
        self.api.remove(path)

    def _steps_of_pod(self, path: str, pod: Document, going: bool) -> list[Step]:
        name, phase = pod["metadata"]["name"], pod["status"]["phase"]
        if going and phase != "Running":
            return [(f"{name} goes", partial(self.remove_pod, path))]
        if phase == "Pending":
            return [(f"{name} runs", partial(self._status, path, PodBuilder().running(self.api.now())))]
        return [(f"{name} is stopped", partial(self.end, path, "is stopped"))] if going else []

    def _steps_of_job(self, path: str, job: Document) -> list[Step]:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        conditions = {each["type"] for each in (job.get("status") or {}).get("conditions", [])}
        if conditions & {"Complete", "Failed"}:
            return []
        if (steps := self._steps_of_queue(path, job)) is not None:
            return steps
        pods = [pod for pod in self._owned(uid) if self.api.objects[pod]["metadata"]["uid"] not in self._let_off]
        phases = [self.api.objects[pod]["status"]["phase"] for pod in pods]
        last = phases[-1] if phases else self._last.get(uid)
        if last is None:
            return [(f"{name} gets a Pod", partial(self._make_pod, job))]
        if last == "Succeeded":
            return [(f"{name} is complete", partial(self._condition, path, "Complete", ""))]
        late = "FailureTarget" in conditions
        fails = (
            f"{name} has failed",
            partial(self._condition, path, "Failed", "DeadlineExceeded" if late else "BackoffLimitExceeded"),
        )
        if last == "Failed" or not pods:  # its Pod was taken away by force: that may count as a failure, or not
            return (
                [fails]
                if last == "Failed" or late
                else [fails, (f"{name} gets another Pod", partial(self._make_pod, job))]
            )
        seconds = job["spec"].get("activeDeadlineSeconds")
        begun = parse((job.get("status") or {}).get("startTime") or job["metadata"]["creationTimestamp"])
        if seconds is None or late or self.api.now() < begun + timedelta(seconds=seconds):
            return []
        return [(f"{name} is over its deadline", partial(self._over_deadline, path, pods))]

    def _steps_of_queue(self, path: str, job: Document) -> list[Step] | None:
        """What may happen to a Job that Kueue has not let go, or that is not started; None if it is."""
        name, status = job["metadata"]["name"], job.get("status") or {}
        old = [each for each in status.get("conditions", []) if each["type"] == "Suspended"]
        if job["spec"].get("suspend"):
            pods = [self.api.objects[pod] for pod in self._owned(job["metadata"]["uid"])]
            if not old or any(alive(pod) for pod in pods):
                return [(f"{name} is suspended", partial(self._suspended, path))]
            return [(f"Kueue lets {name} go", partial(self.api.change, path, {"spec": {"suspend": False}}))]
        if old:
            let_go = {"startTime": stamp(self.api.now()), "conditions": []}
            return [(f"{name} is started", partial(self.api.change, path, {"status": let_go}))]
        return None

    def _suspended(self, path: str) -> None:
        """The Job controller deletes what runs, and counts it as nothing."""
        self.api.change(path, {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}})
        for pod in self._owned(self.api.objects[path]["metadata"]["uid"]):
            if alive(self.api.objects[pod]):
                self._let_off.add(self.api.objects[pod]["metadata"]["uid"])
                self.api.terminate(pod)

    def _over_deadline(self, path: str, pods: list[str]) -> None:
        self._condition(path, "FailureTarget", "DeadlineExceeded")
        for pod in pods:
            self.api.terminate(pod)

    def _make_pod(self, job: Document) -> None:
        metadata, template = job["metadata"], job["spec"]["template"]
        number = next(self._numbers)
        self.executions[whose(job)] += 1
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        name = f"{metadata['name']}-{number:05}"
        pod = {
            "metadata": {
                **template["metadata"],
                "name": name,
                "namespace": metadata["namespace"],
                "ownerReferences": [{**owner, "controller": True}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.api.add(paths.pods(metadata["namespace"], name), pod)

    def _condition(self, path: str, type_: str, reason: str) -> None:
        old = (self.api.objects[path].get("status") or {}).get("conditions", [])
        new = {"type": type_, "status": "True", "reason": reason}
        self.api.change(path, {"status": {"conditions": [*old, new]}})

    def _status(self, path: str, like: PodBuilder) -> None:
        self.api.change(path, {"status": like.build()["status"]})

    def _owned(self, uid: str) -> list[str]:
        objects = self.api.objects.items()
        return [
            path for path, each in objects if uid in {o["uid"] for o in each["metadata"].get("ownerReferences", [])}
        ]

    def _usage(self, pod_uid: str) -> Any:
        tokens = 100 + int(pod_uid[:5])  # another figure for every Pod
        usage = a_usage(tokens)
        (model,) = usage.by_model
        priced = model.model_copy(update={"cost_usd": tokens})
        return usage.model_copy(update={"cost_usd": tokens, "by_model": [priced]})


def kind_of(path: str) -> str:
    """The kind of the object at a path, in the plural."""
    return path.split("/")[-2]


def whose(document: Document) -> tuple[str, int]:
    """The run's UID and the attempt that a Job or Pod is of."""
    labels = document["metadata"]["labels"]
    return labels[names.LABEL_RUN_UID], int(labels[names.LABEL_ATTEMPT])


def alive(pod: Document) -> bool:
    """Whether a Pod may spend tokens and nobody has told it to stop."""
    return pod["status"]["phase"] not in _OVER and "deletionTimestamp" not in pod["metadata"]

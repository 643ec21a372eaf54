"""Queues on a real API server: what they let run is read from its audit log, not from the operator."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import watch

from tests.integration.conftest import takes_reports
from tests.support.kube import GROUP, VERSION, Document, Kube, condition, crew, document, phase, run
from tests.support.operator import Operator

RUNS = int(os.environ.get("CREWRUN_QUEUE_RUNS", 1000))
PLACES = 20
SIZES = {"large": RUNS * 7 // 10, "middle": RUNS * 2 // 10, "small": RUNS - RUNS * 7 // 10 - RUNS * 2 // 10}


def test_a_queue_keeps_its_places_and_shares_over_a_kill(
    kube: Kube, audit_log: Path, certificates: Path, tmp_path: Path
) -> None:
    space = kube.within("queues")
    space.apply(*(crew(name) for name in SIZES), queue("lane", maxConcurrentRuns=PLACES, ordering="FairShare"))
    stop(space, "Hold")
    operator = Operator(kube.kubeconfig, tmp_path / "first.log", **takes_reports(certificates)).await_ready()
    try:
        create(space, [run(f"{name}-{n:04}", name) for name, size in SIZES.items() for n in range(size)])
        await_queue(space, "lane", lambda status: status["pending"] == RUNS)
        begun = time.monotonic()
        stop(space, "None")
        await_ended(space, RUNS * 4 // 10)
        operator.kill()
        operator = Operator(kube.kubeconfig, tmp_path / "second.log", **takes_reports(certificates)).await_ready()
        await_ended(space, RUNS)
        seconds = time.monotonic() - begun
        status = await_queue(space, "lane", lambda status: not status["running"] and not status["pending"])
    finally:
        operator.stop()
    runs = space.items("crewruns")
    assert Counter(phase(each) for each in runs) == {"Succeeded": RUNS}
    assert {each["status"]["attemptCount"] for each in runs} == {1} and len(space.items("jobs")) == RUNS
    assert status["admitted"] == RUNS

    moments = list(held(audit_log))
    most = max(sum(moment.values()) for moment, _ in moments)
    print(f"\n{RUNS} runs through {PLACES} places in {seconds:.0f} s, the operator killed after {RUNS * 4 // 10}")
    print(f"most attempts open at once: {most}; places held while runs of every crew waited:")
    shared = [moment for moment, waiting in moments if all(waiting.values()) and sum(moment.values()) == PLACES]
    for name, size in SIZES.items():
        places = [moment[name] for moment in shared]
        print(f"{name:8} {size:4} runs: {sum(places) / len(places):.2f} of {PLACES}, {min(places)} to {max(places)}")
    assert most == PLACES
    assert {count for moment in shared for count in moment.values()} <= {PLACES // 3, PLACES // 3 + 1}


def test_a_window_that_is_spent_admits_nothing_until_the_next(kube: Kube, certificates: Path, tmp_path: Path) -> None:
    """A run spends 12 tokens; so four fit into a window of 40, since what is open when it is spent goes on."""
    space = kube.within("windows")
    budget = {"window": "Hour", "maxTokens": 40}
    space.apply(crew("fine"), queue("lane", maxConcurrentRuns=1, budget=budget))
    seconds, module = 20, "tests.support.short_windows_operator"
    settings = {**takes_reports(certificates), "HOUR_SECONDS": str(seconds)}
    with Operator(kube.kubeconfig, tmp_path / "log", module, **settings):
        time.sleep(seconds - time.time() % seconds)  # a window begins: four runs need a part of one
        create(space, [run(f"r-{number}", "fine") for number in range(6)])
        spent = await_queue(space, "lane", lambda status: active(status) == "BudgetSpent")
        assert (spent["spentTokens"], spent["pending"]) == (48, 2)
        for number in range(6):
            space.await_end(f"r-{number}")
        status = await_queue(space, "lane", lambda status: not status["running"] and not status["pending"])
    runs = space.items("crewruns")
    spending = Counter[str]()
    for each in runs:
        spending[each["status"]["window"]["start"]] += each["status"]["window"]["totalTokens"]
    print(f"\ntokens by window: {dict(spending)}; the queue: {status['spentTokens']} since {status['windowStart']}")
    assert sum(spending.values()) == sum(each["status"]["usage"]["totalTokens"] for each in runs) == 6 * 12
    assert max(spending.values()) <= 48 and len(spending) >= 2
    assert spending[status["windowStart"]] == status["spentTokens"]


def test_what_people_see_of_a_queue(kube: Kube, certificates: Path, tmp_path: Path) -> None:
    space = kube.within("lanes")
    space.apply(crew("never-ends"), queue("lane", maxConcurrentRuns=1))
    with Operator(kube.kubeconfig, tmp_path / "log", **takes_reports(certificates)):
        space.apply(run("first", "never-ends"))
        space.await_phase("first", "Running")
        space.apply(run("second", "never-ends"))
        second = space.await_phase("second", "Queued")
        assert condition(second, "Admitted")["reason"] == "QueueFull"
        space.apply(run("urgent", "never-ends", priority=10))
        assert space.await_phase("urgent", "Queued")["status"]["queuePosition"] == 1
        await_queue(space, "lane", lambda status: (status["pending"], status["running"]) == (2, 1))
        print("\n" + space.kubectl("get", "crewqueues"))
        space.kubectl("patch", "crewrun", "first", "--type=merge", "-p", '{"spec":{"cancel":true}}')
        space.await_phase("urgent", "Running")
        refused = space.refusal(run("second", "never-ends", queue="other"))
        assert "cannot change once the run is accepted" in refused
        assert "give maxCostUSD, maxTokens or both" in space.refusal(queue("bad", budget={"window": "Day"}))
        space.kubectl("delete", "crewrun", "--all")


def queue(name: str, **spec: Any) -> Document:
    return document("CrewQueue", name, {"default": True, **spec})


def stop(space: Kube, policy: str) -> None:
    space.kubectl("patch", "crewqueue", "lane", "--type=merge", "-p", json.dumps({"spec": {"stopPolicy": policy}}))


def create(space: Kube, manifests: list[Document]) -> None:
    def one(manifest: Document) -> None:
        space.custom.create_namespaced_custom_object(GROUP, VERSION, space.namespace, "crewruns", manifest)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, manifests))


def active(status: Document) -> str:
    return str(condition({"status": status}, "Active").get("reason"))


def await_queue(space: Kube, name: str, wanted: Callable[[Document], bool], seconds: int = 120) -> Document:
    """The status of a queue as soon as it is as wanted."""
    status: Document = {}
    for event in watched(space, "crewqueues", seconds):
        status = event["object"].get("status") or {}
        if event["object"]["metadata"]["name"] == name and "pending" in status and wanted(status):
            return status
    raise AssertionError(f"the queue is not as wanted after {seconds} s: {json.dumps(status, indent=1)}")


def await_ended(space: Kube, count: int, seconds: int = 400) -> None:
    ended: set[str] = set()
    for event in watched(space, "crewruns", seconds):
        if phase(event["object"]) in ("Succeeded", "Failed", "Cancelled"):
            ended.add(event["object"]["metadata"]["name"])
        if len(ended) >= count:
            return
    raise AssertionError(f"{len(ended)} of {count} runs have ended after {seconds} s")


def watched(space: Kube, plural: str, seconds: int) -> Iterator[Document]:
    """What there is, and what comes. The API server ends a watch whose reader is slower than its runs; then the next
    one goes on."""
    listing, end = space.custom.list_namespaced_custom_object, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        of = {"timeout_seconds": max(1, int(left))}
        yield from watch.Watch().stream(listing, GROUP, VERSION, space.namespace, plural, **of)


@dataclass(frozen=True)
class Write:
    """A status of a run in which it has an attempt, or none yet, as the API server logged it."""

    version: int
    run: str
    crew: str
    open: bool | None  # whether the attempt is open; None: there is none
    sure: bool  # the answer says that it was taken

    @property
    def tells(self) -> tuple[str, bool | None]:
        return self.run, self.open


def held(audit_log: Path) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """The attempts that were open after each write of a run's status, and the runs that had not begun, by crew, in the
    order of the API server."""
    open_now, waiting, begun = Counter(dict.fromkeys(SIZES, 0)), Counter(SIZES), dict[str, bool]()
    for write in taken(list(logged(audit_log))):
        if write.open is not None:
            waiting[write.crew] -= write.run not in begun
            open_now[write.crew] += write.open - begun.get(write.run, False)
            begun[write.run] = write.open
        yield Counter(open_now), Counter(waiting)


def taken(writes: list[Write]) -> list[Write]:
    """Who is killed leaves requests behind that are logged as cancelled, whether they were carried out or not: if one
    was not, the next operator has made it again."""
    sure = {write.tells for write in writes if write.sure}
    return sorted((each for each in writes if each.sure or each.tells not in sure), key=lambda write: write.version)


def logged(audit_log: Path) -> Iterator[Write]:
    version = 0
    for line in audit_log.read_text().strip().split("\n"):
        event = json.loads(line)
        target, found = event.get("objectRef", {}), event.get("responseObject") or {}
        if (target.get("namespace"), target.get("resource")) != ("queues", "crewruns") or event["verb"] != "patch":
            continue
        sure = found.get("kind") == "CrewRun"
        if not sure and "cancel" not in found.get("message", ""):
            continue
        version = int(found["metadata"]["resourceVersion"]) if sure else version
        attempts = (found if sure else event["requestObject"])["status"].get("attempts")
        its_open = "outcome" not in attempts[-1] if attempts else None
        yield Write(version, target["name"], target["name"].split("-")[0], its_open, sure)

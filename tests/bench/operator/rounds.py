"""What is measured: runs that end, latencies, reads and writes, CPU and memory."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from kubernetes import watch

from tests.bench.operator.audit import percentile, seen
from tests.bench.operator.cluster import Plane, Process, busy_seconds, operator, plane
from tests.support.kube import GROUP, VERSION, Kube, phase, run
from tests.support.operator import Operator

Subject = Callable[[Plane], AbstractContextManager[Process]]
Figures = dict[str, float]
CREATORS = 4
IDLE_RUNS, IDLE_SECONDS = 20, 30
#: Without a pause each list waits for the API server's next look at etcd, which it takes ten times a second at most.
PAUSE_SECONDS = 1
STILL_SECONDS = 30
#: A machine at rest uses less than this share of one core for so long; it comes to rest in time, or never.
REST_SHARE, REST_WINDOW_SECONDS, REST_SECONDS = 0.3, 5, 600


def throughput(subject: Subject, runs: int) -> Figures:
    """So many runs at once."""
    with plane("load") as on, subject(on) as process:
        space, before = on.kube.within("bench"), process.cpu_seconds()
        begun = time.monotonic()
        create(space, [run(f"r-{number:05}", "fine") for number in range(runs)])
        await_ended(space, runs, process)
        seconds, cpu = time.monotonic() - begun, process.cpu_seconds() - before
        asked = seen(on.audit_log.read_text().splitlines(), process.agent, "bench")
        return {
            "runs per second": runs / seconds,
            "writes per run": asked.writes / runs,
            "reads per run": asked.reads / runs,
            "CPU seconds per 1,000 runs": cpu * 1000 / runs,
            "apply to Job p50, ms": percentile(asked.latencies, 0.5),
            "apply to Job p99, ms": percentile(asked.latencies, 0.99),
            "memory after it, MiB": process.rss_mib(),
        }


def idle(subject: Subject) -> Figures:
    """Runs with a pause between them, runs without one, and no runs."""
    with plane("idle") as on, subject(on) as process:
        apart = _one_by_one(on, process, "apart", PAUSE_SECONDS)
        together = _one_by_one(on, process, "together", 0)
        time.sleep(2)  # what follows from the last end
        cpu, lines = process.cpu_seconds(), len(on.audit_log.read_text().splitlines())
        time.sleep(IDLE_SECONDS)
        after = on.audit_log.read_text().splitlines()[lines:]
        return {
            "apply to Job p50, ms": percentile(apart, 0.5),
            "apply to Job at most, ms": max(apart),
            "without a pause: apply to Job p50, ms": percentile(together, 0.5),
            "without a pause: apply to Job at most, ms": max(together),
            "CPU when idle, percent of a core": (process.cpu_seconds() - cpu) / IDLE_SECONDS * 100,
            "writes when idle": seen(after, process.agent).writes,
        }


def _one_by_one(on: Plane, process: Process, name: str, pause: float) -> list[float]:
    """Each run begins when the one before it has ended; the latencies but that of the first."""
    space = on.kube.within(name)
    for number in range(IDLE_RUNS + 1):
        time.sleep(pause)
        create(space, [run(f"r-{number:05}", "fine")])
        await_ended(space, number + 1, process)
    return seen(on.audit_log.read_text().splitlines(), process.agent, name).latencies[1:]


def presence(counts: list[int], starts: int) -> Iterator[tuple[int, Figures]]:
    """Operators that start among so many runs that have ended, once the cluster has nothing more to do for those."""
    with plane("presence") as on:
        space, there = on.kube.within("bench"), 0
        for count in sorted(counts):
            more = [run(f"r-{number:05}", "fine") for number in range(there, count)]
            there = count
            if more:
                with operator(on) as process:
                    create(space, more)
                    await_ended(space, count, process)
            for _ in range(starts):
                _await_rest()
                begun = time.monotonic()
                with Operator(on.kube.kubeconfig, on.folder / "again.log") as running:
                    ready = time.monotonic() - begun
                    process = Process(running.process.pid, "crewrun-operator")
                    time.sleep(10)  # kopf's own lists of the watches come after the first
                    yield count, {"start to ready, s": ready, "memory, MiB": process.rss_mib()}


def _await_rest() -> None:
    """Until the machine does little: after thousands of runs API server and kwok go on for minutes."""
    for _ in range(REST_SECONDS // REST_WINDOW_SECONDS):
        before = busy_seconds()
        time.sleep(REST_WINDOW_SECONDS)
        if busy_seconds() - before < REST_SHARE * REST_WINDOW_SECONDS:
            return
    raise RuntimeError(f"the cluster is not at rest after {REST_SECONDS} s")


def create(space: Kube, manifests: list[dict[str, Any]]) -> None:
    def one(manifest: dict[str, Any]) -> None:
        space.custom.create_namespaced_custom_object(GROUP, VERSION, space.namespace, "crewruns", manifest)

    with ThreadPoolExecutor(CREATORS) as threads:
        list(threads.map(one, manifests))


def await_ended(space: Kube, count: int, process: Process) -> None:
    """Until so many runs have succeeded. A subject that dies, or stands still, is no measurement."""
    listing = space.custom.list_namespaced_custom_object
    found = listing(GROUP, VERSION, space.namespace, "crewruns")
    ended = {each["metadata"]["name"] for each in found["items"] if phase(each) == "Succeeded"}
    version, last = found["metadata"]["resourceVersion"], time.monotonic()
    while len(ended) < count:
        # Each goes on where the one before it ended: to hear of all runs anew takes longer than they have.
        of = {"resource_version": version, "timeout_seconds": STILL_SECONDS}
        for event in watch.Watch().stream(listing, GROUP, VERSION, space.namespace, "crewruns", **of):
            metadata, version = event["object"]["metadata"], event["object"]["metadata"]["resourceVersion"]
            if phase(event["object"]) == "Succeeded" and metadata["name"] not in ended:
                ended.add(metadata["name"])
                last = time.monotonic()
            if len(ended) >= count:
                return
        if not process.alive() or time.monotonic() - last > STILL_SECONDS:
            state = "stands still" if process.alive() else "has died"
            raise RuntimeError(f"{process.agent} {state}: {len(ended)} of {count} runs have ended")

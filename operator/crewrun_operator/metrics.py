"""The operator's metrics: the registry, filled by the edge. What they mean stands in `families`."""

from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from crewrun_api import names, traceparent
from crewrun_api.reasons import Phase
from crewrun_operator import families
from crewrun_operator.changes import changes
from crewrun_operator.demand import STATES, Sum, Wanted, demand, state_of
from crewrun_operator.families import Family, Kind
from crewrun_operator.observed import Observed
from crewrun_operator.queue_figures import queue_figures
from crewrun_operator.queue_state import Queue
from crewrun_operator.runs import Brief, Key
from crewrun_operator.store import Store
from crewrun_operator.views import Manifest

NOT_SEEN = "Unseen"
OTHER = "other"


class Bounded:
    """The first so many values keep their own name, all later ones share one: names come from people."""

    def __init__(self, most: int) -> None:
        self._most, self._known = most, set[Hashable]()

    def label(self, value: str, *within: str) -> str:
        key = (*within, value)
        if key not in self._known and len(self._known) >= self._most:
            return OTHER
        self._known.add(key)
        return value


class Metrics:
    """One registry per operator, so that tests can have their own."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counters = {each.name: self._counter(each) for each in _of(Kind.COUNTER)}
        self._gauges = {each.name: self._gauge(each) for each in _of(Kind.GAUGE)}
        self._histograms = {each.name: self._histogram(each) for each in _of(Kind.HISTOGRAM)}
        self._labels = {each.name: each.labels for each in families.FAMILIES}
        self.runs = self._gauges[families.RUNS]
        self.reconcile = self._histograms[families.RECONCILE]
        self.reconcile_errors = self._counters[families.RECONCILE_ERRORS]
        self.queue_depth = self._gauges[families.QUEUE_DEPTH]
        self.queue_age = self._gauges[families.QUEUE_AGE]
        self.requests = self._counters[families.API_REQUESTS]
        self.reports = self._counters[families.REPORTS]
        self.watch_age = self._gauges[families.WATCH_AGE]
        self.list_age = self._gauges[families.LIST_AGE]
        self._gauges[families.BUILD_INFO].labels(version).set(1)
        self._namespaces, self._crews = Bounded(families.MOST_NAMESPACES), Bounded(families.MOST_CREWS)
        self._models, self._selectors = Bounded(families.MOST_MODELS), Bounded(families.MOST_NODE_SELECTORS)
        self._queues = Bounded(families.MOST_QUEUES)
        self._wanted = OrderedDict[Wanted, None](
            {("", "", ""): None}
        )  # what was asked for at some time, the newest last

    def changed(self, before: Manifest, after: Manifest) -> None:
        """Count what has happened to a run between two versions of it."""
        for change in changes(before, after):
            labels = self._bounded(change.metric, change.labels)
            if histogram := self._histograms.get(change.metric):
                (histogram.labels(*labels) if labels else histogram).observe(change.amount, exemplar_of(after))
            else:
                self._counters[change.metric].labels(*labels).inc(change.amount)

    def _bounded(self, metric: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Namespace, crew and model are bounded one within the other; other labels are enums."""
        match self._labels[metric], labels:
            case ("namespace", "crew", "model", *_), (namespace, crew, model, *rest):
                namespace, crew = self._crew(namespace, crew)
                return namespace, crew, self._models.label(model, namespace, crew), *rest
            case ("namespace", "crew", *_), (namespace, crew, *rest):
                return *self._crew(namespace, crew), *rest
            case ("namespace", "queue"), (namespace, queue):
                namespace = self._namespaces.label(namespace)
                return namespace, self._queues.label(queue, namespace)
            case ("namespace", *_), (namespace, *rest):
                return self._namespaces.label(namespace), *rest
        return labels

    def _crew(self, namespace: str, crew: str) -> tuple[str, str]:
        namespace = self._namespaces.label(namespace)
        return namespace, self._crews.label(crew, namespace)

    def look(self, store: Store, now: datetime) -> None:
        """Set the gauges that tell of what is in the store: one pass for each scrape."""
        self.count_runs(store.runs.briefs())
        self._look_at_queues(store.queues, now)
        self._look_at_demand(store)

    def _look_at_queues(self, queues: Iterable[Queue], now: datetime) -> None:
        for name in families.OF_QUEUES:
            self._gauges[name].clear()
        for queue in queues:
            for name, value in queue_figures(queue, now):
                self._gauges[name].labels(*queue.key).set(value)

    def _look_at_demand(self, store: Store) -> None:
        sums = demand(_wanting(store), self._selectors.label)
        for wanted in {wanted for _, wanted in sums}:
            self._wanted[wanted] = None
            self._wanted.move_to_end(wanted)
        cpu, memory, pods = (
            self._gauges[name] for name in (families.DEMAND_CPU, families.DEMAND_MEMORY, families.DEMAND_PODS)
        )
        for gauge in (cpu, memory, pods):
            gauge.clear()
        for namespace, queue, selector in self._wanted:
            for state in STATES:
                its = sums.get((state, (namespace, queue, selector)), Sum())
                cpu.labels(namespace, queue, state, selector).set(its.cores)
                memory.labels(namespace, queue, state, selector).set(its.memory)
                pods.labels(namespace, queue, state, selector).set(its.pods)
        while len(self._wanted) > families.MOST_ZEROS:
            self._wanted.popitem(last=False)

    def count_runs(self, runs: Iterable[tuple[Key, Brief]]) -> None:
        """Set the gauge of runs; phases that no run has are 0, not absent."""
        tally = Tally((key[0], run.queue, run.phase or NOT_SEEN) for key, run in runs)
        self.runs.clear()
        for namespace, queue in {(namespace, queue) for namespace, queue, _ in tally}:
            for phase in (*Phase, NOT_SEEN):
                self.runs.labels(namespace, queue, str(phase)).set(tally[namespace, queue, phase])

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.meaning, family.labels, registry=self.registry)

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.meaning, family.labels, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(family.name, family.meaning, family.labels, registry=self.registry, buckets=family.buckets)


def exemplar_of(run: Manifest) -> dict[str, str] | None:
    """The trace that the run is a part of, if it is one that is kept."""
    given = (run["metadata"].get("annotations") or {}).get(names.ANNOTATION_TRACEPARENT)
    trace = traceparent.parse(given) if given else None
    return {"trace_id": f"{trace.trace_id:032x}"} if trace and trace.sampled else None


def _of(kind: Kind) -> Iterator[Family]:
    return (each for each in families.FAMILIES if each.kind is kind)


def _wanting(store: Store) -> Iterator[tuple[str, Observed]]:
    """The runs that have a Pod, or want one."""
    for key, run in store.runs.open():
        state = state_of(run)
        if state is not None and (observed := store.observe(key)) is not None:
            yield state, observed

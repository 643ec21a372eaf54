"""The operator's metrics. Labels are bounded: never a run's name."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from crewrun_api.reasons import Phase
from crewrun_operator.views import Manifest

NOT_SEEN = "Unseen"


class Metrics:
    """One registry per operator, so that tests can have their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Gauge(
            "crewrun_runs",
            "CrewRuns on the cluster by namespace and phase.",
            ["namespace", "phase"],
            registry=self.registry,
        )
        self.attempts = Counter(
            "crewrun_attempts_total",
            "Attempts that ended, by outcome and reason.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self.reconcile = Histogram(
            "crewrun_reconcile_duration_seconds",
            "Time to decide about one run and apply the plan.",
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.reconcile_errors = Counter(
            "crewrun_reconcile_errors_total",
            "Decisions that ended in an error and are made again.",
            registry=self.registry,
        )
        self.queue_depth = Gauge("crewrun_workqueue_depth", "Runs that wait for a worker.", registry=self.registry)
        self.queue_age = Gauge(
            "crewrun_workqueue_oldest_seconds", "How long the oldest of them has waited.", registry=self.registry
        )
        self.requests = Counter(
            "crewrun_api_requests_total",
            "Requests to the API server, watches excluded.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )

        self.reports = Counter(
            "crewrun_reports_total",
            "Reports of runners, by the HTTP status of the answer.",
            ["code"],
            registry=self.registry,
        )

    def count_runs(self, runs: Iterable[Manifest]) -> None:
        """Set the gauge of runs from what is in the store; phases that no run has are 0, not absent."""
        tally = Tally(
            (run["metadata"]["namespace"], (run.get("status") or {}).get("phase") or NOT_SEEN) for run in runs
        )
        self.runs.clear()
        for namespace in {namespace for namespace, _ in tally}:
            for phase in (*Phase, NOT_SEEN):
                self.runs.labels(namespace, str(phase)).set(tally[namespace, phase])

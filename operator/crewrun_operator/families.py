"""Every metric of the operator: name, meaning and labels. `docs/reference/metrics.md` is made of this table.

Names and labels are a contract. Labels are bounded: never a run's name, nor anything else that each run has anew.
"""

from dataclasses import dataclass
from enum import StrEnum

from crewrun_operator.changes import Told


class Kind(StrEnum):
    """The types of Prometheus that are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


#: Calls of a model take seconds, crews take up to hours.
_LLM_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_START_BUCKETS = (1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600)
_WAIT_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
_DECISION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CREW = ("namespace", "crew")
_MODEL = (*_CREW, "model")
_QUEUE = ("namespace", "queue")
_DEMAND = (*_QUEUE, "state", "node_selector")

#: Names come from people, and a series is kept for as long as the operator lives.
MOST_NAMESPACES, MOST_CREWS, MOST_MODELS, MOST_QUEUES, MOST_NODE_SELECTORS = 1_000, 2_000, 5_000, 1_000, 50
#: What nothing asks for any more is shown as 0: whoever scales by it has to see that. Of so many combinations.
MOST_ZEROS = 2_000

RUNS = "crewrun_runs"
QUEUE_PENDING = "crewrun_queue_pending_runs"
QUEUE_RUNNING = "crewrun_queue_running_runs"
QUEUE_MOST = "crewrun_queue_max_concurrent_runs"
QUEUE_OLDEST = "crewrun_queue_oldest_wait_seconds"
QUEUE_SPENT_USD = "crewrun_queue_spent_usd"
QUEUE_SPENT_TOKENS = "crewrun_queue_spent_tokens"
QUEUE_BUDGET_USD = "crewrun_queue_budget_usd"
QUEUE_BUDGET_TOKENS = "crewrun_queue_budget_tokens"
QUEUE_ACTIVE = "crewrun_queue_active"
DEMAND_CPU = "crewrun_demand_cpu_cores"
DEMAND_MEMORY = "crewrun_demand_memory_bytes"
DEMAND_PODS = "crewrun_demand_pods"
RECONCILE = "crewrun_reconcile_duration_seconds"
RECONCILE_ERRORS = "crewrun_reconcile_errors_total"
QUEUE_DEPTH = "crewrun_workqueue_depth"
QUEUE_AGE = "crewrun_workqueue_oldest_seconds"
API_REQUESTS = "crewrun_api_requests_total"
REPORTS = "crewrun_reports_total"
WATCH_AGE = "crewrun_watch_age_seconds"
LIST_AGE = "crewrun_list_age_seconds"
BUILD_INFO = "crewrun_build_info"

ABOUT_RUNS = (
    Family(RUNS, Kind.GAUGE, "CrewRuns on the cluster. Unseen is a run that nobody has decided about yet.",
           (*_QUEUE, "phase")),
    Family(Told.RUNS_FINISHED, Kind.COUNTER, "Runs that ended; one that is run again ends again.", (*_CREW, "phase")),
    Family(Told.RUN_SECONDS, Kind.HISTOGRAM, "Time from a run's first attempt to its end, by the phase it ended in.",
           ("phase",), _LLM_BUCKETS),
    Family(Told.START_SECONDS, Kind.HISTOGRAM, "Time from a run's creation to the start of its first runner.",
           buckets=_START_BUCKETS),
    Family(Told.ATTEMPTS, Kind.COUNTER, "Attempts that ended.", ("namespace", "outcome", "reason")),
    Family(Told.ATTEMPT_SECONDS, Kind.HISTOGRAM, "Time from an attempt's beginning to its end, the start of its Pod "
           "included.", ("outcome",), _LLM_BUCKETS),
    Family(Told.RETRIES, Kind.COUNTER, "Failed attempts that count for retry.maxAttempts and are followed by another.",
           ("namespace", "reason")),
    Family(Told.DISRUPTIONS, Kind.COUNTER, "Attempts that Kubernetes interrupted, which count for "
           "retry.maxDisruptions.", ("namespace", "reason")),
    Family(Told.RESUMES, Kind.COUNTER, "Attempts that went on after tasks which earlier ones had finished.",
           ("namespace",)),
    Family(Told.TASK_SECONDS, Kind.HISTOGRAM, "Time that a task took, by how it ended; of each run its first 50 "
           "tasks.", ("state",), _LLM_BUCKETS),
)  # fmt: skip
ABOUT_MONEY = (
    Family(Told.TOKENS, Kind.COUNTER, "Tokens used. The types add up to a run's totalTokens: `prompt` is without the "
           "tokens that were read from a cache, which are `cached_prompt`.", (*_MODEL, "type")),
    Family(Told.COST, Kind.COUNTER, "What LLM requests cost in USD, as far as prices are known.", _MODEL),
    Family(Told.LLM_REQUESTS, Kind.COUNTER, "LLM requests that were answered.", _MODEL),
    Family(Told.TOKENS_SAVED, Kind.COUNTER, "Tokens of finished tasks that an attempt did not use again, since it went "
           "on after them.", _CREW),
)  # fmt: skip
ABOUT_QUEUES = (
    Family(QUEUE_PENDING, Kind.GAUGE, "Runs that wait for a place in the queue.", _QUEUE),
    Family(QUEUE_RUNNING, Kind.GAUGE, "Runs that hold a place of the queue.", _QUEUE),
    Family(QUEUE_MOST, Kind.GAUGE, "How many may hold one at once; absent for a queue without a bound.", _QUEUE),
    Family(QUEUE_OLDEST, Kind.GAUGE, "How long the run has waited that waits longest; 0 when none does.", _QUEUE),
    Family(Told.QUEUE_ADMITTED, Kind.COUNTER, "Attempts that were given a place.", _QUEUE),
    Family(Told.QUEUE_WAIT, Kind.HISTOGRAM, "Time from joining the queue to the attempt that a place was given to.",
           _QUEUE, _WAIT_BUCKETS),
    Family(QUEUE_SPENT_USD, Kind.GAUGE, "USD that runs of the queue have spent in the window of its budget; absent "
           "without one.", _QUEUE),
    Family(QUEUE_SPENT_TOKENS, Kind.GAUGE, "Tokens that they have used in it.", _QUEUE),
    Family(QUEUE_BUDGET_USD, Kind.GAUGE, "USD that may be spent in a window; absent without such a budget.", _QUEUE),
    Family(QUEUE_BUDGET_TOKENS, Kind.GAUGE, "Tokens that may be used in one; absent without such a budget.", _QUEUE),
    Family(QUEUE_ACTIVE, Kind.GAUGE, "Whether the queue admits runs: 0 while it is stopped or its budget is spent.",
           _QUEUE),
)  # fmt: skip
ABOUT_DEMAND = (
    Family(DEMAND_CPU, Kind.GAUGE, "CPU cores that runs request which wait to begin, start or run.", _DEMAND),
    Family(DEMAND_MEMORY, Kind.GAUGE, "Bytes of memory that these runs request.", _DEMAND),
    Family(DEMAND_PODS, Kind.GAUGE, "Pods of these runs, those included that are not made yet.", _DEMAND),
)
ABOUT_THE_OPERATOR = (
    Family(BUILD_INFO, Kind.GAUGE, "Always 1; the version stands in the label.", ("version",)),
    Family(RECONCILE, Kind.HISTOGRAM, "Time to decide about one run and apply the plan.", buckets=_DECISION_BUCKETS),
    Family(RECONCILE_ERRORS, Kind.COUNTER, "Decisions that ended in an error and are made again."),
    Family(QUEUE_DEPTH, Kind.GAUGE, "Runs that wait for a worker of the operator."),
    Family(QUEUE_AGE, Kind.GAUGE, "How long the oldest of them has waited."),
    Family(API_REQUESTS, Kind.COUNTER, "Requests to the API server, watches excluded.", ("verb", "resource", "code")),
    Family(REPORTS, Kind.COUNTER, "Reports of runners, by the HTTP status of the answer.", ("code",)),
    Family(WATCH_AGE, Kind.GAUGE, "Time since a watch last delivered an event of these objects. Of runs, Jobs and Pods "
           "a bookmark counts, which comes about each minute; of the other kinds it grows while nothing changes.",
           ("resource",)),
    Family(LIST_AGE, Kind.GAUGE, "Time since everything was listed, which happens every operator.resyncSeconds."),
)  # fmt: skip
OF_QUEUES = tuple(family.name for family in ABOUT_QUEUES if family.kind is Kind.GAUGE)
FAMILIES = (*ABOUT_RUNS, *ABOUT_QUEUES, *ABOUT_MONEY, *ABOUT_DEMAND, *ABOUT_THE_OPERATOR)
#: What each label says. Labels that are not here are refused by a test: each has to be bounded.
LABELS = {
    "namespace": f"The run's namespace; of counters, `other` beyond {MOST_NAMESPACES:,} of them.",
    "queue": f"The CrewQueue that admits the run; empty for none; of counters, `other` beyond {MOST_QUEUES:,} of them.",
    "crew": "The Crew; empty for an inline crew and for a run that was never accepted, `other` beyond "
    f"{MOST_CREWS:,} of them.",
    "model": "The model, as the crew or the profile names it; `unknown` where a runner could not say it, `other` "
    f"beyond {MOST_MODELS:,} combinations with crews.",
    "phase": "A phase of runs.",
    "outcome": "`Succeeded`, `Failed` or `Stopped`.",
    "reason": "A [reason](reasons.md).",
    "state": "Of demand: `waiting`, `starting` or `running`; of tasks: `Succeeded` or `Failed`.",
    "type": "`prompt`, `cached_prompt` or `completion`.",
    "node_selector": "The pairs of `pod.nodeSelector`, sorted, as `disk=ssd,zone=a`; empty for none, `other` beyond "
    f"{MOST_NODE_SELECTORS} different ones.",
    "verb": "The HTTP method.",
    "resource": "The plural of a kind, with its subresource.",
    "code": "The HTTP status.",
    "version": "The version of the operator.",
}

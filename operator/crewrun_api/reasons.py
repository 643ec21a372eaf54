"""The words a machine may rely on: phases, states, reasons, exit codes.

These are stable contracts. A value may be added; none is ever renamed or given another meaning.
"""

from enum import IntEnum, StrEnum


class Phase(StrEnum):
    """Where a run stands, in one word, for people. Machines read the conditions."""

    PENDING = "Pending"  # not accepted yet, or refused until something is mended
    QUEUED = "Queued"  # accepted, waits for its queue to admit it
    STARTING = "Starting"  # an attempt is recorded; its runner does not run yet
    RUNNING = "Running"  # the runner of the newest attempt runs
    BACKING_OFF = "BackingOff"  # an attempt failed; the next starts at status.nextAttemptTime
    SUSPENDED = "Suspended"  # stopped on request; goes on when spec.suspend is false again
    CANCELLING = "Cancelling"  # told to stop; its runner has not ended yet
    SUCCEEDED = "Succeeded"  # ended: the outcome record of an attempt says so
    FAILED = "Failed"  # ended: no attempt succeeded and none will follow
    CANCELLED = "Cancelled"  # ended on request

    @property
    def ended(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


class ConditionType(StrEnum):
    """The conditions of a run."""

    ACCEPTED = "Accepted"  # the run, its crew and its inputs passed the operator's checks
    ADMITTED = "Admitted"  # the run may start attempts
    SUCCEEDED = "Succeeded"  # Unknown until the run ends
    RECONCILING = "Reconciling"  # kstatus: not finished yet
    STALLED = "Stalled"  # kstatus: failed for good
    SPEC_CHANGED = "SpecChanged"  # the spec was edited after it was accepted; what runs is the old one
    TTL_IGNORED = "TTLIgnored"  # the run has ended and is not deleted: a GitOps tool would make it again


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "Succeeded"  # the crew finished and its result stands in the record
    FAILED = "Failed"  # the attempt ended in any other way
    STOPPED = "Stopped"  # the runner was told to stop and did


class TaskState(StrEnum):
    """Where one task of a crew stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class OutputFormat(StrEnum):
    """What `status.output.value` holds."""

    TEXT = "Text"
    JSON = "JSON"


class WebhookOutcome(StrEnum):
    """Whether a webhook was told of the end of a run."""

    PENDING = "Pending"  # its Job is being made, or tries
    DELIVERED = "Delivered"  # it answered with a status of 200 to 299
    FAILED = "Failed"  # it did not, and is not tried again


class Reason(StrEnum):
    """Why an attempt or a run ended as it did."""

    COMPLETED = "Completed"  # the crew finished

    # The model's provider.
    LLM_RATE_LIMITED = "LLMRateLimited"  # 429
    LLM_UNAVAILABLE = "LLMUnavailable"  # 5xx, refused or broken connection
    LLM_TIMEOUT = "LLMTimeout"  # no answer in time
    LLM_AUTHENTICATION = "LLMAuthentication"  # 401: the key is missing or wrong
    LLM_PERMISSION = "LLMPermission"  # 403: the key may not use this model
    LLM_BAD_REQUEST = "LLMBadRequest"  # 400, 404: this request or model will never work
    LLM_CONTEXT_EXCEEDED = "LLMContextExceeded"  # the prompt is longer than the model takes

    # The crew.
    TASK_FAILED = "TaskFailed"  # an exception in a task
    GUARDRAIL_FAILED = "GuardrailFailed"  # a task's guardrail refused its output to the end
    TOOL_FAILED = "ToolFailed"  # a tool raised
    INVALID_CREW = "InvalidCrew"  # CrewAI cannot load the definition
    INVALID_INPUTS = "InvalidInputs"  # an input is missing or does not match the schema
    INPUT_REQUIRED = "InputRequired"  # a task asks a person, and nobody is there
    CREW_CHANGED = "CrewChanged"  # the crew is not the one this run began with
    BUDGET_EXCEEDED = "BudgetExceeded"  # tokens or USD are spent

    # The Pod.
    OUT_OF_MEMORY = "OutOfMemory"  # OOMKilled
    EVICTED = "Evicted"  # a drain or node pressure
    PREEMPTED = "Preempted"  # a Pod or a Workload of higher priority took its place
    NODE_LOST = "NodeLost"  # its node stopped answering
    POD_DELETED = "PodDeleted"  # somebody deleted the Pod
    JOB_DELETED = "JobDeleted"  # somebody deleted the Job
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # the image cannot be pulled
    UNSCHEDULABLE = "Unschedulable"  # no node fits
    MISSING_SECRET = "MissingSecret"  # a Secret or ConfigMap, or a key in it, is not there
    JOB_REJECTED = "JobRejected"  # the API server refuses the Job: a wrong pod field, or policy

    # Requests and time.
    CANCELLED = "Cancelled"  # spec.cancel
    SUSPENDED = "Suspended"  # spec.suspend
    QUEUE_STOPPED = "QueueStopped"  # its queue stops what runs (stopPolicy: HoldAndDrain)
    TIMED_OUT = "TimedOut"  # spec.timeoutSeconds, over all attempts
    ATTEMPT_TIMED_OUT = "AttemptTimedOut"  # spec.attemptTimeoutSeconds

    # Nobody could say.
    RUNNER_LOST = "RunnerLost"  # the runner ended without an outcome record
    RUNNER_CRASHED = "RunnerCrashed"  # a signal, an internal error, or an unknown exit code


class AcceptedReason(StrEnum):
    """The reason of the condition Accepted."""

    VALID = "Valid"
    CREW_NOT_FOUND = "CrewNotFound"  # spec.crewRef names no Crew of the namespace
    PROFILE_NOT_FOUND = "ProfileNotFound"  # a profile that is named does not exist
    QUEUE_NOT_FOUND = "QueueNotFound"  # spec.queue names no CrewQueue of the namespace
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"  # a ConfigMap that is named, or a key in it, does not exist
    INVALID_SPEC = "InvalidSpec"  # the run, its Crew or its profile does not fit the schema
    INVALID_CREW = "InvalidCrew"  # the definition would not load
    INVALID_INPUTS = "InvalidInputs"  # inputs do not match the schema or miss a template variable
    TOO_LARGE = "TooLarge"  # definition and inputs are over the limit of a Pod's annotations
    FORBIDDEN = "Forbidden"  # the policy of this operator does not allow what the run, its Crew or its profile asks
    NOT_SUPPORTED = "NotSupported"  # a field that this version does not carry out yet


class AdmittedReason(StrEnum):
    """The reason of the condition Admitted."""

    NO_QUEUE = "NoQueue"  # no queue limits the run
    ADMITTED = "Admitted"  # its queue has given it a place
    NOT_ACCEPTED = "NotAccepted"  # the run is not accepted
    WAITS_ITS_TURN = "WaitsItsTurn"  # others in its queue are before it
    QUEUE_FULL = "QueueFull"  # all places of its queue are held
    BUDGET_SPENT = "BudgetSpent"  # its queue has spent the budget of this window
    QUEUE_STOPPED = "QueueStopped"  # the stopPolicy of its queue
    QUEUE_NOT_FOUND = "QueueNotFound"  # its queue does not exist any more
    QUEUE_INVALID = "QueueInvalid"  # the spec of its queue says what this operator does not know
    NOT_WAITING = "NotWaiting"  # it is suspended, or waits for its backoff: it asks its queue for no place
    WAITS_FOR_KUEUE = "WaitsForKueue"  # the Job of its attempt is suspended until Kueue admits it
    ADMITTED_BY_KUEUE = "AdmittedByKueue"  # Kueue let the Job of its attempt go


class TTLIgnoredReason(StrEnum):
    """The reason of the condition TTLIgnored: who would make the run again."""

    TRACKED_BY_ARGO_CD = "TrackedByArgoCD"
    TRACKED_BY_FLUX = "TrackedByFlux"
    TRACKED_BY_HELM = "TrackedByHelm"


class ExitCode(IntEnum):
    """The runner's exit codes: for people and for podFailurePolicy. The record's reason decides."""

    SUCCEEDED = 0
    INVALID = 10  # crew or inputs
    LLM_RETRYABLE = 20
    LLM_PERMANENT = 21
    TASK_FAILED = 30
    BUDGET_EXCEEDED = 40
    STOPPED = 50
    INTERNAL = 70

"""Words that machines rely on. A value may be added to these tables; one that is there never changes."""

from enum import Enum

import pytest

from crewrun_api import names
from crewrun_api.model import kubernetes_name
from crewrun_api.outcome import RECORD_LIMIT_BYTES, RECORD_VERSION
from crewrun_api.reasons import (
    AcceptedReason,
    AdmittedReason,
    ConditionType,
    ExitCode,
    Outcome,
    OutputFormat,
    Phase,
    Reason,
    TaskState,
    TTLIgnoredReason,
    WebhookOutcome,
)
from crewrun_api.webhook import WebhookEvent

WANT_CONSTANTS = {
    "GROUP": "crewrun.dev",
    "VERSION": "v1alpha1",
    "API_VERSION": "crewrun.dev/v1alpha1",
    "LABEL_RUN": "crewrun.dev/run",
    "LABEL_RUN_UID": "crewrun.dev/run-uid",
    "LABEL_ATTEMPT": "crewrun.dev/attempt",
    "LABEL_CREW": "crewrun.dev/crew",
    "LABEL_MANAGED_BY": "app.kubernetes.io/managed-by",
    "LABEL_COMPONENT": "app.kubernetes.io/component",
    "MANAGED_BY": "crewrun",
    "COMPONENT_RUNNER": "runner",
    "LABEL_KUEUE_QUEUE": "kueue.x-k8s.io/queue-name",
    "LABEL_KUEUE_PRIORITY": "kueue.x-k8s.io/priority-class",
    "ANNOTATION_SPEC": "crewrun.dev/spec",
    "ANNOTATION_INPUTS": "crewrun.dev/inputs",
    "ANNOTATION_RUN": "crewrun.dev/run",
    "ANNOTATION_SETTINGS": "crewrun.dev/settings",
    "ANNOTATION_WEBHOOK": "crewrun.dev/webhook",
    "ANNOTATION_CA": "crewrun.dev/report-ca",
    "ANNOTATION_TRACEPARENT": "crewrun.dev/traceparent",
    "ANNOTATION_ATTEMPT": "crewrun.dev/attempt",
    "ANNOTATION_POD_UID": "crewrun.dev/pod-uid",
    "ANNOTATION_SEQUENCE": "crewrun.dev/sequence",
    "ANNOTATION_SHA256": "crewrun.dev/sha256",
    "AUDIENCE": "crewrun.dev",
    "CONTAINER": "runner",
    "SPEC_DIR": "/etc/crewrun",
    "SPEC_FILE": "spec.json",
    "INPUTS_FILE": "inputs.json",
    "WEBHOOK_FILE": "webhook.json",
    "HOME_DIR": "/home/crewrun",
    "MEMORY_DIR": "/var/lib/crewrun/memory",
    "ENV_MEMORY_DIR": "CREWRUN_MEMORY_DIR",
    "REPORT_DIR": "/var/run/crewrun/report",
    "TOKEN_FILE": "token",
    "CA_FILE": "ca.crt",
    "CHECKPOINT_DIR": "/var/run/crewrun/checkpoint",
    "CHECKPOINT_KEY": "checkpoint",
    "CHECKPOINT_KEYS_DIR": "/var/run/crewrun/checkpoint-keys",
    "OUTPUT_KEY": "output",
    "TERMINATION_LOG": "/dev/termination-log",
    "ENV_RUN_NAME": "CREWRUN_RUN_NAME",
    "ENV_RUN_NAMESPACE": "CREWRUN_RUN_NAMESPACE",
    "ENV_RUN_UID": "CREWRUN_RUN_UID",
    "ENV_ATTEMPT": "CREWRUN_ATTEMPT",
    "ENV_POD_UID": "CREWRUN_POD_UID",
    "ENV_DIGEST": "CREWRUN_DIGEST",
    "ENV_ALLOWANCE": "CREWRUN_ALLOWANCE",
    "ENV_PACED": "CREWRUN_PACED",
    "ENV_REPORT_URL": "CREWRUN_REPORT_URL",
    "ENV_CHECKPOINT_SHA256": "CREWRUN_CHECKPOINT_SHA256",
    "ENV_TRACEPARENT": "TRACEPARENT",
    "ENV_SECRET_INPUT": "CREWRUN_INPUT_",
    "ENV_WEBHOOK_URL": "CREWRUN_URL",
    "ENV_WEBHOOK_HEADER": "CREWRUN_HEADER_",
    "WEBHOOK_ATTEMPT": 0,
    "PAYLOAD_LIMIT_BYTES": 204800,
}
WANT_WORDS: dict[type[Enum], str] = {
    Phase: "Pending Queued Starting Running BackingOff Suspended Cancelling Succeeded Failed Cancelled",
    ConditionType: "Accepted Admitted Succeeded Reconciling Stalled SpecChanged TTLIgnored",
    Outcome: "Succeeded Failed Stopped",
    TaskState: "Pending Running Succeeded Failed",
    OutputFormat: "Text JSON",
    WebhookOutcome: "Pending Delivered Failed",
    WebhookEvent: "RunSucceeded RunFailed",
    AcceptedReason: "Valid CrewNotFound ProfileNotFound InvalidSpec InvalidCrew InvalidInputs TooLarge"
    " NotSupported ConfigMapNotFound Forbidden QueueNotFound",
    AdmittedReason: "NoQueue Admitted NotAccepted WaitsItsTurn QueueFull BudgetSpent QueueStopped QueueNotFound "
    "QueueInvalid NotWaiting WaitsForKueue AdmittedByKueue",
    TTLIgnoredReason: "TrackedByArgoCD TrackedByFlux TrackedByHelm",
    Reason: "Completed LLMRateLimited LLMUnavailable LLMTimeout LLMAuthentication LLMPermission LLMBadRequest "
    "LLMContextExceeded TaskFailed GuardrailFailed ToolFailed InvalidCrew InvalidInputs InputRequired CrewChanged "
    "BudgetExceeded OutOfMemory Evicted Preempted NodeLost PodDeleted JobDeleted ImageUnavailable Unschedulable "
    "MissingSecret JobRejected Cancelled Suspended TimedOut AttemptTimedOut RunnerLost RunnerCrashed "
    "QueueStopped",
}
WANT_EXIT_CODES = {
    "SUCCEEDED": 0,
    "INVALID": 10,
    "LLM_RETRYABLE": 20,
    "LLM_PERMANENT": 21,
    "TASK_FAILED": 30,
    "BUDGET_EXCEEDED": 40,
    "STOPPED": 50,
    "INTERNAL": 70,
}


@pytest.mark.parametrize(("constant", "want_value"), WANT_CONSTANTS.items(), ids=WANT_CONSTANTS)
def test_a_name_of_the_contract_stays(constant: str, want_value: object) -> None:
    assert getattr(names, constant) == want_value


def test_every_name_of_the_contract_is_in_the_table() -> None:
    assert {name for name in vars(names) if name.isupper() and not name.startswith("_")} == WANT_CONSTANTS.keys()


@pytest.mark.parametrize(("enum", "want_words"), WANT_WORDS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_word_of_the_contract_stays(enum: type[Enum], want_words: str) -> None:
    assert {str(member.value) for member in enum} == set(want_words.split())


def test_exit_codes_stay() -> None:
    assert {code.name: code.value for code in ExitCode} == WANT_EXIT_CODES


def test_the_record_stays_readable() -> None:
    assert (RECORD_VERSION, RECORD_LIMIT_BYTES) == (1, 4000)


@pytest.mark.parametrize(
    ("field", "want_name"),
    [
        ("max_rpm", "maxRPM"),
        ("base_url", "baseURL"),
        ("run_uid", "runUID"),
        ("max_cost_usd", "maxCostUSD"),
        ("input_per_million_usd", "inputPerMillionUSD"),
        ("secret_key_ref", "secretKeyRef"),
        ("ttl_seconds_after_finished", "ttlSecondsAfterFinished"),
        ("uid", "uid"),
        ("env_from", "envFrom"),
    ],
)
def test_fields_are_spelled_as_kubernetes_spells_them(field: str, want_name: str) -> None:
    assert kubernetes_name(field) == want_name


def test_only_three_phases_end_a_run() -> None:
    assert {phase for phase in Phase if phase.ended} == {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED}

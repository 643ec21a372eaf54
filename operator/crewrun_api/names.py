"""Every name that CrewRun gives: API group, labels, annotations, Jobs, files, environment variables.

Keys, labels and names are built here and nowhere else. They are contracts: a test fails when one changes.
"""

import hashlib
from typing import Any

GROUP = "crewrun.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_RUN = f"{GROUP}/run"
LABEL_RUN_UID = f"{GROUP}/run-uid"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_CREW = f"{GROUP}/crew"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "crewrun"
COMPONENT_RUNNER = "runner"
#: Kueue's own, on a run: its LocalQueue, and the class of its Workload's priority. Passed on to the runner's Jobs.
LABEL_KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
LABEL_KUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"

#: On the Pod template: the resolved spec and the inputs, mounted as files by a downwardAPI volume.
ANNOTATION_SPEC = f"{GROUP}/spec"
ANNOTATION_INPUTS = f"{GROUP}/inputs"
#: On the Job: the whole name of the run, which a label may have to shorten.
ANNOTATION_RUN = f"{GROUP}/run"
#: On the Job: what the operator itself needs to decide about this attempt (retry, deadlines), as JSON.
ANNOTATION_SETTINGS = f"{GROUP}/settings"
#: On the Pod template: the certificate authorities that reports go by, as PEM.
ANNOTATION_CA = f"{GROUP}/report-ca"
#: On the Pod template of a webhook: what is posted, and where, as JSON.
ANNOTATION_WEBHOOK = f"{GROUP}/webhook"
#: On a run: the span that it is a part of, in W3C's format. The runner's variable is the one that tools agree on.
ANNOTATION_TRACEPARENT = f"{GROUP}/traceparent"
#: On the ConfigMap of a checkpoint: the execution that it came from, and the digest of its bytes.
ANNOTATION_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_POD_UID = f"{GROUP}/pod-uid"
ANNOTATION_SEQUENCE = f"{GROUP}/sequence"
ANNOTATION_SHA256 = f"{GROUP}/sha256"

#: The audience of the token that a runner reports with.
AUDIENCE = GROUP

CONTAINER = "runner"
SPEC_DIR = "/etc/crewrun"
SPEC_FILE = "spec.json"
INPUTS_FILE = "inputs.json"
WEBHOOK_FILE = "webhook.json"
#: `token` and `ca.crt`, when the operator takes reports.
REPORT_DIR = "/var/run/crewrun/report"
TOKEN_FILE = "token"
CA_FILE = "ca.crt"
#: The checkpoint of the attempt before, if there is one, and the keys for checkpoints, if they are encrypted.
CHECKPOINT_DIR = "/var/run/crewrun/checkpoint"
CHECKPOINT_KEY = "checkpoint"
CHECKPOINT_KEYS_DIR = "/var/run/crewrun/checkpoint-keys"
OUTPUT_KEY = "output"
HOME_DIR = "/home/crewrun"
#: Where the store of CrewAI's memory is, in an emptyDir or a claim.
MEMORY_DIR = "/var/lib/crewrun/memory"
ENV_MEMORY_DIR = "CREWRUN_MEMORY_DIR"
TERMINATION_LOG = "/dev/termination-log"

ENV_RUN_NAME = "CREWRUN_RUN_NAME"
ENV_RUN_NAMESPACE = "CREWRUN_RUN_NAMESPACE"
ENV_RUN_UID = "CREWRUN_RUN_UID"
ENV_ATTEMPT = "CREWRUN_ATTEMPT"
ENV_POD_UID = "CREWRUN_POD_UID"
ENV_DIGEST = "CREWRUN_DIGEST"
#: What the run may spend, and what is gone of it, as JSON; without it there is no limit.
ENV_ALLOWANCE = "CREWRUN_ALLOWANCE"
#: Set when its queue has a rate: no request is made before there is a lease.
ENV_PACED = "CREWRUN_PACED"
#: Where to report; without it the runner does not.
ENV_REPORT_URL = "CREWRUN_REPORT_URL"
#: sha256 of the checkpoint to go on from, in hex; without it the attempt starts from scratch.
ENV_CHECKPOINT_SHA256 = "CREWRUN_CHECKPOINT_SHA256"
#: The span that the run is a part of, as W3C's traceparent.
ENV_TRACEPARENT = "TRACEPARENT"
#: The values of inputs that Secrets hold, with their number from 0 at the end.
ENV_SECRET_INPUT = "CREWRUN_INPUT_"
#: Of a webhook: its address, when a Secret holds it, and the values of its headers, with their number at the end.
ENV_WEBHOOK_URL = "CREWRUN_URL"
ENV_WEBHOOK_HEADER = "CREWRUN_HEADER_"
#: The attempt that the Job of a webhook and its Pods are labelled with: it is none.
WEBHOOK_ATTEMPT = 0

#: The resolved spec and the inputs together may hold this many bytes; larger crews belong in an image.
PAYLOAD_LIMIT_BYTES = 200 * 1024

_LABEL_LIMIT = 63
_NAME_LIMIT = 253
_HASH_LENGTH = 8
_UID_LENGTH = 5


def short_uid(uid: str) -> str:
    """The five characters of a run's UID that stand in the names of what it makes."""
    return uid[:_UID_LENGTH]


def shorten(name: str, limit: int = _LABEL_LIMIT) -> str:
    """`name` if it has at most `limit` characters, else its beginning and a hash of the whole."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: limit - _HASH_LENGTH - 1].rstrip('-.')}-{digest}"


def job_name(run: str, uid: str, attempt: int) -> str:
    """The Job of one attempt: the same for the same run, UID and attempt, and no other.

    The Pod's name adds six characters to it, and both must be DNS labels for the Pod's host name, so
    dots of the run's name become dashes (the UID keeps `a.b` and `a-b` apart) and long names are cut.
    """
    suffix = f"-{short_uid(uid)}-{attempt}"
    return shorten(run.replace(".", "-"), _LABEL_LIMIT - len(suffix) - 6) + suffix


def webhook_job_name(run: str, uid: str, attempts: int) -> str:
    """The Job that tells of the end that came after so many attempts; bounded as `job_name` is."""
    suffix = f"-{short_uid(uid)}-hook-{attempts}"
    return shorten(run.replace(".", "-"), _LABEL_LIMIT - len(suffix) - 6) + suffix


def owner(run: str, uid: str) -> dict[str, Any]:
    """The reference by which the garbage collector takes away what a run has made."""
    return {"apiVersion": API_VERSION, "kind": "CrewRun", "name": run, "uid": uid, "controller": True}


def output_name(run: str, uid: str) -> str:
    """The ConfigMap of a run's output."""
    return _of_run(run, uid, "output")


def checkpoint_name(run: str, uid: str) -> str:
    """The ConfigMap of a run's checkpoint."""
    return _of_run(run, uid, "checkpoint")


def _of_run(run: str, uid: str, what: str) -> str:
    suffix = f"-{short_uid(uid)}-{what}"
    return shorten(run, _NAME_LIMIT - len(suffix)) + suffix


def report_path(namespace: str, run: str, attempt: int | str) -> str:
    """Where the operator takes the reports of an attempt."""
    return f"/v1/runs/{namespace}/{run}/attempts/{attempt}"


def run_label(run: str) -> str:
    """A run's (or crew's) name as a label value: shortened with a hash where it is too long."""
    return shorten(run)


def payload_digest(spec: bytes, inputs: bytes) -> str:
    """What the runner checks: a digest of its two files, exactly as they are mounted."""
    return "sha256:" + hashlib.sha256(spec + b"\n" + inputs).hexdigest()

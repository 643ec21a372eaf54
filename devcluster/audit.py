"""What the API server writes down of requests. Pure: the policy, the flags, and where kind's node keeps the log.

The log is what the operator's rights are compared with: who asked what of which resource, and no content.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

POLICY_FILE = "audit-policy.yaml"
LOG_FILE = "audit.log"
# Room for a few whole test suites; older parts go first.
_FILE_MEGABYTES, _OLD_FILES = 100, 3

_IN_NODE = PurePath("/etc/kubernetes/crewrun-audit")
KIND_LOGS = PurePath("/var/log/crewrun-audit")


def policy() -> dict[str, Any]:
    """Requests of service accounts, except those of Kubernetes' own controllers: they never end."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["*"]},
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    }


def flags(policy_file: PurePath, log: PurePath) -> dict[str, str]:
    """The API server's arguments."""
    return {
        "audit-policy-file": str(policy_file),
        "audit-log-path": str(log),
        "audit-log-maxsize": str(_FILE_MEGABYTES),
        "audit-log-maxbackup": str(_OLD_FILES),
    }


def kind_flags() -> dict[str, str]:
    return flags(_IN_NODE / POLICY_FILE, KIND_LOGS / LOG_FILE)


def kind_volumes() -> list[dict[str, Any]]:
    """From kind's node into the API server's own Pod."""
    return [
        _volume("crewrun-audit-policy", _IN_NODE, read_only=True),
        _volume("crewrun-audit-log", KIND_LOGS, read_only=False),
    ]


def kind_mount(policy_file: PurePath) -> dict[str, Any]:
    """From the machine into kind's node."""
    return {"hostPath": str(policy_file), "containerPath": str(_IN_NODE / POLICY_FILE), "readOnly": True}


def _volume(name: str, folder: PurePath, *, read_only: bool) -> dict[str, Any]:
    path = str(folder)
    return {
        "name": name,
        "hostPath": path,
        "mountPath": path,
        "readOnly": read_only,
        "pathType": "DirectoryOrCreate",
    }

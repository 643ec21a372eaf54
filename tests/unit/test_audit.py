"""Reading the API server's audit log: what counts as a right that was used."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import Request, Right, granted, log_lines, requests

ALLOWED = {
    "authorization.k8s.io/decision": "allow",
    "authorization.k8s.io/reason": 'RBAC: allowed by ClusterRoleBinding "crewrun" of ClusterRole "operator" to '
    'ServiceAccount "crewrun/crewrun-system"',
}
REFUSED = {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""}
RUN = {"resource": "crewruns", "apiGroup": "crewrun.dev", "namespace": "team-a"}


def line(**changes: Any) -> str:
    event = {
        "user": {"username": "system:serviceaccount:crewrun-system:crewrun"},
        "verb": "list",
        "objectRef": RUN,
        "requestReceivedTimestamp": "2026-11-23T10:00:00.000000Z",
        "annotations": ALLOWED,
        **changes,
    }
    return json.dumps(event)


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        pytest.param({}, [("crewrun.dev", "crewruns", "list", "operator", "team-a")], id="a list in a namespace"),
        pytest.param(
            {"objectRef": {"resource": "pods"}, "verb": "watch"},
            [("", "pods", "watch", "operator", "")],
            id="the core group, everywhere",
        ),
        pytest.param(
            {"objectRef": {**RUN, "subresource": "status"}, "verb": "patch"},
            [("crewrun.dev", "crewruns/status", "patch", "operator", "team-a")],
            id="a subresource",
        ),
        pytest.param(
            {"annotations": REFUSED},
            [("crewrun.dev", "crewruns", "list", "", "team-a")],
            id="what was refused has no role",
        ),
        pytest.param({"user": {"username": "system:serviceaccount:team-a:crewrun"}}, [], id="another account"),
        pytest.param({"requestReceivedTimestamp": "2026-11-23T09:59:59.999999Z"}, [], id="before the moment"),
        pytest.param({"objectRef": None}, [], id="no resource"),
    ],
)
def test_a_line_of_the_audit_log_is_a_right_that_was_used(changes: Any, want: list[tuple[str, ...]]) -> None:
    found = requests([line(**changes)], "crewrun-system:crewrun", since="2026-11-23T10:00:00")

    want_requests = [Request(Right(group, resource, verb), role, place) for group, resource, verb, role, place in want]
    assert [*found] == want_requests


def test_a_rule_grants_each_of_its_verbs_on_each_of_its_resources() -> None:
    role = {"rules": [{"apiGroups": ["", "batch"], "resources": ["pods", "jobs"], "verbs": ["get", "list"]}]}

    assert len(granted(role)) == 8
    assert Right("batch", "jobs", "get") in granted(role)


def test_the_log_is_read_with_its_older_parts_and_without_a_line_that_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "audit-2026-11-23T10-00-00.000.log").write_text("first\n")
    (tmp_path / "audit.log").write_text("second\nthi")

    assert [*log_lines(tmp_path / "audit.log")] == ["first\n", "second\n"]


@pytest.mark.parametrize(
    ("right", "want"),
    [(Right("", "pods", "list"), "list pods"), (Right("batch", "jobs", "get"), "get jobs.batch")],
)
def test_a_right_reads_well(right: Right, want: str) -> None:
    assert str(right) == want

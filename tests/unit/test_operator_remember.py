"""Where a crew's memory is kept."""

from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.quantity import in_bytes
from crewrun_api.resolved import ResolvedRun
from crewrun_operator.attachments import Attachments
from crewrun_operator.job import build_job
from crewrun_operator.remember import remember
from tests.unit.builders import RunBuilder, a_payload

EMPTY = {"emptyDir": {"sizeLimit": "1Gi"}}
CASES: list[tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any] | None]] = [
    (None, {}, None),
    ({"enabled": False}, {}, None),
    ({"enabled": True}, {}, EMPTY),
    ({"enabled": True, "size": "200Mi"}, {}, {"emptyDir": {"sizeLimit": "200Mi"}}),
    ({"enabled": True, "persistentVolumeClaim": "kept"}, {}, {"persistentVolumeClaim": {"claimName": "kept"}}),
    ({"enabled": True}, {"memory": False}, None),
    ({"enabled": False}, {"memory": True}, EMPTY),
    (None, {"memory": True}, None),
]


@pytest.mark.parametrize(("memory", "definition", "want"), CASES, ids=str)
def test_a_crew_that_remembers_has_a_place_for_it(
    memory: dict[str, Any] | None, definition: dict[str, Any], want: dict[str, Any] | None
) -> None:
    settings = {} if memory is None else {"memory": memory}
    resolved, extras = ResolvedRun.model_validate({"crew": "c", "definition": definition, **settings}), Attachments()
    remember(resolved, extras)
    if want is None:
        assert extras == Attachments()
    else:
        assert extras.volumes == [{"name": "crewrun-memory", **want}]
        assert extras.mounts == [{"name": "crewrun-memory", "mountPath": names.MEMORY_DIR}]
        assert extras.env == [{"name": names.ENV_MEMORY_DIR, "value": names.MEMORY_DIR}]


def test_the_pod_has_that_place() -> None:
    job = build_job(RunBuilder().build(), 1, a_payload(memory={"enabled": True}))
    pod = job["spec"]["template"]["spec"]
    assert {"name": "crewrun-memory", **EMPTY} in pod["volumes"]
    (container,) = pod["containers"]
    assert {"name": "crewrun-memory", "mountPath": names.MEMORY_DIR} in container["volumeMounts"]
    assert {"name": names.ENV_MEMORY_DIR, "value": names.MEMORY_DIR} in container["env"]


AMOUNTS = [("1Gi", 2**30), ("1.5Ki", 1536), ("2M", 2_000_000), ("7", 7), ("1e3", 1000)]


@pytest.mark.parametrize(("quantity", "want"), AMOUNTS, ids=str)
def test_an_amount_is_read_as_kubernetes_writes_it(quantity: str, want: int) -> None:
    assert in_bytes(quantity) == want

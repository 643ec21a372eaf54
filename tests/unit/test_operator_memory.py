"""More memory after an OOM kill."""

import pytest

from crewrun_api.reasons import Outcome, Reason
from crewrun_api.run import AttemptStatus, RunStatus
from crewrun_api.settings import MemoryGrowth
from crewrun_operator.job import build_job
from crewrun_operator.memory import grown
from tests.unit.builders import RunBuilder, a_payload

MI = 1024**2


@pytest.mark.parametrize(
    ("limit", "factor", "most", "kills", "want_limit"),
    [
        pytest.param("512Mi", 1.5, "2Gi", 0, "512Mi", id="no kill, nothing more"),
        pytest.param("512Mi", 1.5, "2Gi", 1, str(768 * MI), id="one kill"),
        pytest.param("512Mi", 1.5, "2Gi", 2, str(1152 * MI), id="two kills"),
        pytest.param("512Mi", 2, "1Gi", 5, str(1024 * MI), id="never over the bound"),
        pytest.param("2Gi", 2, "1Gi", 1, "2Gi", id="never less than it was"),
        pytest.param("512M", 2, "1G", 1, "1000000000", id="powers of ten, cut at the bound"),
        pytest.param("100", 2, "1Ki", 1, "200", id="bytes"),
        pytest.param("1e3", 2, "1Mi", 1, "2000", id="an exponent"),
        pytest.param("0.5Gi", 2, "4Gi", 1, str(1024 * MI), id="a fraction"),
        pytest.param("much", 2, "1Gi", 1, "much", id="no quantity is left for the API server to refuse"),
        pytest.param("1Gi", 2, "lots", 1, "1Gi", id="a bound that is no quantity bounds nothing"),
        pytest.param("", 2, "1Gi", 1, "", id="empty"),
    ],
)
def test_the_limit_grows_with_each_kill(limit: str, factor: float, most: str, kills: int, want_limit: str) -> None:
    assert grown(limit, MemoryGrowth(memory_factor=factor, max_memory=most), kills) == want_limit


@pytest.mark.parametrize(
    ("reasons", "want_memory"),
    [
        pytest.param([], "100Mi", id="the first attempt"),
        pytest.param([Reason.TASK_FAILED], "100Mi", id="another failure"),
        pytest.param([Reason.OUT_OF_MEMORY], str(200 * MI), id="one kill"),
        pytest.param([Reason.OUT_OF_MEMORY, Reason.TASK_FAILED], str(200 * MI), id="and it stays so"),
        pytest.param([Reason.OUT_OF_MEMORY] * 2, str(400 * MI), id="two kills"),
    ],
)
def test_a_job_asks_for_the_memory_that_earlier_attempts_needed(reasons: list[Reason], want_memory: str) -> None:
    attempts = [
        AttemptStatus(number=number, job=f"job-{number}", outcome=Outcome.FAILED, reason=reason)
        for number, reason in enumerate(reasons, start=1)
    ]
    run = RunBuilder().status(RunStatus(attempts=attempts)).build()
    growth = {"memoryFactor": 2, "maxMemory": "1Gi"}
    resources = {"requests": {"memory": "50Mi"}, "limits": {"memory": "100Mi", "cpu": "1"}}
    payload = a_payload(pod={"image": "i", "resources": resources}, retry={"outOfMemory": growth})
    (container,) = build_job(run, len(reasons) + 1, payload)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": want_memory, "cpu": "1"}
    assert container["resources"]["requests"] == {"memory": "50Mi"}

"""Signals, deadlines, and what must not end a run."""

import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, crew, task, wait_for


def blocks_sigterm(pid: int) -> bool:
    """From here on no signal is lost, also when the process is PID 1."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1]
    return bool(int(mask, 16) & 1 << signal.SIGTERM - 1)


def test_sigterm_in_a_hanging_llm_call_leaves_a_record_well_within_the_grace_period(
    runner: Runner, llm: ThreadedLLM
) -> None:
    llm.set_script({"rules": [{"match": {"user": "Do report"}, "replies": [{"text": "late", "delaySeconds": 30}]}]})
    running = runner.start(crew(task("facts", "researcher"), task("report")), pod={"terminationGracePeriodSeconds": 4})
    wait_for(lambda: llm.ledger.totals.calls == 2)
    told = time.monotonic()
    running.stop()
    finished = running.finish()
    end = finished.end
    assert 1.6 <= time.monotonic() - told < 3.5  # the call gets 40% of the time
    assert (finished.exit_code, end.outcome, end.reason) == (ExitCode.STOPPED, Outcome.STOPPED, Reason.CANCELLED)
    assert end.message == "stopped by SIGTERM before it finished"
    assert [record.state for record in end.tasks] == [TaskState.SUCCEEDED, TaskState.PENDING]
    assert (end.usage.requests, end.usage.total_tokens) == (1, llm.ledger.totals.total_tokens)
    # The provider may bill the call that was given up.
    assert end.usage.incomplete and end.usage.reserved_tokens > 0
    assert finished.lines[-1]["event"] == "run_stopped"


def test_sigterm_in_an_llm_call_that_is_answered_soon_counts_it_and_makes_no_other(
    runner: Runner, llm: ThreadedLLM
) -> None:
    llm.set_script({"default": {"text": "soon", "delaySeconds": 1}})
    running = runner.start(crew(task("facts", "researcher"), task("report")))
    wait_for(lambda: llm.ledger.totals.calls == 1)
    running.stop()
    end = running.finish().end
    assert (end.outcome, end.reason) == (Outcome.STOPPED, Reason.CANCELLED)
    assert [record.state for record in end.tasks] == [TaskState.SUCCEEDED, TaskState.PENDING]
    assert (end.usage.requests, llm.ledger.totals.calls) == (1, 1)
    assert (end.usage.incomplete, end.usage.reserved_tokens) == (False, 0)
    assert end.usage.total_tokens == llm.ledger.totals.total_tokens > 0


@pytest.mark.parametrize("moment", [0, 0.2, 0.5, 1.0])
def test_sigterm_while_starting_leaves_a_record(runner: Runner, llm: ThreadedLLM, moment: float) -> None:
    llm.set_script({"default": {"text": "late", "delaySeconds": 30}})
    running = runner.start(crew())
    wait_for(lambda: blocks_sigterm(running.process.pid))
    time.sleep(moment)
    running.stop()
    finished = running.finish()
    assert (finished.exit_code, finished.end.reason) == (ExitCode.STOPPED, Reason.CANCELLED)


def test_the_deadline_of_an_attempt_ends_it_in_an_llm_call(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": "late", "delaySeconds": 60}})
    finished = runner.run(crew(), attemptTimeoutSeconds=8)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.TASK_FAILED, Reason.ATTEMPT_TIMED_OUT)
    ran = [datetime.fromisoformat(moment) for moment in (finished.end.start_time, finished.end.completion_time)]
    assert 8 <= (ran[1] - ran[0]).total_seconds() < 20  # the answer would have come after 60
    assert finished.end.message == "not finished after 8 s (attemptTimeoutSeconds)"


def test_a_tool_or_library_that_exits_does_not_look_like_success(runner: Runner, llm: ThreadedLLM) -> None:
    """CrewAI's telemetry, when it is on, answers SIGTERM by exiting 0."""
    llm.set_script({"default": {"text": "late", "delaySeconds": 30}})
    telemetry = {"CREWAI_DISABLE_TELEMETRY": "false", "OTEL_SDK_DISABLED": "false"}
    running = runner.start(crew(), env=telemetry, pod={"terminationGracePeriodSeconds": 1})
    wait_for(lambda: llm.ledger.totals.calls == 1)
    running.stop()
    assert running.finish().exit_code == ExitCode.STOPPED

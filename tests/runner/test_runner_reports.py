"""What a runner tells the operator while it runs and at its end, and what it does on the operator's word."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.outcome import OutcomeRecord
from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_api.report import Report
from crewrun_testing import ThreadedLLM
from tests.runner.harness import KEY, TOKEN, Runner, crew, task, wait_for
from tests.support.reports import CONTINUE, ReportServer, Said, authority, closed_port

TWO = crew(task("facts", "researcher"), task("report"))
THREE = crew(task("facts", "researcher"), task("risks"), task("report"))
REFUSED = crew(task("report", tools=["custom:shell"]))
LATE = {"text": "late", "delaySeconds": 60}
SUSPEND = {"action": "Stop", "reason": "Suspended", "message": "spec.suspend is true"}


@pytest.fixture
def operator() -> Iterator[ReportServer]:
    with ReportServer() as server:
        yield server


def reply(llm: ThreadedLLM, name: str, **said: Any) -> None:
    """The task of this name is answered so, the others as always."""
    llm.set_script({"rules": [{"match": {"user": f"Do {name}"}, "replies": [said]}]})


def outcomes(operator: ReportServer) -> list[OutcomeRecord]:
    return [report.outcome for report in operator.reports if report.outcome]


def test_reports_grow_and_their_usage_is_the_ledgers(runner: Runner, llm: ThreadedLLM, operator: ReportServer) -> None:
    asked: list[int] = []  # for each report, the calls that the model had been asked for when it came

    def answer(_: Report) -> Said:
        asked.append(llm.ledger.totals.calls)
        return CONTINUE

    operator.answer = answer
    llm.set_script({"default": {"text": f"the key is {KEY}, the token {TOKEN}", "delaySeconds": 0.3}})
    finished = runner.run(THREE, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    reports, totals = operator.reports, llm.ledger.totals
    sequences = [report.snapshot.sequence for report in reports]
    assert sequences == sorted(set(sequences))
    done = [report.snapshot.tasks_succeeded for report in reports]
    assert done == sorted(done)
    # Before each call came a report that reserves it, and with it the checkpoint of the task before.
    reserved = [
        (report.snapshot.usage.requests, calls, report.checkpoint is not None)
        for report, calls in zip(reports, asked, strict=True)
        if report.snapshot.usage.reserved_tokens and report.snapshot.usage.requests == calls
    ]
    assert {(requests, calls) for requests, calls, _ in reserved} == {(0, 0), (1, 1), (2, 2)}
    assert sum(report.checkpoint is not None for report in reports) == 2  # none after the last task
    assert all(report.snapshot.usage.incomplete == bool(report.snapshot.usage.reserved_tokens) for report in reports)
    last = reports[-1]
    assert last.outcome == finished.end  # it fitted, so both say the same
    usage = last.snapshot.usage
    assert (usage.requests, usage.total_tokens) == (totals.succeeded_calls, totals.total_tokens)
    assert (usage.incomplete, usage.reserved_tokens) == (False, 0)
    assert {taken.authorization for taken in operator.taken} == {f"Bearer {TOKEN}"}
    assert {taken.path for taken in operator.taken} == {"/v1/runs/team-a/research-x7k2p/attempts/2"}
    told = b"".join(taken.body for taken in operator.taken)
    assert KEY.encode() not in told and TOKEN.encode() not in told and TOKEN not in finished.everything


@pytest.mark.parametrize("status", [200, 409])
def test_an_answer_to_stop_lets_the_call_in_flight_be_counted_and_no_other_begin(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer, status: int
) -> None:
    reply(llm, "risks", text="in time", delaySeconds=1)
    stopped: list[int] = []  # the calls that had been answered when the runner was told

    def answer(report: Report) -> Said:
        if report.outcome or llm.ledger.totals.calls < 2:
            return CONTINUE
        stopped.append(llm.ledger.totals.succeeded_calls)
        return status, SUSPEND

    operator.answer = answer
    finished = runner.run(THREE, reports=operator.url)
    assert stopped[0] == 1
    end = finished.end
    assert (finished.exit_code, end.outcome) == (ExitCode.STOPPED, Outcome.STOPPED), finished.stderr
    assert (end.reason, end.message) == (Reason.SUSPENDED, "spec.suspend is true")
    assert llm.ledger.totals.calls == 2
    assert [record.state for record in end.tasks] == [TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.PENDING]
    assert (end.usage.requests, end.usage.incomplete, end.usage.reserved_tokens) == (2, False, 0)
    assert end.usage.total_tokens == llm.ledger.totals.total_tokens
    assert [record.reason for record in outcomes(operator)] == [Reason.SUSPENDED]
    checkpoints = [report.snapshot.tasks_succeeded for report in operator.reports if report.checkpoint]
    assert checkpoints[-1] == 2  # the last one has the task of the call that was in flight


def test_a_stop_before_the_first_call_costs_nothing(runner: Runner, llm: ThreadedLLM, operator: ReportServer) -> None:
    operator.answer = lambda _: (409, {"action": "Stop", "reason": "NodeLost", "message": "another attempt runs"})
    finished = runner.run(TWO, reports=operator.url)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.STOPPED, Reason.NODE_LOST)
    assert llm.ledger.totals.calls == 0
    assert [record.state for record in finished.end.tasks] == [TaskState.PENDING, TaskState.PENDING]


def test_a_crew_that_answers_its_last_task_while_it_is_stopped_has_succeeded(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    reply(llm, "report", text="the answer", delaySeconds=0.7)
    stopped: list[int] = []  # the calls that had been answered when the runner was told

    def answer(_: Report) -> Said:
        if llm.ledger.totals.calls < 2:
            return CONTINUE
        stopped.append(llm.ledger.totals.succeeded_calls)
        return 200, SUSPEND

    operator.answer = answer
    finished = runner.run(TWO, reports=operator.url)
    assert stopped[0] == 1
    assert (finished.exit_code, finished.end.outcome) == (0, Outcome.SUCCEEDED)
    assert finished.end.output is not None and finished.end.output.value == "the answer"


@pytest.mark.parametrize("status", [0, 401])
def test_an_operator_that_takes_nothing_changes_nothing(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer, status: int
) -> None:
    operator.answer = lambda _: (status, "no answer of ours")
    with closed_port() as port:
        finished = runner.run(THREE, reports=operator.url if status else f"http://127.0.0.1:{port}/v1")
    assert (finished.exit_code, finished.end.outcome) == (0, Outcome.SUCCEEDED), finished.stderr
    assert finished.end.usage.total_tokens == llm.ledger.totals.total_tokens
    complaints = [line for line in finished.lines if line["event"].startswith("report_")]
    assert [line.get("status", 0) for line in complaints] == [status]


def test_an_operator_that_hangs_costs_a_crew_one_second_and_its_end_two(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    def hang(_: Report) -> Said:
        time.sleep(30)
        return CONTINUE

    operator.answer = hang
    finished = runner.run(crew(*(task(f"part-{number}") for number in range(6))), reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED
    loaded, completed = (line for line in finished.lines if line["event"] in ("crew_loaded", "run_completed"))
    times = [datetime.fromisoformat(line["ts"]).timestamp() for line in (loaded, completed)]
    assert 1 <= times[1] - times[0] < 4  # and not one second for each call
    assert 2 <= finished.seconds - completed["durationSeconds"] < 6


def test_a_large_output_waits_for_the_operator_to_come_back(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    text = "é" * 25_000
    reply(llm, "report", text=text)
    away = time.monotonic() + 60
    operator.answer = lambda report: CONTINUE if time.monotonic() > away else (503, "starting")
    running = runner.start(crew(task("report", output_file="out/report.txt")), reports=operator.url)
    wait_for(lambda: b'"outcome":"Succeeded"' in running.message)
    away = time.monotonic() + 1
    finished = running.finish()
    assert finished.exit_code == 0
    assert finished.end.output is not None and finished.end.output.truncated
    last = operator.reports[-1]
    assert last.outcome is not None and last.outcome.output is not None
    assert (last.outcome.output.value, last.outcome.output.truncated) == (text, False)
    assert [(file.name, file.upload and file.upload.content().decode()) for file in last.files] == [
        ("out/report.txt", text)
    ]


def test_an_operator_that_does_not_come_back_gets_the_grace_and_no_more(runner: Runner, llm: ThreadedLLM) -> None:
    reply(llm, "report", text="x" * 50_000)
    with closed_port() as port:
        finished = runner.run(crew(), reports=f"http://127.0.0.1:{port}/v1", reportGraceSeconds=3)
    assert (finished.exit_code, finished.end.outcome) == (0, Outcome.SUCCEEDED)
    output = finished.end.output
    assert output is not None and output.truncated and output.bytes == 50_000
    assert finished.lines[-1]["event"] == "report_given_up"
    completed = next(line for line in finished.lines if line["event"] == "run_completed")
    assert 3 <= finished.seconds - completed["durationSeconds"] < 8


def test_sigterm_ends_the_wait_for_the_operator(runner: Runner, llm: ThreadedLLM) -> None:
    reply(llm, "report", text="x" * 50_000)
    with closed_port() as port:
        running = runner.start(crew(), reports=f"http://127.0.0.1:{port}/v1")
        wait_for(lambda: b'"outcome":"Succeeded"' in running.message)
        told = time.monotonic()
        running.stop()
        finished = running.finish()
    assert time.monotonic() - told < 3
    assert (finished.exit_code, finished.end.outcome) == (0, Outcome.SUCCEEDED)


def test_a_runner_killed_in_a_call_leaves_what_it_had_and_what_the_call_may_cost(
    runner: Runner, llm: ThreadedLLM
) -> None:
    reply(llm, "report", **LATE)
    running = runner.start(TWO)
    wait_for(lambda: llm.ledger.totals.calls == 2)
    os.kill(running.process.pid, signal.SIGKILL)
    finished = running.finish()
    left = finished.snapshot
    assert finished.record is None and left is not None, finished.message
    assert [record.state for record in left.tasks] == [TaskState.SUCCEEDED, TaskState.RUNNING]
    assert (left.tasks_total, left.tasks_succeeded) == (2, 1)
    assert (left.usage.requests, left.usage.total_tokens) == (1, llm.ledger.totals.total_tokens)
    assert left.usage.incomplete and left.usage.reserved_tokens > 0


def test_sigterm_in_a_hanging_call_reports_the_last_checkpoint_within_the_grace_period(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    reply(llm, "report", **LATE)
    operator.answer = lambda report: CONTINUE if report.outcome else (503, "")
    running = runner.start(TWO, reports=operator.url, pod={"terminationGracePeriodSeconds": 5})
    wait_for(lambda: llm.ledger.totals.calls == 2)
    told = time.monotonic()
    running.stop()
    finished = running.finish()
    assert time.monotonic() - told < 4.5
    assert (finished.exit_code, finished.end.reason) == (ExitCode.STOPPED, Reason.CANCELLED)
    last = operator.reports[-1]
    assert last.checkpoint is not None and last.outcome is not None
    assert (last.outcome.outcome, last.outcome.tasks_succeeded) == (Outcome.STOPPED, 1)
    assert last.outcome.usage.reserved_tokens == finished.end.usage.reserved_tokens > 0


def test_the_token_goes_to_nobody_whom_the_authorities_do_not_name(
    runner: Runner, llm: ThreadedLLM, tmp_path: Path
) -> None:
    right, wrong = authority(tmp_path, "right"), authority(tmp_path, "wrong")
    reply(llm, "report", text="x" * 50_000)
    (tmp_path / "ca.crt").write_bytes(wrong.pem)
    with ReportServer(tls=right.context) as operator:
        running = runner.start(crew(), reports=operator.url, env={"SSL_CERT_FILE": str(tmp_path / "right.pem")})
        wait_for(lambda: b'"outcome":"Succeeded"' in running.message)
        time.sleep(0.7)
        assert operator.taken == []
        (tmp_path / "ca.crt").write_bytes(wrong.pem + right.pem)  # a rotation: both, and the process goes on
        finished = running.finish()
        assert finished.exit_code == 0
        assert {taken.authorization for taken in operator.taken} == {f"Bearer {TOKEN}"}
        assert outcomes(operator)
    assert TOKEN not in finished.everything
    complaints = [line["message"] for line in finished.lines if line["event"] == "report_not_taken"]
    assert len(complaints) == 1 and "certificate" in complaints[0]


def test_the_token_never_goes_in_plain_text_to_another_host(runner: Runner) -> None:
    finished = runner.run(REFUSED, reports="http://operator.crewrun-system.svc:8443/v1")
    assert finished.end.reason is Reason.INVALID_CREW
    assert [line["event"] for line in finished.lines] == ["runner_started", "report_address_refused", "run_failed"]


def test_a_crew_that_is_refused_is_reported_too(runner: Runner, operator: ReportServer) -> None:
    finished = runner.run(REFUSED, reports=operator.url)
    assert finished.end.reason is Reason.INVALID_CREW
    assert outcomes(operator) == [finished.end]


def test_an_attempt_goes_on_from_the_checkpoint_that_was_reported(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer, tmp_path: Path
) -> None:
    reply(llm, "report", fault={"status": 500})
    first = runner.run(THREE, reports=operator.url)
    assert (first.end.reason, first.end.tasks_succeeded) == (Reason.LLM_UNAVAILABLE, 2)
    kept = [report.checkpoint for report in operator.reports if report.checkpoint][-1]
    checkpoint = kept.content()
    (tmp_path / names.CHECKPOINT_KEY).write_bytes(checkpoint)
    operator.taken.clear()
    llm.reset()
    llm.set_script({"default": {"text": "the report"}})
    env = {
        names.ENV_CHECKPOINT_SHA256: kept.sha256,
        "CREWRUN_CHECKPOINT_DIR": str(tmp_path),
        names.ENV_ATTEMPT: "3",
    }
    second = runner.elsewhere(tmp_path / "second").run(THREE, reports=operator.url, env=env)
    end = second.end
    assert (end.outcome, end.resumed_from_task, end.checkpoint_refused) == (Outcome.SUCCEEDED, "report", "")
    assert [record.attempt for record in end.tasks] == [2, 2, None]
    assert [record.model_dump(exclude={"attempt"}) for record in end.tasks[:2]] == [
        record.model_dump(exclude={"attempt"}) for record in first.end.tasks[:2]
    ]
    assert (end.tasks_succeeded, end.usage.requests, llm.ledger.totals.calls) == (3, 1, 1)
    events = [line["event"] for line in second.lines]
    assert events[:4] == ["runner_started", "crew_loaded", "run_resumed", "task_started"]
    assert [line["task"] for line in second.lines if "task" in line] == ["report"] * 4
    assert operator.reports[0].snapshot.resumed_from_task == "report"
    assert not any(report.checkpoint for report in operator.reports)  # the operator has it


def test_a_checkpoint_that_cannot_be_used_is_refused_and_the_crew_starts_from_scratch(
    runner: Runner, llm: ThreadedLLM, tmp_path: Path
) -> None:
    (tmp_path / names.CHECKPOINT_KEY).write_bytes(b"damaged")
    digest = sha256(b"damaged").hexdigest()
    env = {names.ENV_CHECKPOINT_SHA256: digest, "CREWRUN_CHECKPOINT_DIR": str(tmp_path)}
    finished = runner.run(TWO, env=env)
    end = finished.end
    assert (end.outcome, end.tasks_succeeded, llm.ledger.totals.calls) == (Outcome.SUCCEEDED, 2, 2)
    assert (end.resumed_from_task, [record.attempt for record in end.tasks]) == (None, [None, None])
    refused = [line["message"] for line in finished.lines if line["event"] == "checkpoint_refused"]
    assert refused == [end.checkpoint_refused] and "starts from scratch" in end.checkpoint_refused

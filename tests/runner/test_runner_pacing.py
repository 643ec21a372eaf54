"""Leases of a queue's rate: requests of every kind wait for their turn, and whatever ends the run ends the wait."""

from collections.abc import Iterator

import pytest

from crewrun_api import names
from crewrun_api.reasons import ExitCode, Outcome, Reason
from crewrun_api.report import Report
from crewrun_testing import ThreadedLLM
from tests.runner.harness import AGENTS, Runner, crew, task
from tests.support.reports import CONTINUE, ReportServer, Said

PACED = {names.ENV_PACED: "true"}
SOON = {"Retry-After": "1"}
TWO = crew(task("facts", "researcher"), task("report"))


@pytest.fixture
def operator() -> Iterator[ReportServer]:
    with ReportServer() as server:
        yield server


def lent(requests: float | None = None, tokens: float | None = None, seconds: float = 30) -> Said:
    """The answer to go on, with a lease."""
    lease = {"requestsPerMinute": requests, "tokensPerMinute": tokens, "seconds": seconds}
    return 200, {**CONTINUE[1], "lease": {name: value for name, value in lease.items() if value is not None}}


def most_in(seconds: float, llm: ThreadedLLM) -> int:
    """The most requests in any so many seconds, by the provider's own log."""
    times = [entry.start_time for entry in llm.ledger.entries]
    return max(sum(start <= time < start + seconds for time in times) for start in times)


def waits(lines: list[dict[str, str]]) -> list[str]:
    return [line["message"] for line in lines if line["event"] == "llm_call_waits"]


@pytest.mark.parametrize("streaming", [False, True])
def test_requests_of_parallel_tasks_retries_and_fallback_models_keep_to_the_lease(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer, streaming: bool
) -> None:
    operator.answer = lambda _: lent(requests=120)
    refused, broken = {"fault": {"status": 429}}, {"fault": {"status": 500}}
    llm.set_script(
        {
            "rules": [
                {"match": {"user": "Do again"}, "replies": [refused, {"text": "done"}]},
                {"match": {"user": "Do elsewhere", "model": "gpt-4o"}, "replies": [broken]},
            ]
        }
    )
    agents = {**AGENTS, "writer": {**AGENTS["writer"], "llm": {"model": "openai/gpt-4o", "stream": streaming}}}
    tasks = [task(name, async_execution=True) for name in ("again", "elsewhere", *"abcdefgh")]
    fallback = {"maxRetries": 1, "fallbackModels": ["openai/gpt-4o-mini"]}
    finished = runner.run(crew(*tasks, task("report"), agents=agents), llm=fallback, env=PACED, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert llm.ledger.totals.calls >= 14
    assert {entry.model for entry in llm.ledger.entries} == {"gpt-4o", "gpt-4o-mini"}
    assert most_in(3, llm) <= 6 + 2, "one that a minute's edges let in, and one that came late to the provider"
    assert len(waits(finished.lines)) == 1
    assert any(report.paced and report.paced.requests_waited for report in operator.reports)


def test_tokens_are_paid_by_what_the_answers_say(runner: Runner, llm: ThreadedLLM, operator: ReportServer) -> None:
    """By what the requests could have used, the run would take an hour."""
    operator.answer = lambda _: lent(tokens=60_000)
    llm.set_script({"default": {"text": "done", "usage": {"promptTokens": 900, "completionTokens": 100}}})
    finished = runner.run(crew(*(task(name) for name in "abcd")), env=PACED, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert most_in(2, llm) <= 2 + 2
    assert any(report.paced and report.paced.tokens_waited for report in operator.reports)
    assert operator.reports[-1].paced is not None and operator.reports[-1].paced.tokens_owed <= 1000


def test_without_a_rate_nothing_is_paced(runner: Runner, llm: ThreadedLLM, operator: ReportServer) -> None:
    finished = runner.run(TWO, env=PACED, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert operator.reports[-1].paced is None


def test_a_rate_that_is_set_while_a_crew_runs_binds_its_next_request(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    since: list[int] = []  # the calls that had been made with each report since then

    def answer(_: Report) -> Said:
        if not llm.ledger.totals.calls:
            return CONTINUE
        since.append(llm.ledger.totals.calls)
        return lent(requests=0 if len(since) < 10 else 600)

    operator.answer = answer
    finished = runner.run(TWO, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert since[:10] == [1] * 10
    assert llm.ledger.totals.calls == 2


@pytest.mark.parametrize("told", [lent(requests=0), (503, "away")], ids=["no part is left", "nobody answers"])
def test_a_run_that_waits_for_its_first_lease_asks_nothing_and_can_be_stopped(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer, told: Said
) -> None:
    def answer(_: Report) -> Said:
        waited = len(operator.taken) > 4
        return (200, {"action": "Stop", "reason": "Suspended", "message": "spec.suspend is true"}) if waited else told

    operator.answer, operator.headers = answer, SOON
    finished = runner.run(TWO, env=PACED, reports=operator.url)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.STOPPED, Reason.SUSPENDED), finished.stderr
    assert llm.ledger.totals.calls == 0
    assert (finished.end.usage.incomplete, finished.end.usage.reserved_tokens) == (False, 0)
    assert len(waits(finished.lines)) == 1


def test_the_time_limit_of_an_attempt_ends_the_wait(runner: Runner, llm: ThreadedLLM, operator: ReportServer) -> None:
    operator.answer = lambda _: lent(requests=0)
    finished = runner.run(TWO, env=PACED, reports=operator.url, attemptTimeoutSeconds=5)
    assert (finished.exit_code, finished.end.reason) == (ExitCode.TASK_FAILED, Reason.ATTEMPT_TIMED_OUT)
    assert llm.ledger.totals.calls == 0


def test_a_lease_that_ended_is_worth_nothing_until_there_is_another(
    runner: Runner, llm: ThreadedLLM, operator: ReportServer
) -> None:
    while_away: list[int] = []  # the calls that had been made whenever a report was not taken

    def answer(_: Report) -> Said:
        if not llm.ledger.totals.calls:
            return lent(requests=12, seconds=2)  # the second call is five seconds after the first
        if len(while_away) < 4:
            while_away.append(llm.ledger.totals.calls)
            return 503, "away"
        return lent(requests=600)

    operator.answer, operator.headers = answer, SOON
    finished = runner.run(TWO, env=PACED, reports=operator.url)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert while_away == [1] * 4
    assert llm.ledger.totals.calls == 2
    assert "no lease of the queue's rate is left" in waits(finished.lines)[-1]

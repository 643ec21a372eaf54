"""The record's usage against the provider's ledger."""

from typing import Any

import pytest

from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_testing import ThreadedLLM
from tests.runner.harness import POD_UID, RUN_UID, Finished, Runner, crew, task

DELEGATE = {
    "name": "delegate_work_to_coworker",
    "arguments": {"task": "Look it up", "context": "For the report", "coworker": "Researcher"},
}
PARALLEL = (
    task("facts", "researcher", async_execution=True),
    task("risks", "researcher", async_execution=True),
    task("costs", "writer", async_execution=True),
    task("report", context=["facts", "risks", "costs"]),
)


def assert_equals_ledger(finished: Finished, llm: ThreadedLLM) -> None:
    usage, totals = finished.end.usage, llm.ledger.totals
    assert usage.requests == totals.succeeded_calls
    assert usage.prompt_tokens == totals.prompt_tokens
    assert usage.completion_tokens == totals.completion_tokens
    assert usage.total_tokens == totals.total_tokens
    assert usage.cached_prompt_tokens == totals.cached_tokens
    assert not usage.incomplete
    assert sum(model.requests for model in usage.by_model) == usage.requests
    assert sum(record.total_tokens for record in finished.end.tasks) == usage.total_tokens


def test_parallel_tasks_of_one_agent_succeed_and_every_call_is_counted_once(runner: Runner, llm: ThreadedLLM) -> None:
    usage = {"promptTokens": 100, "completionTokens": 10, "cachedTokens": 40}
    llm.set_script({"default": {"text": "done", "delaySeconds": 0.2, "usage": usage}})
    finished = runner.run(crew(*PARALLEL))
    end = finished.end
    assert (finished.exit_code, end.outcome, end.reason) == (0, Outcome.SUCCEEDED, Reason.COMPLETED)
    assert (end.run_uid, end.attempt, end.pod_uid) == (RUN_UID, 2, POD_UID)
    assert [(record.name, record.agent, record.state) for record in end.tasks] == [
        ("facts", "Researcher", TaskState.SUCCEEDED),
        ("risks", "Researcher", TaskState.SUCCEEDED),
        ("costs", "Writer", TaskState.SUCCEEDED),
        ("report", "Writer", TaskState.SUCCEEDED),
    ]
    assert (end.tasks_total, end.tasks_succeeded) == (4, 4)
    assert [model.model for model in end.usage.by_model] == ["openai/gpt-4o"]
    assert end.output is not None and end.output.value == "done"
    assert_equals_ledger(finished, llm)
    starts = [str(record.start_time) for record in end.tasks[:3]]
    ends = [str(record.completion_time) for record in end.tasks[:3]]
    assert max(starts) < min(ends)  # all three at once


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_and_delegated_work_count_for_the_task_they_are_done_for(
    runner: Runner, llm: ThreadedLLM, streaming: bool
) -> None:
    rules = [
        {"name": "delegate", "match": {"user": "Do report"}, "replies": [{"toolCalls": [DELEGATE], "repeat": 1}]},
    ]
    llm.set_script({"rules": [{**rules[0], "replies": [*rules[0]["replies"], {"text": "The report."}]}]})
    definition = crew(task("facts", "researcher"), task("report"))
    agents: dict[str, Any] = {**definition["agents"]}
    agents["writer"] = {**agents["writer"], "allow_delegation": True}
    if streaming:
        agents["writer"]["llm"] = {"model": "openai/gpt-4o", "stream": True}
    finished = runner.run({**definition, "agents": agents})
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert llm.ledger.totals.succeeded_calls == 4  # facts; the tool call, the delegated work, the report
    assert finished.end.tasks[1].total_tokens > finished.end.tasks[0].total_tokens
    assert_equals_ledger(finished, llm)


def test_a_hierarchical_crew_gets_its_manager_from_the_settings(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(task("facts", "researcher"), task("report"), process="hierarchical"))
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    assert_equals_ledger(finished, llm)


def test_a_guardrail_that_never_agrees_is_named_and_its_calls_are_counted(runner: Runner, llm: ThreadedLLM) -> None:
    refusal = '{"valid": false, "feedback": "too short"}'
    llm.set_script({"rules": [{"match": {"anyMessage": "(?i)guardrail"}, "replies": [{"text": refusal}]}]})
    finished = runner.run(crew(task("report", guardrail="At least a page.", guardrail_max_retries=1)))
    assert (finished.exit_code, finished.end.reason) == (ExitCode.TASK_FAILED, Reason.GUARDRAIL_FAILED)
    assert finished.end.message.startswith("task report, agent Writer: ")
    assert finished.end.usage.requests == llm.ledger.totals.succeeded_calls == 4
    assert finished.end.usage.total_tokens == llm.ledger.totals.total_tokens


def test_a_run_that_fails_halfway_counts_what_parallel_tasks_still_get(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script(
        {
            "rules": [
                {"match": {"user": "Do facts"}, "replies": [{"fault": {"status": 400}, "delaySeconds": 0.3}]},
                {"match": {"user": "Do risks"}, "replies": [{"text": "late", "delaySeconds": 1.5}]},
            ]
        }
    )
    finished = runner.run(crew(task("intro"), *PARALLEL))
    end = finished.end
    assert (finished.exit_code, end.reason) == (ExitCode.LLM_PERMANENT, Reason.LLM_BAD_REQUEST)
    assert [record.state for record in end.tasks[:2]] == [TaskState.SUCCEEDED, TaskState.FAILED]
    assert end.tasks[-1].state is TaskState.PENDING
    assert llm.ledger.totals.succeeded_calls == 3  # intro, risks, costs
    assert_equals_ledger(finished, llm)

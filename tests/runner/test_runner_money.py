"""Fallback models, cost and budgets, against the provider's ledger."""

import json
import os
import random
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest

from crewrun_api import names
from crewrun_api.allowance import Allowance, Spent
from crewrun_api.reasons import ExitCode, Outcome, Reason, TaskState
from crewrun_api.settings import Budget
from crewrun_testing import ThreadedLLM
from tests.runner.harness import Runner, crew, task

#: USD for a million tokens: prompt, cached prompt, answer.
PRICES = {"openai/gpt-4o": ("2.50", "1.25", "10"), "openai/gpt-4o-mini": ("0.15", "0.075", "0.60")}
BROKEN = {"match": {"model": "gpt-4o"}, "replies": [{"fault": {"status": 500}}]}
FALLBACK = {"fallbackModels": ["openai/gpt-4o-mini"]}


def micro(model: str, prompt: int, cached: int, completion: int) -> int:
    """What one answer costs by the price list, as whole micro-USD."""
    plain, read, written = (Decimal(price) for price in PRICES[model])
    cost = (prompt - cached) * plain + cached * read + completion * written
    return int(cost.to_integral_value(ROUND_HALF_EVEN))


def billed(llm: ThreadedLLM) -> dict[str, int]:
    """Micro-USD by model, from the provider's own ledger."""
    sums: dict[str, int] = {}
    for entry in llm.ledger.entries:
        if entry.succeeded:
            model = f"openai/{entry.model}"
            sums[model] = sums.get(model, 0) + micro(
                model, entry.tokens.prompt, entry.tokens.cached, entry.tokens.completion
            )
    return sums


def allowance(spent: Spent | None = None, **budget: Any) -> dict[str, str]:
    """The environment of a runner with a budget."""
    given = Allowance(budget=Budget.model_validate(budget), spent=spent or Spent())
    return {names.ENV_ALLOWANCE: given.model_dump_json(by_alias=True)}


def test_a_fallback_answers_and_the_record_says_who_answered_what_and_what_it_cost(
    runner: Runner, llm: ThreadedLLM
) -> None:
    usage = {"promptTokens": 1003, "completionTokens": 17, "cachedTokens": 401}
    llm.set_script({"rules": [BROKEN], "default": {"text": "done", "usage": usage}})
    finished = runner.run(crew(task("facts"), task("report")), llm={"maxRetries": 1, **FALLBACK})
    end = finished.end
    assert (end.outcome, end.reason) == (Outcome.SUCCEEDED, Reason.COMPLETED), end.message
    # The first task asks the model twice and goes on with the other; the second leaves it alone.
    assert [entry.model for entry in llm.ledger.entries] == ["gpt-4o", "gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
    assert [model.model for model in end.usage.by_model] == ["openai/gpt-4o-mini"]
    assert [record.models for record in end.tasks] == [["openai/gpt-4o-mini"]] * 2
    assert end.message == "the crew finished; openai/gpt-4o-mini was asked for openai/gpt-4o (LLMUnavailable)"
    assert {model.model: model.cost_usd for model in end.usage.by_model} == billed(llm)
    assert end.usage.cost_usd == sum(record.cost_usd for record in end.tasks) == sum(billed(llm).values()) > 0
    (listed,) = end.usage.by_model
    assert (listed.price_key, listed.price_date) == ("openai/gpt-4o-mini", "2026-11-10")
    assert [line["event"] for line in finished.lines if "model" in line and "retried" in line["event"]] == [
        "llm_call_retried"
    ]
    (failover,) = [line for line in finished.lines if line["event"] == "llm_failover"]
    assert (failover["model"], failover["nextModel"], failover["status"]) == (
        "openai/gpt-4o",
        "openai/gpt-4o-mini",
        500,
    )


@pytest.mark.parametrize(
    ("status", "want"),
    [(401, True), (403, True), (429, True), (500, True), (503, True), (400, False), (404, False)],
)
def test_only_faults_that_another_model_may_not_have_lead_to_it(
    runner: Runner, llm: ThreadedLLM, status: int, want: bool
) -> None:
    llm.set_script({"rules": [{"match": {"model": "gpt-4o"}, "replies": [{"fault": {"status": status}}]}]})
    finished = runner.run(crew(), llm=FALLBACK)
    assert (finished.end.outcome is Outcome.SUCCEEDED) == want, finished.end.message


def test_when_every_model_is_down_the_attempt_fails_as_unavailable(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"fault": {"status": 503}}})
    finished = runner.run(crew(), llm=FALLBACK)
    assert finished.end.reason is Reason.LLM_UNAVAILABLE
    assert "model openai/gpt-4o-mini: 503" in finished.end.message
    assert [entry.model for entry in llm.ledger.entries] == ["gpt-4o", "gpt-4o-mini"]


def test_a_model_that_is_named_without_its_provider_has_its_fallback_too(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [BROKEN]})
    finished = runner.run(crew(), llm={"model": "gpt-4o", "fallbackModels": ["gpt-4o-mini"]})
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.end.message
    assert [entry.model for entry in llm.ledger.entries] == ["gpt-4o", "gpt-4o-mini"]


def test_an_agent_with_a_model_of_its_own_has_no_fallback(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"rules": [{"match": {"model": "gpt-4.1"}, "replies": [{"fault": {"status": 500}}]}]})
    agents = {"writer": {**crew()["agents"]["writer"], "llm": "openai/gpt-4.1"}}
    finished = runner.run({**crew(), "agents": agents}, llm=FALLBACK)
    assert finished.end.reason is Reason.LLM_UNAVAILABLE
    assert [entry.model for entry in llm.ledger.entries] == ["gpt-4.1"]


def test_a_fallback_that_the_image_cannot_ask_is_found_before_anything_is_spent(
    runner: Runner, llm: ThreadedLLM
) -> None:
    finished = runner.run(crew(), llm={"fallbackModels": ["anthropic/claude-sonnet-4-5"]})
    assert (finished.exit_code, finished.end.reason) == (ExitCode.INVALID, Reason.INVALID_CREW)
    assert "anthropic" in finished.end.message
    assert llm.ledger.totals.calls == 0


def test_an_unknown_model_has_an_unknown_cost_and_the_runs_own_prices_win(
    runner: Runner, llm: ThreadedLLM, tmp_path: Path
) -> None:
    usage = {"promptTokens": 100, "completionTokens": 10}
    llm.set_script({"default": {"text": "done", "usage": usage}})
    finished = runner.run(crew(), llm={"model": "openai/our-own"})
    wire = json.loads(finished.message)["usage"]
    assert (wire["costUSD"], wire["unpricedRequests"]) == ("unknown", 1)
    assert wire["byModel"][0]["costUSD"] == "unknown"

    prices = {"openai/gpt-4o": {"inputPerMillionUSD": "1", "outputPerMillionUSD": "100"}}
    own = runner.elsewhere(tmp_path / "own").run(crew(), prices=prices)
    assert own.end.usage.cost_usd == 100 + 1000
    assert own.end.usage.by_model[0].price_key == "spec.prices"


def test_a_budget_in_usd_is_refused_for_a_model_without_a_price(runner: Runner, llm: ThreadedLLM) -> None:
    finished = runner.run(crew(), llm={"model": "openai/our-own"}, env=allowance(maxCostUSD="1"))
    assert (finished.end.reason, llm.ledger.totals.calls) == (Reason.INVALID_CREW, 0)
    assert "budget.maxCostUSD" in finished.end.message and "openai/our-own" in finished.end.message


def test_over_its_budget_a_run_ends_with_what_was_spent_and_its_finished_tasks(
    runner: Runner, llm: ThreadedLLM
) -> None:
    llm.set_script({"default": {"text": "done", "usage": {"promptTokens": 900, "completionTokens": 100}}})
    finished = runner.run(crew(task("facts"), task("risks"), task("report")), env=allowance(maxRequests=2))
    end = finished.end
    assert (finished.exit_code, end.outcome, end.reason) == (
        ExitCode.BUDGET_EXCEEDED,
        Outcome.FAILED,
        Reason.BUDGET_EXCEEDED,
    )
    assert end.message.startswith("spent 2 of maxRequests 2; the next LLM request may need 1 of maxRequests;")
    want = [TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.PENDING]
    assert [record.state for record in end.tasks] == want
    assert (end.usage.requests, llm.ledger.totals.calls, end.usage.incomplete) == (2, 2, False)
    assert not [line for line in finished.lines if line["event"] in ("llm_call_failed", "task_failed")]


def test_what_earlier_attempts_spent_counts(runner: Runner, llm: ThreadedLLM) -> None:
    spent = Spent(requests=3, tokens=9_990, cost_usd=40_000)
    finished = runner.run(crew(), env=allowance(spent, maxTokens=10_000))
    assert finished.end.reason is Reason.BUDGET_EXCEEDED
    assert finished.end.message.startswith("spent 9990 of maxTokens 10000;")
    assert llm.ledger.totals.calls == 0


def test_an_answer_that_the_budget_cuts_is_no_answer(runner: Runner, llm: ThreadedLLM) -> None:
    llm.set_script({"default": {"text": "word " * 5_000}})
    finished = runner.run(crew(), env=allowance(maxTokens=3_000))
    assert (finished.end.reason, llm.ledger.totals.calls) == (Reason.BUDGET_EXCEEDED, 1), finished.end.message
    assert "an answer was cut at its limit of" in finished.end.message
    assert 0 < llm.ledger.totals.total_tokens <= 3_000
    assert finished.end.output is None


def random_crew(chance: random.Random) -> dict[str, Any]:
    """A few tasks, some of them side by side, with or without limits of their own."""
    tasks = [
        task(f"t{number}", chance.choice(["researcher", "writer"]), async_execution=chance.random() < 0.5)
        for number in range(chance.randint(1, 5))
    ]
    definition = crew(*tasks, task("last"))
    agents = {name: {**agent} for name, agent in definition["agents"].items()}
    for agent in agents.values():
        if chance.random() < 0.5:
            model = chance.choice(["openai/gpt-4o", "openai/gpt-4o-mini"])
            agent["llm"] = {
                "model": model,
                **({"max_tokens": chance.randint(50, 2_000)} if chance.random() < 0.7 else {}),
            }
    return {**definition, "agents": agents}


def random_budget(chance: random.Random) -> dict[str, Any]:
    caps = {
        "maxCostUSD": f"{chance.uniform(0.001, 0.05):.6f}",
        "maxTokens": chance.randint(500, 12_000),
        "maxRequests": chance.randint(1, 6),
    }
    return {name: caps[name] for name in chance.sample(sorted(caps), chance.randint(1, 3))}


def random_script(chance: random.Random) -> dict[str, Any]:
    """Answers of any length, some late, some faults among them."""
    replies: list[dict[str, Any]] = []
    for _ in range(chance.randint(1, 8)):
        if chance.random() < 0.2:
            replies.append({"fault": {"status": chance.choice([429, 500, 503])}})
        else:
            text = "word " * chance.choice([5, 50, 500, 3_000])
            replies.append({"text": text, "delaySeconds": chance.choice([0, 0.05, 0.2])})
    return {"rules": [{"replies": replies}]}


@pytest.mark.parametrize("seed", range(int(os.environ.get("CREWRUN_BUDGET_EXAMPLES", "12"))))
def test_no_crew_spends_more_than_its_caps(runner: Runner, llm: ThreadedLLM, seed: int) -> None:
    chance = random.Random(seed)
    budget, script = random_budget(chance), random_script(chance)
    llm.set_script(script)
    finished = runner.run(random_crew(chance), llm={"maxRetries": 2}, env=allowance(**budget))
    assert_within(budget, llm)
    usage, totals = finished.end.usage, llm.ledger.totals
    assert (usage.requests, usage.total_tokens) == (totals.succeeded_calls, totals.total_tokens)
    assert usage.cost_usd == sum(billed(llm).values())
    assert finished.end.reason in (
        Reason.COMPLETED,
        Reason.BUDGET_EXCEEDED,
        Reason.LLM_RATE_LIMITED,
        Reason.LLM_UNAVAILABLE,
    ), finished.end.message
    print(
        f"{budget}: {finished.end.reason}, {totals.succeeded_calls} calls, {totals.total_tokens} tokens, {billed(llm)}"
    )


def assert_within(budget: dict[str, Any], llm: ThreadedLLM) -> None:
    totals = llm.ledger.totals
    assert totals.succeeded_calls <= budget.get("maxRequests", 10**9)
    assert totals.total_tokens <= budget.get("maxTokens", 10**9)
    assert sum(billed(llm).values()) <= Decimal(budget.get("maxCostUSD", "1000")) * 1_000_000


#: A user's own code that asks models without blocking, side by side, and one that tells nobody what it used.
CODE = """
import asyncio
from crewai import LLM, BaseLLM
from crewai.flow import Flow, start

class Silent(BaseLLM):
    def call(self, messages, *args, **kwargs):
        return "said"

class Asks(Flow):
    @start()
    async def ask(self):
        llm = LLM(model="openai/gpt-4o", max_retries=1)
        answers = await asyncio.gather(*(llm.acall(f"Question {number}") for number in range(3)))
        return " ".join([*answers, Silent(model="own/silent").call("Question 4")])
"""


def test_calls_that_a_crews_own_code_makes_without_blocking_are_counted_and_have_a_fallback(
    runner: Runner, llm: ThreadedLLM, tmp_path: Path
) -> None:
    llm.set_script({"rules": [{**BROKEN, "replies": [{"fault": {"status": 503}, "delaySeconds": 0.3}]}]})
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text(CODE)
    env = {"CREWRUN_APP_DIR": str(code), **allowance(maxTokens=60_000)}
    finished = runner.run(None, entrypoint="mine:Asks", llm=FALLBACK, env=env)
    assert finished.end.outcome is Outcome.SUCCEEDED, finished.stderr
    asked = [entry.model for entry in llm.ledger.entries]
    assert sorted(asked) == ["gpt-4o"] * 6 + ["gpt-4o-mini"] * 3, "each is tried once more, and then goes elsewhere"
    usage = finished.end.usage
    assert (usage.requests, usage.total_tokens) == (3, llm.ledger.totals.total_tokens)
    assert usage.cost_usd == sum(billed(llm).values())
    assert (usage.incomplete, usage.reserved_requests) == (True, 1), "nobody knows what the fourth used"

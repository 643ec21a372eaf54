"""Fallback models, cost and budgets on real Pods: the model's ledger is the judge."""

from decimal import ROUND_HALF_EVEN, Decimal

from tests.e2e.conftest import Space
from tests.support.five_tasks import ANSWER, asked, five_tasks, rules
from tests.support.kube import Document, condition, crew, phase, run

#: USD for a million tokens: prompt, answer.
PRICES = {"openai/gpt-4o": ("2.50", "10"), "openai/gpt-4o-mini": ("0.15", "0.60")}
DOWN = {"name": "down", "match": {"model": "gpt-4o"}, "replies": [{"fault": {"status": 500}}]}


def cost(calls: list[Document]) -> dict[str, str]:
    """USD by model, of the answers that the ledger knows: each is rounded to a micro-USD."""
    micro: dict[str, int] = {}
    for call in calls:
        if call["succeeded"]:
            model = f"openai/{call['model']}"
            prompt, answer = (Decimal(price) for price in PRICES[model])
            exact = call["promptTokens"] * prompt + call["completionTokens"] * answer
            micro[model] = micro.get(model, 0) + int(exact.to_integral_value(ROUND_HALF_EVEN))
    return {model: f"{amount / 1_000_000:.6f}" for model, amount in micro.items()}


def test_when_the_primary_is_down_the_fallback_answers_and_every_figure_agrees(own: Space) -> None:
    own.llm.play(DOWN, {"replies": [ANSWER]})
    llm = {"fallbackModels": ["openai/gpt-4o-mini"], "maxRetries": 1}
    own.kube.apply(five_tasks(), run("r", "five", llm=llm))
    ended = own.kube.await_end("r")
    status = ended["status"]
    assert phase(ended) == "Succeeded", status
    assert [call["model"] for call in own.calls] == ["gpt-4o"] * 2 + ["gpt-4o-mini"] * 5
    by_model = {model["model"]: model["costUSD"] for model in status["usage"]["byModel"]}
    assert by_model == cost(own.calls)
    assert status["usage"]["costUSD"] == by_model["openai/gpt-4o-mini"]
    assert sum(Decimal(task["costUSD"]) for task in status["tasks"]) == Decimal(status["usage"]["costUSD"])
    assert {tuple(task["models"]) for task in status["tasks"]} == {("openai/gpt-4o-mini",)}
    assert "openai/gpt-4o-mini was asked for openai/gpt-4o (LLMUnavailable)" in status["attempts"][0]["message"]
    assert status["usage"]["costUSD"] in own.kube.kubectl("get", "crewrun", "r")
    print(f"{own.kube.kubectl('get', 'crewrun', 'r')}{status['usage']}")


def test_when_every_model_is_down_the_run_is_unavailable(own: Space) -> None:
    own.llm.play({"replies": [{"fault": {"status": 503}}]})
    llm = {"fallbackModels": ["openai/gpt-4o-mini"]}
    own.kube.apply(crew("plain"), run("r", "plain", llm=llm, retry={"maxAttempts": 1}))
    ended = own.kube.await_end("r")
    assert (phase(ended), condition(ended, "Succeeded")["reason"]) == ("Failed", "LLMUnavailable")
    assert [call["model"] for call in own.calls] == ["gpt-4o", "gpt-4o-mini"]


def test_a_run_over_its_budget_goes_on_when_it_has_more(own: Space) -> None:
    own.llm.play(*rules())
    own.kube.apply(five_tasks(), run("r", "five", budget={"maxRequests": 3}))
    over = own.kube.await_end("r")
    attempt = over["status"]["attempts"][0]
    assert (phase(over), attempt["reason"], attempt["exitCode"]) == ("Failed", "BudgetExceeded", 40)
    assert "spent 3 of maxRequests 3" in condition(over, "Succeeded")["message"]
    assert (over["status"]["progress"], over["status"]["usage"]["requests"]) == ("3/5", 3)
    print(condition(over, "Succeeded")["message"])

    patch = '{"spec":{"budget":{"maxRequests":5},"rerun":"1"}}'
    own.kube.kubectl("patch", "crewrun", "r", "--type=merge", "-p", patch)
    ended = own.kube.await_run(
        "r", lambda it: it["status"].get("rerun") == "1" and phase(it) in ("Succeeded", "Failed")
    )
    assert phase(ended) == "Succeeded", ended["status"]
    assert asked(own.calls) == ["t1", "t2", "t3", "t4", "t5"], "no task is paid twice"
    assert ended["status"]["attempts"][1]["resumedFromTask"] == "t4"
    assert ended["status"]["usage"]["requests"] == 5


def test_what_a_lost_attempt_may_have_spent_counts_against_the_budget(own: Space) -> None:
    """The runner is killed in a call: what that can have cost is gone for the next attempt."""
    slow = [{"text": "late", "delaySeconds": 60, "repeat": 1}, ANSWER]
    own.llm.play(*rules(t1=slow))
    retry = {"backoff": {"initialSeconds": 0}}
    own.kube.apply(five_tasks(), run("r", "five", budget={"maxTokens": 6_000}, retry=retry))
    own.await_calls(1)
    (pod,) = own.kube.items("pods")
    own.kube.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    ended = own.kube.await_end("r", seconds=180)
    usage = ended["status"]["usage"]
    assert condition(ended, "Succeeded")["reason"] == "BudgetExceeded", ended["status"]
    assert usage["incomplete"] and usage["reservedTokens"] <= 6_000
    assert len(own.calls) == 1, "the first request had set aside all that there was"

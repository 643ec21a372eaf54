"""The settings of a run in CrewAI's definition."""

from typing import Any

import pytest

from crewrun_api.resolved import ResolvedRun
from crewrun_api.settings import LLM
from crewrun_runner.refusal import Refusal
from crewrun_runner.settings import Prepared, apply

GATEWAY = "http://llm.internal/v1"
FULL = {"model": "openai/gpt-4o", "baseURL": GATEWAY, "temperature": 0.5, "timeoutSeconds": 60, "maxRetries": 1}


def prepared(
    agent: dict[str, Any] | None = None,
    llm: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    crew: dict[str, Any] | None = None,
    **settings: Any,
) -> Prepared:
    definition = {"agents": {"writer": {"role": "Writer", **(agent or {})}}, "tasks": [], **(crew or {})}
    spec = ResolvedRun.model_validate({"crew": "c", "definition": definition, "llm": llm or {}, **settings})
    return apply(spec, spec.definition, environ or {})


def writer(*arguments: Any, **options: Any) -> dict[str, Any]:
    agent: dict[str, Any] = prepared(*arguments, **options).definition["agents"]["writer"]
    return agent


def test_an_agent_without_an_llm_gets_the_model_and_all_its_settings() -> None:
    want = {"model": "openai/gpt-4o", "base_url": GATEWAY, "temperature": 0.5, "timeout": 60, "max_retries": 1}
    assert writer(llm=FULL)["llm"] == want


LLMS: list[tuple[object, dict[str, Any]]] = [
    ("openai/gpt-4o-mini", {"model": "openai/gpt-4o-mini", "base_url": GATEWAY}),
    ("gpt-4o-mini", {"model": "gpt-4o-mini", "base_url": GATEWAY}),
    ("deepseek/chat", {"model": "deepseek/chat"}),
    ({"model": "openai/o3", "max_tokens": 9}, {"model": "openai/o3", "max_tokens": 9, "base_url": GATEWAY}),
    ({"model": "openai/o3", "base_url": "http://other/v1"}, {"model": "openai/o3", "base_url": "http://other/v1"}),
    ({"model": "openai/o3", "api_base": "http://other/v1"}, {"model": "openai/o3", "api_base": "http://other/v1"}),
]


@pytest.mark.parametrize(("given", "want"), LLMS, ids=str)
def test_an_agents_own_llm_is_kept_and_completed(given: object, want: dict[str, Any]) -> None:
    common = {"temperature": 0.5, "timeout": 60, "max_retries": 1}
    assert writer({"llm": given}, FULL)["llm"] == common | want


def test_what_the_definition_says_is_stronger() -> None:
    agent = writer({"llm": {"model": "m", "temperature": 0, "max_retries": 5}, "max_retry_limit": 2}, FULL)
    assert (agent["llm"]["temperature"], agent["llm"]["max_retries"], agent["max_retry_limit"]) == (0, 5, 2)
    crew = prepared(llm=FULL, crew={"max_rpm": 3, "cache": False}, maxRPM=10).definition
    assert (crew["max_rpm"], crew["cache"]) == (3, False)


def test_settings_of_an_agent_are_completed_where_they_stand() -> None:
    agent = writer({"settings": {"llm": "gpt-4o-mini"}}, FULL)
    assert "llm" not in agent
    assert agent["settings"]["llm"]["base_url"] == GATEWAY


def test_a_failed_agent_is_not_asked_again_and_the_crew_gets_its_settings() -> None:
    made = prepared(llm=FULL, maxRPM=10, verbose=True, crew={"stream": True}).definition
    assert made["agents"]["writer"]["max_retry_limit"] == 0
    assert (made["max_rpm"], made["verbose"], made["cache"]) == (10, True, True)
    assert "stream" not in made


def test_the_manager_of_a_hierarchical_crew_gets_the_model() -> None:
    crew = prepared(llm=FULL, crew={"process": "hierarchical"}).definition
    assert crew["manager_llm"]["model"] == "openai/gpt-4o"
    named = prepared(llm=FULL, crew={"process": "hierarchical", "manager_agent": "writer"}).definition
    assert "manager_llm" not in named


def test_the_llm_for_function_calls_is_completed_too() -> None:
    made = prepared(llm=FULL, crew={"function_calling_llm": "gpt-4o-mini"}).definition
    assert "function_calling_llm" not in made
    assert made["agents"]["writer"]["function_calling_llm"]["base_url"] == GATEWAY


def test_a_list_of_agents_is_taken_by_name() -> None:
    crew = {"agents": [{"name": "a", "role": "A"}, {"b": {"role": "B"}}]}
    assert list(prepared(llm=FULL, crew=crew).definition["agents"]) == ["a", "b"]


def test_crewais_own_variable_names_the_model_and_without_any_the_crew_is_refused() -> None:
    assert writer(environ={"OPENAI_MODEL_NAME": "gpt-x"})["llm"]["model"] == "gpt-x"
    with pytest.raises(Refusal, match=r"definition\.agents\.writer\.llm: no model"):
        prepared()


def test_an_event_model_is_named_as_the_definition_names_it() -> None:
    made = prepared({"llm": "openai/gpt-4o-mini"}, FULL)
    assert made.named("gpt-4o-mini") == "openai/gpt-4o-mini"
    assert made.named("unheard") == "unheard"


def test_the_given_definition_is_not_changed() -> None:
    spec = ResolvedRun.model_validate({"crew": "c", "definition": {"agents": {"a": {"role": "A"}}}, "llm": FULL})
    apply(spec, spec.definition, {})
    assert spec.definition == {"agents": {"a": {"role": "A"}}}


def test_models_of_one_name_are_told_apart_by_their_providers() -> None:
    prepared = Prepared(ResolvedRun(crew="c"), LLM())
    for model in ("openai/gpt-4o", "azure/gpt-4o", "google/gemini-2"):
        prepared.learn(model)
    assert prepared.named("gpt-4o", "azure") == "azure/gpt-4o"
    assert prepared.named("gpt-4o", "openai") == prepared.named("gpt-4o") == "openai/gpt-4o"
    assert prepared.named("gemini-2", "gemini") == "google/gemini-2", "CrewAI's word for it is another one"

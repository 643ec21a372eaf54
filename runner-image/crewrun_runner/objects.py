"""The rules for definitions, for objects that a user's code made. Purely computational, and by shape.

The code is the image's own, so it may hold callables and read files. What cannot work in a runner is refused
as it is in a definition.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from crewrun_api.resolved import ResolvedRun
from crewrun_api.settings import LLM
from crewrun_runner import definition
from crewrun_runner.definition import Installed
from crewrun_runner.refusal import Refusal
from crewrun_runner.settings import left_out, provider

_CHECKED = (
    *("memory", "embedder", "knowledge", "knowledge_sources", "knowledge_config", "mcps", "input_files"),
    *("a2a", "apps", "allow_code_execution", "checkpoint", "planning", "planning_config", "reasoning"),
    *("share_crew", "tracing", "human_input"),
)


def check(crew: Any, installed: Installed) -> None:
    """Raises the first Refusal, if there is a reason for one."""
    document = {
        **_fields(crew),
        "process": getattr(crew.process, "value", crew.process),
        "agents": {agent.role: _fields(agent) for agent in agents(crew)},
        "tasks": [{**_fields(task), "async_execution": task.async_execution} for task in crew.tasks],
    }
    try:
        definition.check(document, {}, installed, allow_python=True)
    except Refusal as error:
        raise Refusal(error.reason, f"crew{error.message.removeprefix('definition')}") from None


def agents(crew: Any) -> Iterator[Any]:
    """Every agent of the crew once, those that only its tasks or its manager's place know included."""
    known: set[int] = set()
    for agent in (*crew.agents, *(task.agent for task in crew.tasks), crew.manager_agent):
        if agent is not None and id(agent) not in known:
            known.add(id(agent))
            yield agent


def for_llm(model: str, given: Mapping[str, Any], llm: LLM) -> dict[str, Any]:
    """What an LLM that is made with these arguments takes from the run's settings."""
    # CrewAI passes on a model's name without the provider that it found in it.
    named = f"{given['provider']}/{model}" if given.get("provider") else model
    endpoint = given.get("base_url") or given.get("api_base")
    settings = left_out(named, {"api_base": endpoint}, llm)
    return {key: value for key, value in settings.items() if given.get(key) is None}


def for_agent(given: Mapping[str, Any], spec: ResolvedRun) -> dict[str, Any]:
    """What an agent takes: the operator repeats attempts, so the agent does not."""
    return _absent(given, {"max_retry_limit": 0, "verbose": spec.verbose})


def for_crew(given: Mapping[str, Any], spec: ResolvedRun) -> dict[str, Any]:
    """What a crew takes."""
    remembers = spec.memory.enabled if spec.memory else None
    settings = {"max_rpm": spec.max_rpm, "verbose": spec.verbose, "cache": spec.cache, "memory": remembers}
    return _absent(given, settings)


def variables(llm: LLM) -> dict[str, str]:
    """For code that reads the model from CrewAI's own variables."""
    if llm.model is None:
        return {}
    names = {"MODEL": llm.model, "OPENAI_MODEL_NAME": llm.model}
    if llm.base_url and provider(llm.model) == "openai":
        names |= {"OPENAI_BASE_URL": llm.base_url, "OPENAI_API_BASE": llm.base_url}
    return names


def _absent(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None and given.get(key) is None}


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name, None) for name in _CHECKED}

"""The settings of a run put into CrewAI's definition. Purely computational.

What the definition says itself is kept, what it leaves out comes from the settings:

- An agent without an llm gets the model of the settings and all that belongs to it.
- An agent with its own gets what it leaves out: temperature, time limit and retries. The baseURL is added
  only for a model of the same provider, so that no provider's key goes to another's endpoint.
- Retries have one owner: `maxRetries` are those of one call (`models`); everything above it fails at once, because
  the operator repeats attempts.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from crewrun_api.reasons import Reason
from crewrun_api.resolved import ResolvedRun
from crewrun_api.settings import LLM
from crewrun_runner.refusal import Refusal

#: CrewAI's own variables for the model of agents that name none.
_MODEL_VARIABLES = ("MODEL", "MODEL_NAME", "OPENAI_MODEL_NAME")
#: CrewAI writes openai for a model without a provider.
_DEFAULT_PROVIDER = "openai"
_MODEL_NAMES = ("model", "model_name", "deployment_name")


@dataclass
class Prepared:
    """What a crew is loaded from, and what its models are called there."""

    spec: ResolvedRun
    #: The settings for agents that name no model, CrewAI's own variables included.
    llm: LLM
    #: Ready to load; None when the crew comes from an entrypoint.
    definition: dict[str, Any] | None = None
    models: dict[str, str] = field(default_factory=dict)
    #: Told of keys that only the user's code knows.
    secret: Callable[[str], None] = lambda _: None

    @property
    def verbose(self) -> bool:
        return bool((self.definition or {}).get("verbose", self.spec.verbose))

    def named(self, model: str, provider: str = "") -> str:
        """The spelling of the definition or profile for a model that is named without its provider. Two providers may
        serve a model of the same name."""
        full = f"{provider}/{model}"
        return full if full in self.models else self.models.get(model, model)

    def learn(self, model: str) -> None:
        """How a model is spelled."""
        self.models.setdefault(model, model)
        self.models.setdefault(model.partition("/")[2] or model, model)


def entrypoint(spec: ResolvedRun, environ: Mapping[str, str]) -> Prepared:
    """A crew of the image: what its code leaves out comes from the settings as it makes its objects."""
    return Prepared(spec, default_llm(spec, environ))


def default_llm(spec: ResolvedRun, environ: Mapping[str, str]) -> LLM:
    """The settings for agents that name no model."""
    model = next((environ[name] for name in _MODEL_VARIABLES if environ.get(name)), None)
    return spec.llm if spec.llm.model or model is None else spec.llm.model_copy(update={"model": model})


def apply(spec: ResolvedRun, definition: Mapping[str, Any], environ: Mapping[str, str]) -> Prepared:
    """The definition with the run's settings."""
    crew, llm = deepcopy(dict(definition)), default_llm(spec, environ)
    prepared = Prepared(spec, llm, crew)
    crew["agents"] = _agents_by_name(crew.get("agents"))
    # The crew's own field takes no llm with settings; it is nothing but the agents' default.
    calling = crew.pop("function_calling_llm", None)
    for name, agent in crew["agents"].items():
        if calling and isinstance(agent, dict):
            agent.setdefault("function_calling_llm", calling)
        _agent(name, agent, spec, llm, prepared)
    if crew.get("process") == "hierarchical" and not crew.get("manager_agent"):
        crew["manager_llm"] = _llm("manager_llm", crew.get("manager_llm"), llm, prepared)
    remembers = spec.memory.enabled if spec.memory else None
    defaults = {"max_rpm": spec.max_rpm, "verbose": spec.verbose, "cache": spec.cache, "memory": remembers}
    for key, value in defaults.items():
        if value is not None:
            crew.setdefault(key, value)
    crew.pop("stream", None)  # nobody reads the pieces: the whole answer is the result
    return prepared


def provider(model: str) -> str:
    """The part of a model's name that says who serves it."""
    prefix, slash, _ = model.partition("/")
    return prefix.lower() if slash else _DEFAULT_PROVIDER


def _agents_by_name(given: object) -> dict[str, dict[str, Any]]:
    """CrewAI's loader takes a list too; anything else is left for it to refuse."""
    if isinstance(given, Mapping):
        return {str(name): dict(agent) if isinstance(agent, Mapping) else agent for name, agent in given.items()}
    agents: dict[str, dict[str, Any]] = {}
    for index, item in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(item, Mapping):
            raise Refusal(Reason.INVALID_CREW, f"definition.agents[{index}]: must be an object")
        if "name" in item:
            agents[str(item["name"])] = {key: value for key, value in item.items() if key != "name"}
        elif len(item) == 1:
            name, agent = next(iter(item.items()))
            agents[str(name)] = dict(agent)
        else:
            raise Refusal(Reason.INVALID_CREW, f"definition.agents[{index}].name: missing")
    return agents


def _agent(name: str, agent: object, spec: ResolvedRun, llm: LLM, prepared: Prepared) -> None:
    if not isinstance(agent, dict):
        return  # CrewAI's loader says what is wrong with it
    # An agent's `settings` are stronger than its fields, so what they say must not be said beside them.
    own = agent.get("settings")
    holder = own if isinstance(own, dict) and "llm" in own else agent
    holder["llm"] = _llm(f"agents.{name}.llm", holder.get("llm"), llm, prepared)
    if agent.get("function_calling_llm"):
        agent["function_calling_llm"] = _llm(
            f"agents.{name}.function_calling_llm", agent["function_calling_llm"], llm, prepared
        )
    agent.setdefault("max_retry_limit", 0)
    agent.setdefault("verbose", spec.verbose)


def _llm(path: str, given: object, llm: LLM, prepared: Prepared) -> object:
    """The llm of one agent as an object with every setting."""
    if given is None:
        if llm.model is None:
            raise Refusal(
                Reason.INVALID_CREW,
                f"definition.{path}: no model; name one there, or in llm.model of the profile, the Crew or the run",
            )
        own: dict[str, Any] = {"model": llm.model}
    elif isinstance(given, str):
        own = {"model": given}
    elif isinstance(given, Mapping) and "python" not in given:
        own = dict(given)
    else:
        return given  # Python's own, or CrewAI's loader says what is wrong with it
    model = str(next((own[key] for key in _MODEL_NAMES if own.get(key)), ""))
    prepared.learn(model)
    return left_out(model, own, llm) | own


def left_out(model: str, own: Mapping[str, Any], llm: LLM) -> dict[str, Any]:
    """What a model with such settings of its own takes from the run's."""
    settings = {
        "temperature": llm.temperature,
        "timeout": llm.timeout_seconds,
        "max_retries": llm.max_retries,
        "base_url": llm.base_url if provider(model) == provider(llm.model or model) else None,
    }
    if own.get("api_base"):
        settings["base_url"] = None
    return {key: value for key, value in settings.items() if value is not None}

"""Objects that a user's code makes get from the run's settings what the code leaves out.

CrewAI's classes are wrapped, since a Flow makes its crews while it runs. What they get is decided in `objects`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import crewai.utilities.llm_utils
from crewai import Agent, Crew
from crewai.flow.runtime import Flow
from crewai.llm import LLM
from crewai.llms.base_llm import BaseLLM

from crewrun_api.reasons import Reason
from crewrun_runner import objects
from crewrun_runner.definition import Installed
from crewrun_runner.refusal import Refusal
from crewrun_runner.settings import Prepared

Fields = dict[str, Any]


def complete(prepared: Prepared, installed: Installed) -> None:
    """From now on, whoever makes them."""
    if not hasattr(crewai.utilities.llm_utils, "_llm_via_environment_or_fallback"):
        raise RuntimeError("this crewai chooses a model for agents without one in another way than the runner knows")
    crewai.utilities.llm_utils._llm_via_environment_or_fallback = lambda: _default_llm(prepared)
    if not installed("lancedb"):  # otherwise CrewAI gives a memory to every Flow
        Flow._skip_auto_memory = True
    LLM.__new__ = _routed(LLM.__new__, prepared)
    _wrap(BaseLLM, lambda llm, given: _llm_fields(llm, given, prepared))
    _wrap(Agent, lambda _, given: objects.for_agent(given, prepared.spec))
    _wrap(Crew, lambda _, given: objects.for_crew(given, prepared.spec), lambda crew: objects.check(crew, installed))


def _default_llm(prepared: Prepared) -> Any:
    """CrewAI would take a model of its own choice, which somebody has to pay."""
    if prepared.llm.model is None:
        raise Refusal(
            Reason.INVALID_CREW,
            "an agent names no model; name one in its code, or in llm.model of the profile, the Crew or the run",
        )
    return LLM(model=prepared.llm.model)


def _routed(new: Callable[..., Any], prepared: Prepared) -> Callable[..., Any]:
    """The endpoint decides which class serves a model, so it has to be there before there is an object."""

    @wraps(new)
    def __new__(cls: type, model: str, is_litellm: bool = False, **given: Any) -> Any:
        prepared.learn(str(model))
        endpoint = objects.for_llm(str(model), given, prepared.llm).get("base_url")
        return new(cls, model, is_litellm, **given | ({"base_url": endpoint} if endpoint else {}))

    return __new__


def _llm_fields(llm: BaseLLM, given: Fields, prepared: Prepared) -> Fields:
    if isinstance(key := given.get("api_key"), str):
        prepared.secret(key)
    settings = objects.for_llm(str(given.get("model")), given, prepared.llm)
    return {name: value for name, value in settings.items() if name in type(llm).model_fields}


def _wrap(cls: type, fields: Callable[[Any, Fields], Fields], check: Callable[[Any], None] | None = None) -> None:
    construct = cls.__init__  # type: ignore[misc]

    @wraps(construct)
    def __init__(self: Any, /, **given: Any) -> None:
        construct(self, **given | fields(self, given))
        if check is not None:
            check(self)

    # Pydantic tells by this that the constructor does nothing but validate.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
    cls.__init__ = __init__  # type: ignore[misc]

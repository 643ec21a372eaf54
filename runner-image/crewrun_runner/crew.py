"""The edge to CrewAI: everything here is written against the pinned release, and only here is it imported."""

import logging
import threading
import time
from typing import Any

from pydantic import BaseModel

from crewrun_api.reasons import OutputFormat
from crewrun_runner import absent
from crewrun_runner.ledger import Ledger, Task
from crewrun_runner.record import Answer
from crewrun_runner.settings import Prepared
from crewrun_runner.streams import Log

# crewai and the SDKs define 1,457 models and a crew uses a few dozen: each is built when it is first used.
BaseModel.model_config["defer_build"] = True
with absent.install().stand_ins():
    import crewai.events.event_types
    import crewai.llms.retry
    from crewai.events import crewai_event_bus
    from crewai.hooks.dispatch import HookAborted
    from crewai.hooks.llm_hooks import register_before_llm_call_hook
    from crewai.project.crew_loader import load_crew_from_definition

    from crewrun_runner import listener

#: How long the end waits for handlers that have been given an event, seconds. They take microseconds.
_FLUSH_SECONDS = 1.0


class LoadedCrew:
    """A crew that is ready to start."""

    def __init__(self, prepared: Prepared, inputs: dict[str, Any], ledger: Ledger, log: Log) -> None:
        _one_try_for_a_rate_limit()
        if not prepared.definition.get("verbose"):
            logging.getLogger("crewai").setLevel(logging.ERROR)
        self._inputs = inputs
        self._ledger = ledger
        self._stopped = threading.Event()
        self._crew, _ = load_crew_from_definition(prepared.definition, source="definition")
        _an_agent_for_each_parallel_task(self._crew, inputs)
        ledger.expect(
            Task(str(task.id), task.name or f"task-{number}", task.agent.role if task.agent else "")
            for number, task in enumerate(self._crew.tasks, start=1)
        )
        listener.Listener(ledger, prepared, log).register(crewai_event_bus)
        register_before_llm_call_hook(self._before_call)

    @property
    def task_count(self) -> int:
        return len(self._crew.tasks)

    @property
    def agent_count(self) -> int:
        return len(self._crew.agents)

    def kickoff(self) -> Answer:
        """Run it to its end."""
        output = self._crew.kickoff(inputs=self._inputs)
        if output.pydantic is not None:
            return Answer(output.pydantic.model_dump_json(), OutputFormat.JSON)
        if output.json_dict is not None:
            return Answer(output.json, OutputFormat.JSON)
        return Answer(str(output.raw))

    def stop_calls(self) -> None:
        """No LLM call begins any more; those in flight go on."""
        self._stopped.set()

    def wait_for_calls(self, seconds: float) -> None:
        """Until the answers to calls in flight have been counted: the provider bills them."""
        deadline = time.monotonic() + seconds
        while self._ledger.calls_in_flight and time.monotonic() < deadline:
            time.sleep(0.02)

    def settle(self) -> None:
        """Nothing new begins, and what has been seen is counted."""
        self.stop_calls()
        crewai_event_bus.flush(timeout=_FLUSH_SECONDS)

    def _before_call(self, _: object) -> None:
        if self._stopped.is_set():
            raise HookAborted("the run ends", source="crewrun")


def _one_try_for_a_rate_limit() -> None:
    """CrewAI makes up to three rounds on 429, around the SDK's retries. The operator waits as long as the
    provider asks, and costs nothing meanwhile."""
    if not hasattr(crewai.llms.retry, "_LLM_RATE_LIMIT_MAX_ATTEMPTS"):
        raise RuntimeError("this crewai retries rate limits in another way than the runner knows")
    crewai.llms.retry._LLM_RATE_LIMIT_MAX_ATTEMPTS = 1


def _an_agent_for_each_parallel_task(crew: Any, inputs: dict[str, Any]) -> None:
    """CrewAI refuses that one agent works on two tasks at once, so the second gets a copy of its agent.

    Tasks run side by side when they follow each other with async_execution.
    """
    busy: set[int] = set()
    for task in crew.tasks:
        if not task.async_execution:
            busy.clear()
        elif task.agent is not None and id(task.agent) in busy:
            task.agent = _copy(crew, task.agent, inputs)
        elif task.agent is not None:
            busy.add(id(task.agent))


def _copy(crew: Any, agent: Any, inputs: dict[str, Any]) -> Any:
    """A copy with what a crew gives to its agents: a copy is not one of them."""
    copy = agent.copy()
    if crew.cache:
        copy.set_cache_handler(crew._cache_handler)
    if crew.max_rpm:
        copy.set_rpm_controller(crew._rpm_controller)
    copy.interpolate_inputs(inputs)
    return copy

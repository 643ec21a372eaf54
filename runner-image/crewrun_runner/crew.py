"""The edge to CrewAI, with `listener` and `resume`: written against the pinned release, and imported last."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from crewrun_api.outcome import TaskRecord
from crewrun_api.reasons import TaskState
from crewrun_api.report import OutputFile
from crewrun_runner import absent, files, lazy
from crewrun_runner.answers import answer
from crewrun_runner.checkpoint import FinishedTask
from crewrun_runner.ledger import Ledger, Task
from crewrun_runner.metering import Meter, Reserve
from crewrun_runner.pricing import Prices
from crewrun_runner.record import Answer
from crewrun_runner.settings import Prepared
from crewrun_runner.streams import Log
from crewrun_runner.watcher import Observer, Watcher

# crewai and the SDKs define 1,457 models and a crew uses a few dozen: each is built when it is first used.
BaseModel.model_config["defer_build"] = True
lazy.install()
with lazy.collecting_no_garbage(), absent.install().stand_ins():
    from crewai.events import crewai_event_bus

    from crewrun_runner import listener, load, models, resume

#: How long the end waits for handlers that have been given an event, seconds. They take microseconds.
_FLUSH_SECONDS = 1.0


class LoadedCrew:
    """A crew that is ready to start.

    `reserve` is asked before each request to a model, and `observers` are told what the crew does. `finished` are the
    tasks that earlier attempts finished; what does not fit is Unusable.
    """

    def __init__(
        self,
        prepared: Prepared,
        inputs: dict[str, Any],
        ledger: Ledger,
        log: Log,
        observers: Sequence[Observer],
        reserve: Reserve,
        finished: Sequence[FinishedTask],
        attempt: int,
    ) -> None:
        if not prepared.verbose:
            logging.getLogger("crewai").setLevel(logging.ERROR)
        self._inputs = inputs
        self._ledger = ledger
        self._attempt = attempt
        meter = Meter(reserve, ledger, Prices(prepared.spec.prices or {}))
        self._models = models.Models(prepared.llm, prepared.named, ledger, meter, log)
        self._models.own()  # before the user's own code runs
        self._crew = load.crew(prepared, ledger)
        #: A Flow makes its tasks as it goes, and starts from its beginning each time.
        self.resumable = hasattr(self._crew, "before_kickoff_callbacks")
        if self.resumable:  # after the crew's own callbacks: they may change the inputs
            self._crew.before_kickoff_callbacks.append(partial(_an_agent_for_each_parallel_task, self._crew))
            self._models.stand_in_for(_llms(self._crew))
        self._finished = {task.index: task for task in finished}
        outputs = resume.restored(self._crew.tasks, finished)
        ledger.expect(
            Task(str(task.id), task.name or f"task-{number}", task.agent.role if task.agent else "")
            for number, task in enumerate(self._crew.tasks, start=1)
        )
        ledger.restore({str(self._crew.tasks[task.index].id): task.record for task in finished})
        resume.instead_of_executing(outputs)
        self._listener = listener.Listener(ledger)
        self._listener.register(crewai_event_bus)
        watcher = Watcher(observers, listener.task_of, ledger.find, self._models, prepared.verbose)
        self._unwatch = watcher.watch(crewai_event_bus)

    @property
    def task_count(self) -> int:
        return len(self._crew.tasks)

    @property
    def agent_count(self) -> int:
        return len(self._crew.agents)

    def kickoff(self) -> Answer:
        """Run it to its end."""
        return answer(self._crew.kickoff(inputs=self._inputs))

    def finished_tasks(self) -> list[FinishedTask]:
        """All that the next attempt need not do again, in the crew's order."""
        return [
            self._finished.get(index)
            or FinishedTask(
                index=index,
                record=record.model_copy(update={"attempt": self._attempt}),
                output=resume.stored(task.output),
            )
            for index, task, record in (self._succeeded() if self.resumable else ())
        ]

    def _succeeded(self) -> list[tuple[int, Any, TaskRecord]]:
        # Not redacted yet, but encodable: a model may answer with half a surrogate pair.
        records = self._ledger.tasks(lambda text: text.encode(errors="replace").decode(), ended=False)
        return [
            (index, task, record)
            for index, (task, record) in enumerate(zip(list(self._crew.tasks), records, strict=False))
            # CrewAI puts an output at its task before the file is written, which may fail.
            if record.state is TaskState.SUCCEEDED
        ]

    def output_files(self, redact: Callable[[str], str]) -> list[OutputFile]:
        """What finished tasks wrote with `output_file`."""
        paths = [task.output_file for _, task, _ in self._succeeded() if task.output_file]
        return files.collect(paths, redact, Path.home())

    def stop_calls(self) -> None:
        """No LLM call begins any more; those in flight go on."""
        self._models.stop()

    def wait_for_calls(self, seconds: float) -> None:
        """Until the answers to calls in flight have been counted: the provider bills them."""
        deadline = time.monotonic() + seconds
        while self._ledger.calls_in_flight and time.monotonic() < deadline:
            time.sleep(0.02)

    def settle(self) -> None:
        """Nothing new begins, and what has been seen is counted."""
        self.stop_calls()
        crewai_event_bus.flush(timeout=_FLUSH_SECONDS)

    def close(self) -> None:
        """CrewAI forgets what was registered for this crew, so that the process can run another one."""
        self.settle()
        self._listener.unregister(crewai_event_bus)
        self._unwatch()
        resume.forget(str(task.id) for task in self._crew.tasks)


def _llms(crew: Any) -> list[Any]:
    """What a crew's agents ask."""
    agents = [*crew.agents, *([crew.manager_agent] if crew.manager_agent else [])]
    asked = [getattr(agent, name, None) for agent in agents for name in ("llm", "function_calling_llm")]
    return [llm for llm in (*asked, crew.manager_llm) if hasattr(llm, "model")]


def _an_agent_for_each_parallel_task(crew: Any, inputs: dict[str, Any]) -> dict[str, Any]:
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
    return inputs


def _copy(crew: Any, agent: Any, inputs: dict[str, Any]) -> Any:
    """A copy with what a crew gives to its agents: a copy is not one of them."""
    copy = agent.copy()
    if crew.cache:
        copy.set_cache_handler(crew._cache_handler)
    if crew.max_rpm:
        copy.set_rpm_controller(crew._rpm_controller)
    copy.interpolate_inputs(inputs)
    return copy

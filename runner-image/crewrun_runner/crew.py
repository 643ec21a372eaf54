"""The edge to CrewAI, with `listener` and `resume`: written against the pinned release, and imported last."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from crewrun_api.reasons import OutputFormat, TaskState
from crewrun_api.report import OutputFile
from crewrun_runner import absent, bound, files
from crewrun_runner.checkpoint import FinishedTask
from crewrun_runner.ledger import Ledger, Task
from crewrun_runner.record import Answer
from crewrun_runner.reporter import Stopping
from crewrun_runner.settings import Prepared
from crewrun_runner.streams import Log

# crewai and the SDKs define 1,457 models and a crew uses a few dozen: each is built when it is first used.
BaseModel.model_config["defer_build"] = True
with absent.install().stand_ins():
    import crewai.events.event_types
    import crewai.hooks.llm_hooks
    import crewai.llms.context_window
    import crewai.llms.retry
    from crewai.context import get_current_task_id
    from crewai.events import crewai_event_bus
    from crewai.hooks.dispatch import HookAborted
    from crewai.hooks.llm_hooks import register_before_llm_call_hook
    from crewai.llms.context_window import CONTEXT_WINDOW_USAGE_RATIO, DEFAULT_CONTEXT_WINDOW_SIZE
    from crewai.project.crew_loader import load_crew_from_definition
    from crewai.utilities.agent_utils import convert_tools_to_openai_schema

    from crewrun_runner import listener, resume

#: How long the end waits for handlers that have been given an event, seconds. They take microseconds.
_FLUSH_SECONDS = 1.0


class LoadedCrew:
    """A crew that is ready to start.

    `before_call` is told of each LLM call before it is made: the task it is made for and the tokens that it can
    cost at the most. `finished` are the tasks that earlier attempts finished; what does not fit is Unusable.
    """

    def __init__(
        self,
        prepared: Prepared,
        inputs: dict[str, Any],
        ledger: Ledger,
        log: Log,
        before_call: Callable[[str, int], None],
        finished: Sequence[FinishedTask],
        attempt: int,
    ) -> None:
        _one_try_for_a_rate_limit()
        _no_call_unseen()
        if not prepared.definition.get("verbose"):
            logging.getLogger("crewai").setLevel(logging.ERROR)
        self._inputs = inputs
        self._ledger = ledger
        self._announce = before_call
        self._attempt = attempt
        self._stopped = threading.Event()
        self._crew, _ = load_crew_from_definition(prepared.definition, source="definition")
        _an_agent_for_each_parallel_task(self._crew, inputs)
        self._finished = {task.index: task for task in finished}
        outputs = resume.restored(self._crew.tasks, finished)
        ledger.expect(
            Task(str(task.id), task.name or f"task-{number}", task.agent.role if task.agent else "")
            for number, task in enumerate(self._crew.tasks, start=1)
        )
        ledger.restore({str(self._crew.tasks[task.index].id): task.record for task in finished})
        resume.instead_of_executing(outputs)
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

    def finished_tasks(self) -> list[FinishedTask]:
        """All that the next attempt need not do again, in the crew's order."""
        # Not redacted yet, but encodable: a model may answer with half a surrogate pair.
        records = self._ledger.tasks(lambda text: text.encode(errors="replace").decode(), ended=False)
        return [
            self._finished.get(index)
            or FinishedTask(
                index=index,
                record=record.model_copy(update={"attempt": self._attempt}),
                output=resume.stored(task.output),
            )
            for index, (task, record) in enumerate(zip(self._crew.tasks, records, strict=True))
            # CrewAI puts an output at its task before the file is written, which may fail.
            if index in self._finished or record.state is TaskState.SUCCEEDED
        ]

    def output_files(self, redact: Callable[[str], str]) -> list[OutputFile]:
        """What finished tasks wrote with `output_file`."""
        finished = (self._crew.tasks[task.index] for task in self.finished_tasks())
        return files.collect([task.output_file for task in finished if task.output_file], redact, Path.home())

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

    def _before_call(self, context: Any) -> None:
        """CrewAI lets a call pass whatever a hook raises, but for HookAborted."""
        if not self._stopped.is_set():
            window = CONTEXT_WINDOW_USAGE_RATIO, DEFAULT_CONTEXT_WINDOW_SIZE
            tokens = bound.most_tokens(context.messages, _schemas(context.executor), context.llm, *window)
            try:
                self._announce(str(get_current_task_id() or getattr(context.task, "id", "")), tokens)
            except Stopping:
                self._stopped.set()
        if self._stopped.is_set():
            raise HookAborted(listener.STOPPED, source="crewrun")


def _schemas(executor: Any) -> list[Any]:
    """What goes to the model beside the messages; an LLM call without an executor has nothing of that kind."""
    model = getattr(executor, "response_model", None)
    tools, *_ = convert_tools_to_openai_schema(getattr(executor, "original_tools", None) or [])
    return [*tools, *([model.model_json_schema()] if model else [])]


def _one_try_for_a_rate_limit() -> None:
    """CrewAI makes up to three rounds on 429, around the SDK's retries. The operator waits as long as the
    provider asks, and costs nothing meanwhile."""
    if not hasattr(crewai.llms.retry, "_LLM_RATE_LIMIT_MAX_ATTEMPTS"):
        raise RuntimeError("this crewai retries rate limits in another way than the runner knows")
    crewai.llms.retry._LLM_RATE_LIMIT_MAX_ATTEMPTS = 1


def _no_call_unseen() -> None:
    """CrewAI shortens a long talk by LLM calls within another call, and thinks that its hooks have seen them."""
    summarize = crewai.llms.context_window.summarize_messages
    seen = crewai.hooks.llm_hooks._model_call_hooks_dispatched

    @wraps(summarize)
    def summarize_messages(*args: Any, **kwargs: Any) -> None:
        token = seen.set(False)
        try:
            summarize(*args, **kwargs)
        finally:
            seen.reset(token)

    crewai.llms.context_window.summarize_messages = summarize_messages


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

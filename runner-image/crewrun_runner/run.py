"""One attempt: the cheap checks first, then crewai, then the crew."""

import importlib.util
import os
from datetime import UTC, datetime

from crewrun_runner import definition, failures, settings
from crewrun_runner.ending import Ending
from crewrun_runner.exceptions import chain
from crewrun_runner.failures import Place
from crewrun_runner.payload import Payload
from crewrun_runner.record import End
from crewrun_runner.refusal import Refusal
from crewrun_runner.streams import Log

#: How long a failed attempt waits for LLM calls of parallel tasks that are still answered, seconds.
PATIENCE_SECONDS = 10.0


def attempt(payload: Payload, ending: Ending, log: Log) -> End:
    """Run the crew once."""
    crew_document = payload.spec.definition
    defaults = crew_document.get("inputs")
    inputs = {**(defaults if isinstance(defaults, dict) else {}), **payload.inputs}
    try:
        definition.check(crew_document, inputs, installed)
        prepared = settings.apply(payload.spec, crew_document, os.environ)
    except Refusal as error:
        return End.failed(failures.loading(error))
    from crewrun_runner.crew import LoadedCrew  # imports crewai; what goes wrong in that is not the crew's fault

    try:
        crew = LoadedCrew(prepared, inputs, ending.ledger, log)
    except Exception as error:
        return End.failed(failures.loading(error))
    ending.settle = crew.settle
    log("crew_loaded", tasks=crew.task_count, agents=crew.agent_count)
    try:
        return End.success(crew.kickoff())
    except (Exception, SystemExit) as error:  # a tool that calls sys.exit() has failed like any other
        crew.stop_calls()
        crew.wait_for_calls(PATIENCE_SECONDS)
        crew.settle()
        return End.failed(failures.running(error, _place(error, ending), datetime.now(UTC)))


def installed(module: str) -> bool:
    """Whether this image has a top-level module."""
    return importlib.util.find_spec(module) is not None


def _place(error: BaseException, ending: Ending) -> Place:
    task = ending.ledger.culprit(str(error))
    if task is None:
        return Place()
    in_llm_call = any(str(link) in text for link in chain(error) for text in task.llm_errors)
    return Place(task.name, task.agent, task.failing_model, in_llm_call)

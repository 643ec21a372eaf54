"""One attempt: the cheap checks first, then crewai, then the crew."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewrun_api import names
from crewrun_api.quantity import in_bytes
from crewrun_api.reasons import Reason
from crewrun_runner import checkpoint, definition, failures, memory, settings
from crewrun_runner.checkpoint import FinishedTask, Unusable
from crewrun_runner.ending import Ending
from crewrun_runner.exceptions import chain
from crewrun_runner.failures import Failure, Place
from crewrun_runner.image import app_dir, find_own_code, installed
from crewrun_runner.inputs import whole
from crewrun_runner.ledger import BudgetExceeded, Ledger
from crewrun_runner.narrator import Narrator
from crewrun_runner.payload import Execution, Payload, caps
from crewrun_runner.record import End
from crewrun_runner.redaction import Redactor
from crewrun_runner.refusal import Refusal
from crewrun_runner.settings import Prepared
from crewrun_runner.streams import Log
from crewrun_runner.unkept import Unkept
from crewrun_runner.watcher import Observer

if TYPE_CHECKING:
    from crewrun_runner.crew import LoadedCrew


def attempt(payload: Payload, me: Execution, ending: Ending, redact: Redactor, log: Log) -> End:
    """Run the crew once."""
    progress = ending.progress
    try:
        prepared, inputs = prepare(payload)
        prepared.secret = redact.learn
        keys = checkpoint.keys(os.environ)
        ending.progress.ledger.caps = caps(os.environ)
    except Refusal as error:
        return End.failed(failures.loading(error))
    finished = _finished(me, keys, progress.ledger, log)
    from crewrun_runner.crew import LoadedCrew  # imports crewai; what goes wrong in that is not the crew's fault

    observers: list[Observer] = [Narrator(log, redact)]
    if ending.traces is not None:
        observers.append(ending.traces)
    load = partial(LoadedCrew, prepared, inputs, progress.ledger, log, observers, progress.reserve, attempt=me.attempt)
    try:
        _remember(payload, log)
        try:
            crew = load(finished=finished)
        except Unusable as error:
            _refuse(error, progress.ledger, log)
            crew = load(finished=[])
    except Exception as error:
        return End.failed(failures.loading(error))
    ending.crew = crew
    if not crew.resumable and me.attempt > 1:
        progress.ledger.checkpoint_refused = "a Flow starts from its beginning: it may choose another way each time"
    log("crew_loaded", tasks=crew.task_count, agents=crew.agent_count)
    if first := progress.ledger.resumed_from:
        log("run_resumed", task=first.name)
    progress.changed(urgent=False)
    if progress.reporter is not None:
        pack = partial(checkpoint.pack, me.run_uid, os.environ[names.ENV_DIGEST], keys=keys, redact=redact)
        progress.reporter.start(Unkept(crew.finished_tasks, crew.task_count, pack, log))
    return _kickoff(crew, ending)


def prepare(payload: Payload) -> tuple[Prepared, dict[str, Any]]:
    """What the crew is loaded from, and its inputs. Raises Refusal."""
    spec = payload.spec
    find_own_code(app_dir())
    defaults = (spec.definition or {}).get("inputs")
    inputs = {**(defaults if isinstance(defaults, dict) else {}), **payload.inputs}
    inputs = whole(spec, inputs, os.environ)
    memory.check(spec.definition or {}, spec.memory, os.environ, installed)
    if spec.definition is None:
        return settings.entrypoint(spec, os.environ), inputs
    if spec.allow_python:
        os.environ["CREWAI_DESERIALIZE_CALLBACKS"] = "true"
    definition.check(spec.definition, inputs, installed, spec.allow_python)
    return settings.apply(spec, spec.definition, os.environ), inputs


def _remember(payload: Payload, log: Log) -> None:
    """Where the operator mounted a place for the crew's memory, it is kept there."""
    folder, wanted = os.environ.get(names.ENV_MEMORY_DIR), payload.spec.memory
    if folder and wanted is not None:
        from crewrun_runner import store  # imports crewai

        store.use(Path(folder), in_bytes(wanted.size), log)


def _kickoff(crew: "LoadedCrew", ending: Ending) -> End:
    ledger = ending.progress.ledger
    try:
        answer = crew.kickoff()
        # A crew that goes on without an answer that was not paid for has a result, and not the one that was asked for.
        if not ledger.budget_exceeded:
            return End.success(answer, failures.failed_over(ledger.failovers))
        raise BudgetExceeded(ledger.budget_exceeded)
    except (Exception, SystemExit) as error:  # a tool that calls sys.exit() has failed like any other
        crew.stop_calls()
        crew.wait_for_calls(ending.limits.patience)
        crew.settle()
        if ledger.budget_exceeded:
            return End.failed(Failure(Reason.BUDGET_EXCEEDED, ledger.budget_exceeded))
        return End.failed(failures.running(error, _place(error, ledger), datetime.now(UTC)))


def _finished(me: Execution, keys: Sequence[bytes], ledger: Ledger, log: Log) -> list[FinishedTask]:
    """What earlier attempts finished, as far as it can be used."""
    try:
        data = checkpoint.read(os.environ)
        return [] if data is None else checkpoint.unpack(data, me.run_uid, os.environ[names.ENV_DIGEST], keys)
    except Unusable as error:
        _refuse(error, ledger, log)
        return []


def _refuse(error: Unusable, ledger: Ledger, log: Log) -> None:
    ledger.checkpoint_refused = str(error)
    log("checkpoint_refused", level="warning", message=str(error))


def _place(error: BaseException, ledger: Ledger) -> Place:
    task = ledger.culprit(str(error))
    if task is None:
        return Place()
    in_llm_call = any(str(link) in text for link in chain(error) for text in task.llm_errors)
    return Place(task.name, task.agent, task.failing_model, in_llm_call)

"""Tasks that an earlier attempt finished return what it stored, and no model is asked for them.

CrewAI's loop calls `execute_sync` or `execute_async` of each task and goes by what comes back, so everything
else is as in a run without a crash: order, context of later tasks, parallel groups. The methods are wrapped on
the class: a pydantic model has no place for a function of one task that survives copies.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import wraps
from typing import Any

from crewai.task import Task
from crewai.tasks.task_output import TaskOutput
from pydantic import ValidationError
from pydantic_core import to_json

from crewrun_runner.checkpoint import FinishedTask, Unusable

#: The outputs of finished tasks by CrewAI's id of the task.
_outputs: dict[str, Any] = {}


def stored(output: Any) -> dict[str, Any]:
    """A TaskOutput for the checkpoint. Its messages are the agent's whole talk, and its summary is made anew."""
    document: dict[str, Any] = output.model_dump(mode="json", exclude={"messages", "summary", "pydantic"})
    if output.pydantic is not None:  # as a field of TaskOutput it would be written as a model without fields
        document["pydantic"] = output.pydantic.model_dump(mode="json", by_alias=True)
    return document


def restored(tasks: Sequence[Any], finished: Sequence[FinishedTask]) -> dict[str, Any]:
    """The outputs by id of the task. Raises Unusable when one does not fit this crew."""
    if beyond := [one.record.name for one in finished if one.index >= len(tasks)]:
        raise Unusable(f"the checkpoint has a task that the crew does not: {beyond[0]}")
    # The digest of a run says nothing of the code in its image.
    for one in finished:
        name = tasks[one.index].name
        if name and name != one.record.name:
            raise Unusable(f"the checkpoint has task {one.record.name} where the crew has {name}")
    return {str(tasks[one.index].id): _output(tasks[one.index], one) for one in finished}


def instead_of_executing(outputs: Mapping[str, Any]) -> None:
    """From now on these tasks return their outputs."""
    _outputs.update(outputs)


def forget(ids: Iterable[str]) -> None:
    """These tasks will not be asked for again."""
    for each in ids:
        _outputs.pop(each, None)


def _output(task: Any, finished: FinishedTask) -> Any:
    document = {name: value for name, value in finished.output.items() if name != "pydantic"}
    model = finished.output.get("pydantic")
    try:
        output = TaskOutput.model_validate(document)
        if model is not None:
            output.pydantic = task.output_pydantic.model_validate_json(to_json(model))
    except (ValidationError, AttributeError) as error:
        what = type(error).__name__
        raise Unusable(f"the stored output of task {finished.record.name} does not fit the task ({what})") from error
    return output


def _take(task: Any) -> Any:
    """The stored output of a task, put where CrewAI looks for it; None when the task has to be executed."""
    output = _outputs.get(str(task.id))
    if output is None:
        return None
    task.output = output
    if task.output_file:  # only now has CrewAI put the inputs into its name
        model = output.pydantic.model_dump_json() if output.pydantic is not None else None
        task._save_file(output.json_dict or model or output.raw)
    return output


def _sync(execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def execute_sync(task: Any, *args: Any, **kwargs: Any) -> Any:
        output = _take(task)
        return execute(task, *args, **kwargs) if output is None else output

    return execute_sync


def _async(execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def execute_async(task: Any, *args: Any, **kwargs: Any) -> Any:
        output = _take(task)
        if output is None:
            return execute(task, *args, **kwargs)
        future: Future[Any] = Future()
        future.set_result(output)
        return future

    return execute_async


def _install() -> None:
    if not hasattr(Task, "_save_file") or any(
        list(inspect.signature(method).parameters) != ["self", "agent", "context", "tools"]
        for method in (Task.execute_sync, Task.execute_async)
    ):
        raise RuntimeError("this crewai executes tasks in another way than the runner knows")
    Task.execute_sync = _sync(Task.execute_sync)
    Task.execute_async = _async(Task.execute_async)


_install()

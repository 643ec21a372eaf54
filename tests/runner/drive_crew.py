"""A crew loaded and run without the rest of the runner, to look at what `LoadedCrew` gives.

It runs in the runner's environment, with the files and variables of `harness`. DRIVE is JSON: the finished
tasks to go on from, and the number of LLM calls after which `reserve` stops the crew.
"""

import json
import os
import sys
from typing import Any

from crewrun_runner import payload, run
from crewrun_runner.budget import Need
from crewrun_runner.checkpoint import FinishedTask, Unusable
from crewrun_runner.ledger import Ledger, Ticket
from crewrun_runner.redaction import Redactor


def main() -> None:
    stdout = os.dup(1)
    os.dup2(2, 1)  # crewai prints as it pleases
    drive = json.loads(os.environ["DRIVE"])
    given = payload.read(os.environ)
    prepared, inputs = run.prepare(given)
    calls: list[tuple[str, int]] = []
    ledger = Ledger()

    def reserve(key: str, model: str, need: Need) -> Ticket:
        if len(calls) == drive.get("stopAfter"):
            ledger.close()
        ticket = ledger.reserve(key, model, need)
        task = ledger.find(key)
        calls.append((task.name if task else "", need.amount(ticket.answer).tokens))
        return ticket

    from crewrun_runner.crew import LoadedCrew

    finished = [FinishedTask.model_validate(task) for task in drive.get("finished", [])]
    seen: dict[str, Any] = {}
    try:
        crew = LoadedCrew(prepared, inputs, ledger, lambda *_, **__: None, [], reserve, finished, attempt=2)
        try:
            answer = crew.kickoff()
            seen |= {"answer": answer.text, "format": answer.format}
        except Exception as error:
            seen |= {"error": type(error).__name__, "message": str(error)}
            crew.stop_calls()
            crew.wait_for_calls(10)
        crew.settle()
        seen["finished"] = [task.model_dump(mode="json", by_alias=True) for task in crew.finished_tasks()]
        seen["files"] = [file.model_dump(mode="json", by_alias=True) for file in crew.output_files(Redactor())]
        seen["records"] = [task.model_dump(mode="json", by_alias=True) for task in ledger.tasks(str, ended=True)]
    except Unusable as error:
        seen["unusable"] = str(error)
    os.write(stdout, json.dumps({**seen, "calls": calls}).encode() + b"\n")
    sys.stderr.flush()
    os._exit(0)


main()

"""What gives a crew: a definition, or what an entrypoint names in the image. `crew` drives it.

A part of the edge to CrewAI. What only the user's own code needs of it is imported when there is such code.
"""

import os
from typing import Any

from crewai.project.crew_loader import load_crew_from_definition

from crewrun_runner.image import app_dir, installed
from crewrun_runner.ledger import Ledger
from crewrun_runner.settings import Prepared


def crew(prepared: Prepared, ledger: Ledger) -> Any:
    """A Crew that is ready to start, or something that looks like one."""
    if prepared.definition is None or prepared.spec.allow_python:
        from crewrun_runner import constructors

        constructors.complete(prepared, installed)
    if prepared.definition is None:
        return _from_entrypoint(prepared, ledger)
    # A reference to Python is looked up in this folder alone, and so are custom tools.
    root = app_dir() if prepared.spec.allow_python and app_dir().is_dir() else None
    loaded, _ = load_crew_from_definition(prepared.definition, source="definition", project_root=root)
    return loaded


def _from_entrypoint(prepared: Prepared, ledger: Ledger) -> Any:
    from crewrun_runner import entrypoints, objects
    from crewrun_runner.sources import Target

    target = Target.parse(prepared.spec.entrypoint or "")
    for name, value in objects.variables(prepared.llm).items():
        os.environ.setdefault(name, value)
    return entrypoints.crew(target, ledger)

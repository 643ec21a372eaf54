"""What an entrypoint names, imported and made: the user's own code runs here first.

A part of the edge to CrewAI.
"""

import asyncio
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crewai import Crew
from crewai.flow.flow import Flow

from crewrun_runner import objects, sources
from crewrun_runner.flows import FlowAsCrew
from crewrun_runner.image import installed
from crewrun_runner.ledger import Ledger
from crewrun_runner.sources import Kind, Target


def crew(target: Target, ledger: Ledger) -> Any:
    """A Crew that is ready to start, or a Flow that looks like one. Raises Refusal."""
    with _code(target, "importing it"):
        thing = _named(target)
    kind = sources.kind_of(thing, Crew, Flow)
    given = kind in (Kind.FACTORY, Kind.FLOW_CLASS)
    if given:
        thing = _made(target, "making it", thing)
        kind = sources.kind_of(thing, Crew, Flow)
    if kind is Kind.CREW_BASE and callable(method := getattr(thing, "crew", None)):
        thing, given = _made(target, "its method crew()", method), True
        kind = sources.kind_of(thing, Crew, Flow)
    if kind is Kind.FLOW:
        return FlowAsCrew(thing, ledger)
    if kind is not Kind.CREW:
        raise sources.wrong_kind(target, thing, given)
    objects.check(thing, installed)
    thing.stream = False  # nobody reads the pieces: the whole answer is the result
    return thing


def _named(target: Target) -> Any:
    try:
        thing: Any = importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        if error.name and f"{target.module}.".startswith(f"{error.name}."):
            raise sources.missing_module(target, error.name) from error
        raise
    for name in target.name.split("."):
        if not hasattr(thing, name):
            raise sources.missing_name(target, name, thing)
        thing = getattr(thing, name)
    return thing


def _made(target: Target, doing: str, maker: Callable[[], Any]) -> Any:
    if needed := sources.needed_arguments(maker):
        raise target.refuse(f"needs arguments ({', '.join(needed)}), and the runner has none: give them defaults")
    with _code(target, doing):
        made = maker()
        return asyncio.run(made) if inspect.iscoroutine(made) else made


@contextmanager
def _code(target: Target, doing: str) -> Iterator[None]:
    """Around the user's own code, which may do anything."""
    try:
        yield
    except (Exception, SystemExit) as error:
        refusal = sources.failed(target, doing, error)
        if refusal is not error:
            traceback.print_exc()
        raise refusal from error

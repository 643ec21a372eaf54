"""What an entrypoint names, and what to say when it gives no crew. Purely computational, and by shape."""

import inspect
import re
import traceback
from dataclasses import dataclass
from enum import Enum

from crewrun_api.reasons import Reason
from crewrun_runner.absent import advice_on, left_out
from crewrun_runner.exceptions import chain, said
from crewrun_runner.image import APP_DIR
from crewrun_runner.refusal import Refusal

_EXTRA = re.compile(r"crewai\[[a-z-]+\]")
#: Files that the user did not write.
_FOREIGN = re.compile(r"^<|/site-packages/|/crewrun_runner/|^/opt/crewrun/|/lib/python3\.\d+/")
_KINDS = "a Crew, a function that returns one, a @CrewBase class or a Flow"


class Kind(Enum):
    """What can be run, or gives what can be run."""

    CREW = "Crew"
    FLOW = "Flow"
    FLOW_CLASS = "Flow class"
    CREW_BASE = "@CrewBase object"
    FACTORY = "factory"  # a @CrewBase class too: it gives an object of its own


@dataclass(frozen=True)
class Target:
    """`package.module:Name`; the name may have dots."""

    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        module, colon, name = text.partition(":")
        if not (colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))):
            raise Refusal(
                Reason.INVALID_CREW,
                f"entrypoint {text}: must be package.module:Name, such as my_project.crew:ResearchCrew",
            )
        return cls(module, name)

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def refuse(self, why: str, reason: Reason = Reason.INVALID_CREW) -> Refusal:
        """The target, and why it cannot be run."""
        return Refusal(reason, f"entrypoint {self}: {why}")


def kind_of(thing: object, crew: type, flow: type) -> Kind | None:
    """What it is, given CrewAI's two classes; None for what is nothing of the kind."""
    if isinstance(thing, crew):
        return Kind.CREW
    if isinstance(thing, flow):
        return Kind.FLOW
    if isinstance(thing, type):
        return Kind.FLOW_CLASS if issubclass(thing, flow) else Kind.FACTORY
    if getattr(type(thing), "is_crew_class", False):
        return Kind.CREW_BASE
    return Kind.FACTORY if callable(thing) else None


def wrong_kind(target: Target, thing: object, given: bool) -> Refusal:
    """`given` says that calling the target gave the thing."""
    verb = "gives" if given else "is"
    return target.refuse(f"{verb} an object of class {type(thing).__name__}; it must be {_KINDS}")


def needed_arguments(thing: object) -> list[str]:
    """The arguments that it cannot be called without."""
    try:
        # A metaclass hides the signature of a class's own constructor behind its `__call__`.
        function = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
        parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    if function is not thing:
        parameters = parameters[1:]  # self
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in open_ended]


def missing_module(target: Target, module: str) -> Refusal:
    where = f"put its package into {APP_DIR} of the image, or name in entrypoint.image the image that has it"
    return target.refuse(f"there is no module {module}; {where}")


def missing_name(target: Target, name: str, holder: object) -> Refusal:
    known = [known for known, value in vars(holder).items() if not known.startswith("_") and callable(value)]
    have = f"; it has {', '.join(sorted(known)[:10])}" if known else ""
    return target.refuse(f"{target.module} has no {name}{have}")


def failed(target: Target, doing: str, error: BaseException) -> Refusal:
    """The user's own code raised something. Its text may hold anything: who shows it redacts it."""
    links = list(chain(error))
    if refusal := next((link for link in links if isinstance(link, Refusal)), None):
        return refusal
    place = place_of(error)
    text = f"{doing} failed{f' in {place}' if place else ''}: {type(error).__name__}: {said(error)}"
    if isinstance(error, SystemExit):
        text += "; remove the call of sys.exit()"
    for link in links:
        if isinstance(link, ModuleNotFoundError) and link.name and not left_out(link.name):
            top = link.name.partition(".")[0]
            missing = link.name if top == target.module.partition(".")[0] else top
            return target.refuse(f"{text}; put {missing} into the image")
    if extra := _EXTRA.search(text):  # CrewAI's advice is for a laptop
        text += f"; {advice_on(extra[0])}"
    return target.refuse(text)


def place_of(error: BaseException) -> str:
    """The file and line of the user's code that it comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _FOREIGN.search(frame.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""

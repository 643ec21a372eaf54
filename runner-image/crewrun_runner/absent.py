"""Packages that crewai depends on and the runner image leaves out.

crewai imports chromadb and numpy at once, and a crew without memory and knowledge uses nothing but the names
of their classes: stand-ins give it those while it is imported and are taken away afterwards. From then on
importing anything that was left out fails with an error that says what is missing and what to do.

A package that is installed all the same, in an image built on this one, always comes first: the finder is
the last one that Python asks.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Self

#: Top-level modules that crewai needs by name while it is imported.
STAND_INS = frozenset({"chromadb", "numpy"})


class LeftOut(NamedTuple):
    """What to install for a module, what needs it, and the extra of the runner image that brings it, if any."""

    install: str
    needed_for: str
    extra: str = ""


#: Modules that are left out.
LEFT_OUT = {
    "aiobotocore": LeftOut("crewai[bedrock]", "models of Amazon Bedrock", "bedrock"),
    "anthropic": LeftOut("crewai[anthropic]", "models of Anthropic", "anthropic"),
    "azure.ai": LeftOut("crewai[azure-ai-inference]", "models of Azure AI", "azure"),
    "boto3": LeftOut("crewai[bedrock]", "models of Amazon Bedrock", "bedrock"),
    "celpy": LeftOut("cel-python", "expressions in CrewAI flows"),
    "chromadb": LeftOut("chromadb", "memory, knowledge and embedders", "memory"),
    "crewai_cli": LeftOut("crewai-cli", "the crewai command line"),
    "crewai_files": LeftOut("crewai[file-processing]", "input files"),
    "crewai_tools": LeftOut("crewai[tools]", "tools of the crewai_tools package", "tools"),
    "google.genai": LeftOut("crewai[google-genai]", "models of Google", "gemini"),
    "ibm_watsonx_ai": LeftOut("crewai[watson]", "models of IBM watsonx"),
    "instructor": LeftOut("instructor", "structured output from models without function calling"),
    "lancedb": LeftOut("lancedb", "memory", "memory"),
    "litellm": LeftOut("crewai[litellm]", "models that only LiteLLM knows"),
    "mcp": LeftOut("mcp", "MCP servers", "mcp"),
    "numpy": LeftOut("numpy", "memory, knowledge and embedders", "memory"),
    "onnxruntime": LeftOut("onnxruntime", "embedders that run in the process"),
    "openpyxl": LeftOut("openpyxl", "knowledge from spreadsheets"),
    "pdfplumber": LeftOut("pdfplumber", "knowledge from PDF files"),
    "pyarrow": LeftOut("pyarrow", "memory", "memory"),
    "qdrant_client": LeftOut("crewai[qdrant]", "memory and knowledge in Qdrant"),
    "tiktoken": LeftOut("crewai[embeddings]", "embedders", "tools"),
    "tokenizers": LeftOut("tokenizers", "embedders that run in the process"),
    "voyageai": LeftOut("crewai[voyageai]", "embedders of Voyage AI"),
}


def advice(module: str) -> str:
    """Why `module` cannot be imported, and what to do."""
    install, needed_for, extra = LEFT_OUT[module]
    return f"the runner image leaves out {install}, needed for {needed_for}: {way_out(extra)}"


def advice_on(install: str) -> str:
    """The same for what CrewAI itself says should be installed."""
    extra = next((entry.extra for entry in LEFT_OUT.values() if entry.install == install), "")
    return f"the runner image leaves out {install}: {way_out(extra)}"


def way_out(extra: str) -> str:
    """What to do about something that the image lacks."""
    if not extra:
        return "build an image FROM it that has it, and name that image in pod.image"
    return (
        f"name in pod.image the runner image with the extra {extra} (its tag ends in -{extra}), or an image of your "
        "own, built FROM the runner image, that has it"
    )


def left_out(module: str) -> str | None:
    """The entry of `LEFT_OUT` that a dotted module name belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((name for name in names if name in LEFT_OUT), None)


class AbsentFinder(MetaPathFinder, Loader):
    """The last finder: stand-ins while crewai is imported, afterwards errors that help."""

    def __init__(self) -> None:
        self._importing_crewai = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if self._importing_crewai:  # crewai tries for optional packages then, and copes without them
            return ModuleSpec(fullname, self, is_package=True) if top in STAND_INS else None
        if entry := left_out(fullname):
            raise ModuleNotFoundError(f"no module {fullname!r}: {advice(entry)}", name=fullname)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """A stand-in has nothing to run."""

    @contextmanager
    def stand_ins(self) -> Iterator[None]:
        """While crewai is imported."""
        self._importing_crewai = True
        try:
            yield
        finally:
            self._importing_crewai = False
            for name, module in list(sys.modules.items()):
                if isinstance(module, _StandInModule):
                    del sys.modules[name]


def install() -> AbsentFinder:
    """The finder, put behind all others."""
    finder = AbsentFinder()
    sys.meta_path.append(finder)
    return finder


class _StandInModule(ModuleType):
    """A module that has a class for any name it is asked for."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_in = type(name, (_StandInClass,), {"__module__": self.__name__})
        setattr(self, name, stand_in)
        return stand_in


class _StandInClass:
    """A class that can be named, subclassed and subscripted in annotations, and never used."""

    def __new__(cls, *_: object, **__: object) -> Self:
        cls._refuse()

    def __class_getitem__(cls, _: object) -> type[Self]:
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> dict[str, Any]:
        return {"type": "is-instance", "cls": cls}

    @classmethod
    def _refuse(cls) -> NoReturn:
        top = next(
            base.__module__.partition(".")[0]
            for base in cls.__mro__
            if base.__module__ != __name__ and base.__module__.partition(".")[0] in STAND_INS
        )
        raise ModuleNotFoundError(f"{cls.__qualname__} is not available: {advice(top)}", name=top)

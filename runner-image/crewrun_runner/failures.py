"""From an exception to a reason. Purely computational, and by shape: no provider's SDK is imported.

CrewAI wraps what an SDK raises: the first exception of the chain that says something decides. What comes out
of an LLM call without a status or a known class is an answer that nobody could read: the endpoint's fault.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from crewrun_api.reasons import ExitCode, Reason
from crewrun_runner.absent import advice, advice_on, left_out
from crewrun_runner.exceptions import (
    cause_words,
    chain,
    provider_words,
    retry_after_seconds,
    said,
    status_code,
)
from crewrun_runner.refusal import Refusal

_EXIT_CODES = {
    ExitCode.INVALID: {
        Reason.INVALID_CREW,
        Reason.INVALID_INPUTS,
        Reason.INPUT_REQUIRED,
        Reason.CREW_CHANGED,
    },
    ExitCode.LLM_RETRYABLE: {Reason.LLM_RATE_LIMITED, Reason.LLM_UNAVAILABLE, Reason.LLM_TIMEOUT},
    ExitCode.LLM_PERMANENT: {
        Reason.LLM_AUTHENTICATION,
        Reason.LLM_PERMISSION,
        Reason.LLM_BAD_REQUEST,
        Reason.LLM_CONTEXT_EXCEEDED,
    },
    ExitCode.TASK_FAILED: {
        Reason.TASK_FAILED,
        Reason.GUARDRAIL_FAILED,
        Reason.TOOL_FAILED,
        Reason.ATTEMPT_TIMED_OUT,
    },
    ExitCode.BUDGET_EXCEEDED: {Reason.BUDGET_EXCEEDED},
    ExitCode.STOPPED: {Reason.CANCELLED, Reason.SUSPENDED, Reason.QUEUE_STOPPED},
    ExitCode.SUCCEEDED: {Reason.COMPLETED},
}

#: What a person does about it.
_NEXT = {
    Reason.LLM_AUTHENTICATION: "check the Secret that holds the provider's key",
    Reason.LLM_PERMISSION: "check that the key may use this model",
    Reason.LLM_BAD_REQUEST: "check the model's name, llm.baseURL and the llm settings",
    Reason.LLM_CONTEXT_EXCEEDED: "shorten the inputs or the context, or use a model with a larger window",
    Reason.LLM_RATE_LIMITED: "lower maxRPM, or raise the limit or quota at the provider",
    Reason.LLM_UNAVAILABLE: "check that the provider and llm.baseURL can be reached",
    Reason.LLM_TIMEOUT: "raise llm.timeoutSeconds, or check how loaded the provider is",
    Reason.GUARDRAIL_FAILED: "look at what the guardrail asks for, or raise guardrail_max_retries",
    Reason.TOOL_FAILED: "look at the tool and its inputs",
    Reason.TASK_FAILED: "look at the runner's log",
}

_STATUS = {
    401: Reason.LLM_AUTHENTICATION,
    403: Reason.LLM_PERMISSION,
    408: Reason.LLM_TIMEOUT,
    409: Reason.LLM_UNAVAILABLE,
    413: Reason.LLM_CONTEXT_EXCEEDED,
    425: Reason.LLM_UNAVAILABLE,
    429: Reason.LLM_RATE_LIMITED,
    504: Reason.LLM_TIMEOUT,
}

#: Classes that say it without a status: CrewAI's own, and those of the SDKs.
_CLASSES = {
    "LLMContextLengthExceededError": Reason.LLM_CONTEXT_EXCEEDED,
    "APITimeoutError": Reason.LLM_TIMEOUT,
    "APIConnectionError": Reason.LLM_UNAVAILABLE,
    "APIResponseValidationError": Reason.LLM_UNAVAILABLE,
    "RemoteProtocolError": Reason.LLM_UNAVAILABLE,
    "ReadError": Reason.LLM_UNAVAILABLE,
    "ReadTimeout": Reason.LLM_TIMEOUT,
    "ToolExecutionFailedError": Reason.TOOL_FAILED,
    "ToolUsageError": Reason.TOOL_FAILED,
}

#: CrewAI raises plain exceptions for these.
_TEXTS: tuple[tuple[Callable[[str], bool], Reason], ...] = (
    (lambda text: "API_KEY is required" in text, Reason.LLM_AUTHENTICATION),
    (lambda text: text.startswith("Task failed guardrail"), Reason.GUARDRAIL_FAILED),
    (lambda text: "required template variable" in text.lower(), Reason.INVALID_INPUTS),
    (lambda text: text.startswith("Error interpolating"), Reason.INVALID_INPUTS),
)
_CONTEXT_CODES = ("context_length_exceeded", "string_above_max_length")
#: Tools speak HTTP too: what these raise is about a provider only when an LLM call raised it.
_HTTP_LIBRARIES = ("aiohttp", "httpx", "requests", "urllib3")
_EXTRA = re.compile(r"crewai\[[a-z-]+\]")
#: Their text may quote a prompt or an answer, so it belongs in the record alone.
_UNQUOTABLE = {Reason.TASK_FAILED, Reason.GUARDRAIL_FAILED, Reason.TOOL_FAILED}


@dataclass(frozen=True)
class Place:
    """Where in the crew it happened, as far as the events tell."""

    task: str = ""
    agent: str = ""
    model: str = ""
    in_llm_call: bool = False


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed. `message` is for people; `quotable` says whether a log may hold it."""

    reason: Reason
    message: str
    error: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None

    @property
    def exit_code(self) -> ExitCode:
        return exit_code(self.reason)

    @property
    def quotable(self) -> bool:
        return self.reason not in _UNQUOTABLE


def exit_code(reason: Reason) -> ExitCode:
    """The exit code that goes with a reason."""
    return next((code for code, reasons in _EXIT_CODES.items() if reason in reasons), ExitCode.INTERNAL)


def loading(error: BaseException) -> Failure:
    """CrewAI could not make a crew of the definition."""
    if isinstance(error, Refusal):
        return Failure(error.reason, error.message)
    for link in chain(error):
        if isinstance(link, ModuleNotFoundError) and (entry := left_out(link.name or "")):
            return Failure(Reason.INVALID_CREW, f"{said(error)}: {advice(entry)}", type(link).__name__)
    text = f"the definition does not load: {said(error)}"
    if extra := _EXTRA.search(text):  # CrewAI's advice is for a laptop
        text = f"{text}; {advice_on(extra[0])}"
    return Failure(Reason.INVALID_CREW, text, type(error).__name__)


def running(error: BaseException, place: Place, now: datetime) -> Failure:
    """An exception out of the crew's kickoff."""
    for link in chain(error):
        if isinstance(link, Refusal):
            return Failure(link.reason, link.message)
    for link in chain(error):
        foreign = type(link).__module__.partition(".")[0] in _HTTP_LIBRARIES and not place.in_llm_call
        if not foreign and (reason := _reason(link)):
            return _failure(reason, link, place, now)
    reason = Reason.LLM_UNAVAILABLE if place.in_llm_call else Reason.TASK_FAILED
    return _failure(reason, error, place, now)


def failed_over(failovers: Mapping[tuple[str, str], Reason]) -> str:
    """What is said of a crew that finished with other models than it names."""
    return "".join(f"; {other} was asked for {model} ({reason})" for (model, other), reason in failovers.items())


def classified(error: BaseException) -> Reason | None:
    """The reason of an exception out of an LLM call, if anything in its chain says one."""
    return next((reason for link in chain(error) if (reason := _reason(link))), None)


def _reason(error: BaseException) -> Reason | None:
    text = str(error)
    if status := status_code(error):
        if status == 400 and _exceeds_context(error):
            return Reason.LLM_CONTEXT_EXCEEDED
        return _STATUS.get(status, Reason.LLM_UNAVAILABLE if status >= 500 else Reason.LLM_BAD_REQUEST)
    for cls in type(error).__mro__:
        if reason := _CLASSES.get(cls.__name__):
            return reason
    return next((reason for matches, reason in _TEXTS if matches(text)), None)


def _exceeds_context(error: BaseException) -> bool:
    code = getattr(error, "code", None)
    return code in _CONTEXT_CODES or any(word in str(error) for word in (*_CONTEXT_CODES, "maximum context length"))


def _failure(reason: Reason, error: BaseException, place: Place, now: datetime) -> Failure:
    status = status_code(error)
    named = [("task", place.task), ("agent", place.agent)]
    if reason.value.startswith("LLM"):
        named.append(("model", place.model))
    where = ", ".join(f"{word} {name}" for word, name in named if name)
    what = f"{status} {type(error).__name__}" if status else type(error).__name__
    words = provider_words(error) or (cause_words(error) if reason is Reason.LLM_UNAVAILABLE else said(error))
    text = f"{where}: {what}: {words}" if where else f"{what}: {words}"
    if step := _NEXT.get(reason):
        text = f"{_shorten(text)}; {step}"
    wait = retry_after_seconds(error, now) if reason.value.startswith("LLM") else None
    return Failure(reason, text, type(error).__name__, status, wait)


def _shorten(text: str, limit: int = 700) -> str:
    """Room for the advice: the record cuts a message at its end."""
    return text if len(text) <= limit else text[:limit] + "…"

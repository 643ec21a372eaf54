"""CrewAI's classes of LLMs, wrapped so that one owner makes every call.

`call` and `acall` are wrapped on the classes, so that an LLM that a crew's own code has made is no exception.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Protocol

from crewai.llms.base_llm import BaseLLM

from crewrun_runner.metering import current
from crewrun_runner.tokens import Tokens


class Owner(Protocol):
    """What makes calls. `method` is the class's own, and asks the model once."""

    def call(self, llm: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    async def acall(
        self, llm: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any: ...


#: Whose turn it is: one attempt in this process.
_owner: Owner | None = None


def without_own_retries(llm: Any, default: int) -> int:
    """The number of retries that somebody gave to an LLM; from now on its SDK makes none."""
    given = getattr(llm, "max_retries", None)
    for name in ("_client", "_async_client"):
        client = getattr(llm, name, None)
        if client is not None and isinstance(getattr(client, "max_retries", None), int):
            client.max_retries = 0
    if isinstance(given, int):
        llm.max_retries = 0  # for a client that is made later
    return given if isinstance(given, int) else default


def own(owner: Owner) -> None:
    """From now on it makes every call: each class that has a `call` of its own, now and when it is defined later."""
    global _owner
    _owner = owner
    for cls in (BaseLLM, *_subclasses(BaseLLM)):
        _wrap_class(cls)
    if not getattr(BaseLLM._wrap_call_method, "_crewrun", False):
        hook = classmethod(lambda cls, _: _wrap_class(cls))
        BaseLLM._wrap_call_method = hook
        hook.__func__._crewrun = True  # type: ignore[attr-defined]


def _subclasses(cls: Any) -> Iterable[type]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


def _wrap_class(cls: type) -> None:
    for name in ("call", "acall"):
        _wrap(cls, name)
    for name, wrapping in (("_track_token_usage_internal", _noting), ("_handle_tool_execution", _outside)):
        method = cls.__dict__.get(name)
        if method is not None and not hasattr(method, "__wrapped__"):
            setattr(cls, name, wrapping(method))


def _wrap(cls: type, name: str) -> None:
    method = cls.__dict__.get(name)
    if method is None or getattr(method, "_crewrun", False):
        return
    while hasattr(method, "_crewai_rate_limit_wrapped"):
        method = method.__wrapped__

    if name == "call":

        @wraps(method)
        def call(llm: Any, *args: Any, **kwargs: Any) -> Any:
            owner = _whose(llm)
            return owner.call(llm, method, args, kwargs) if owner else method(llm, *args, **kwargs)

        wrapped: Any = call
    else:

        @wraps(method)
        async def acall(llm: Any, *args: Any, **kwargs: Any) -> Any:
            owner = _whose(llm)
            return await (owner.acall(llm, method, args, kwargs) if owner else method(llm, *args, **kwargs))

        wrapped = acall
    wrapped._crewrun = True
    setattr(cls, name, wrapped)


def _whose(llm: Any) -> Owner | None:
    """None inside a call of this very LLM: a class that calls its base's method is asked once."""
    inside = current.get()
    return None if inside is not None and inside.llm is llm else _owner


def _noting(track: Callable[..., None]) -> Callable[..., None]:
    @wraps(track)
    def track_token_usage(llm: Any, usage: Any) -> None:
        call = current.get()
        known = len(call.noted) if call else 0
        track(llm, usage)
        if call is not None and isinstance(usage, dict) and len(call.noted) == known:  # not by its base already
            call.noted.append(Tokens.of(usage))

    return track_token_usage


def _outside(handle: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that a call carries out itself is not the call: what it asks of the network is its own."""

    @wraps(handle)
    def handle_tool_execution(*args: Any, **kwargs: Any) -> Any:
        token = current.set(None)
        try:
            return handle(*args, **kwargs)
        finally:
            current.reset(token)

    return handle_tool_execution

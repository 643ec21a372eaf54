"""Every call of an LLM passes here: tries, fallback models, and the end of a run that may not go on.

CrewAI's loop around a call is left out (`llm_classes`), and the SDKs' retries are switched off: tries have one owner.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from crewai.context import get_current_task_id
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import LLMCallBlockedError, call_stop_override
from crewai.utilities.llm_utils import create_llm_like

from crewrun_api.reasons import Reason
from crewrun_api.settings import LLM
from crewrun_runner import llm_classes, transport
from crewrun_runner.calls import Charge
from crewrun_runner.exceptions import one_line, retry_after_seconds, status_code
from crewrun_runner.failover import Circuits, fallbacks_of, may_fail_over, wait_before_retry
from crewrun_runner.failures import classified
from crewrun_runner.ledger import BudgetExceeded, Ledger, Stopping, Ticket
from crewrun_runner.metering import Call, Meter, current
from crewrun_runner.refusal import Refusal
from crewrun_runner.streams import Log
from crewrun_runner.tokens import Tokens

#: What a call that is prevented raises says this.
STOPPED = "the run ends"
#: Providers whose requests `transport` sees. The others have HTTP clients of their own, or none.
_SEEN = tuple(f"crewai.llms.providers.{name}." for name in ("openai", "openai_compatible", "anthropic", "gemini"))
_NOT_TRIED_AGAIN = "_crewrun_tried"


@dataclass
class _Asking:
    """One call that is being made: the models left to ask, in turn."""

    llm: Any
    left: list[str]
    tried: int = 0
    #: Models that were given up.
    failed: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.left[0]


class Models:
    """The models of one attempt. `named` gives a model's name as the definition or profile has it."""

    def __init__(self, settings: LLM, named: Callable[..., str], ledger: Ledger, meter: Meter, log: Log) -> None:
        self._settings = settings
        self._named = named
        self._ledger = ledger
        self._meter = meter
        self._log = log
        self._circuits = Circuits()
        # By the id of an LLM. They hold it too: an id is given again when what had it is gone.
        self._retries: dict[int, tuple[Any, int]] = {}
        self._stand_ins: dict[tuple[int, str], tuple[Any, Any]] = {}
        self._stopped = threading.Event()

    def own(self) -> None:
        """Take over the calls of every LLM."""
        llm_classes.own(self)
        transport.install()

    def stand_in_for(self, llms: Iterable[Any]) -> None:
        """Make the fallback models of these now, so that one that this image cannot ask is found before anything is
        spent."""
        for llm in llms:
            for model in self._left(llm)[1:]:
                self._stand_in(llm, model)

    def stop(self) -> None:
        """No call begins any more; those in flight go on."""
        self._ledger.close()
        self._stopped.set()

    def model_of(self, event: Any) -> str:
        """The model that an event speaks of, as the crew or profile names it."""
        call = current.get()
        return call.model if call is not None else self._named(getattr(event, "model", None) or "")

    def charges(self) -> list[Charge]:
        """What was answered in the call at hand."""
        call = current.get()
        return [] if call is None else call.charges

    def prevented(self, error: str) -> bool:
        """Whether that error comes of the run's end alone."""
        return error.endswith(STOPPED) or self._ledger.closed

    def call(self, llm: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `llm` answers, or a model that stands in for it."""
        asking = self._begin(llm)
        while True:
            call, ticket = self._prepare(asking, args, kwargs)
            with _made(call, llm):
                try:
                    answer = method(llm, *args, **kwargs) if call.llm is llm else call.llm.call(*args, **kwargs)
                except Exception as error:
                    wait = self._after(asking, call, ticket, error)
                else:
                    return self._answered(call, ticket, answer)
            self._stopped.wait(wait)

    async def acall(self, llm: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same without blocking."""
        asking = self._begin(llm)
        while True:
            call, ticket = await asyncio.to_thread(self._prepare, asking, args, kwargs)
            with _made(call, llm):
                try:
                    if call.llm is llm:
                        answer = await method(llm, *args, **kwargs)
                    else:
                        answer = await call.llm.acall(*args, **kwargs)
                except Exception as error:
                    wait = self._after(asking, call, ticket, error)
                else:
                    return self._answered(call, ticket, answer)
            await asyncio.to_thread(self._stopped.wait, wait)

    def _begin(self, llm: Any) -> _Asking:
        if id(llm) not in self._retries:
            self._retries[id(llm)] = llm, llm_classes.without_own_retries(llm, self._settings.max_retries)
        return _Asking(llm, self._circuits.order(self._left(llm), time.monotonic()))

    def _left(self, llm: Any) -> list[str]:
        model = self._name(llm)
        primary = self._settings.model and self._named(self._settings.model)
        if primary and "/" not in primary:  # CrewAI knows whose it is
            primary = f"{model.partition('/')[0]}/{primary}"
        return [model, *fallbacks_of(model, primary, self._settings.fallback_models)]

    def _name(self, llm: Any) -> str:
        """The model of an LLM, provider first."""
        model, provider = str(llm.model), str(getattr(llm, "provider", "") or "")
        named = self._named(model, provider)
        return named if "/" in named or not provider else f"{provider}/{named}"

    def _stand_in(self, llm: Any, model: str) -> Any:
        key = (id(llm), model)
        if key not in self._stand_ins:
            made = create_llm_like(model, llm)
            llm_classes.without_own_retries(made, 0)
            self._stand_ins[key] = llm, made
        return self._stand_ins[key][1]

    def _prepare(self, asking: _Asking, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, Ticket | None]:
        """The next try of a call; with a reservation where its requests are not seen."""
        self._go_on()
        model, llm = asking.model, asking.llm
        if not self._meter.priced(model):
            raise Refusal(
                Reason.INVALID_CREW,
                f"budget.maxCostUSD: nobody knows the price of the model {model}; give it in prices, or use maxTokens",
            )
        asking.tried += 1
        used = llm if model == self._name(llm) else self._stand_in(llm, model)
        task = str(get_current_task_id() or getattr(kwargs.get("from_task"), "id", "") or "")
        call = Call(self._meter, used, model, task)
        if type(used).__module__.startswith(_SEEN):
            return call, None
        try:
            return call, self._meter.whole(call, kwargs.get("messages", args[:1]), kwargs.get("tools", args[1:2]))
        except (Stopping, BudgetExceeded):
            self._abort()

    def _answered(self, call: Call, ticket: Ticket | None, answer: Any) -> Any:
        if ticket is not None:
            self._settle(call, ticket)
        if call.cut:
            self._abort()
        self._circuits.answered(call.model)
        return answer

    def _after(self, asking: _Asking, call: Call, ticket: Ticket | None, error: Exception) -> float:
        """Seconds until the next try. Raises the error when there is none."""
        status = status_code(error)
        if ticket is not None and call.metered:
            self._meter.free(ticket)
        elif ticket is not None:
            self._meter.free(ticket) if status else self._meter.lost(ticket)
        self._go_on(error)
        if isinstance(error, HookAborted | LLMCallBlockedError | Refusal) or getattr(error, _NOT_TRIED_AGAIN, False):
            raise error
        self._ledger.call_failed(call.task, call.model, str(error))
        reason = classified(error)
        retries = 0 if call.answered else self._retries[id(asking.llm)][1]
        wait = wait_before_retry(reason, asking.tried, retries, retry_after_seconds(error, datetime.now(UTC)))
        fields = {"task": self._task(call), "status": status, "error": type(error).__name__, "reason": reason}
        if wait is not None:
            message = one_line(str(error))[:500]
            self._log("llm_call_retried", level="warning", model=call.model, message=message, **fields)
            return wait
        asking.left.pop(0)
        if reason is None or not may_fail_over(reason):
            asking.left.clear()
        else:
            self._circuits.failed(call.model, time.monotonic())
        if not asking.left or reason is None:
            setattr(error, _NOT_TRIED_AGAIN, True)
            raise error
        asking.tried = 0
        self._log("llm_failover", level="warning", model=call.model, nextModel=asking.model, **fields)
        self._ledger.failed_over(call.model, asking.model, reason)
        return 0.0

    def _settle(self, call: Call, ticket: Ticket) -> None:
        used = sum(call.noted, Tokens())
        if call.metered:  # its requests were seen after all, and are charged
            self._meter.free(ticket)
        elif used.total:
            self._meter.charge(call, ticket, used)
        else:
            self._meter.lost(ticket)

    def _task(self, call: Call) -> str | None:
        task = self._ledger.find(call.task)
        return task.name if task else None

    def _go_on(self, error: Exception | None = None) -> None:
        if self._stopped.is_set() or self._ledger.closed:
            self._abort(error)

    def _abort(self, error: Exception | None = None) -> NoReturn:
        """CrewAI lets a crew go on after any other exception."""
        raise HookAborted(STOPPED, source="crewrun") from error


class _made(ExitStack):
    """While a call is made: its requests are its own, and a stand-in stops where the declared model would."""

    def __init__(self, call: Call, declared: Any) -> None:
        super().__init__()
        token = current.set(call)
        self.callback(current.reset, token)
        if call.llm is not declared:
            self.enter_context(call_stop_override(call.llm, list(declared.stop_sequences)))

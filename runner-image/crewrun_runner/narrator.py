"""What the crew does, as lines of the log. Purely computational but for the log that it is given.

Prompts, answers, and what goes into tools and comes out of them are there when the run is verbose: see `watcher`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from crewrun_api.money import usd
from crewrun_api.outcome import cut
from crewrun_runner.log_events import EVENTS
from crewrun_runner.operations import Operation, Result
from crewrun_runner.streams import Log, timestamp

#: Of one text, in bytes.
TEXT_LIMIT_BYTES = 4096
_FIELDS = ("task", "agent", "model", "tool")


class Narrator:
    """Writes a line when an operation starts and one when it ends."""

    def __init__(self, log: Log, redact: Callable[[str], str]) -> None:
        self._log = log
        self._redact = redact

    def started(self, operation: Operation) -> None:
        self._write(operation, "started", ts=timestamp(operation.start))

    def ended(self, operation: Operation, result: Result) -> None:
        if result.prevented:
            return
        self._write(
            operation,
            "failed" if result.error else "completed",
            ts=timestamp(result.end),
            durationSeconds=round((result.end - operation.start).total_seconds(), 3),
            error=result.error,
            fromCache=result.from_cache or None,
            **_used(result),
            **self._texts({**operation.texts, **result.texts}),
        )

    def _write(self, operation: Operation, how: str, **fields: Any) -> None:
        event = f"{operation.kind}_{how}"
        known = {name: getattr(operation, name) for name in _FIELDS}
        self._log(event, level=EVENTS[event].level, **known, **fields)

    def _texts(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Redacted before they are cut: half a secret is not found again."""
        return {name: shortened(self._redact(text)) for name, text in texts.items()}


def shortened(text: str) -> str:
    """What fits, and how much there was."""
    kept = cut(text, TEXT_LIMIT_BYTES)
    return kept if kept == text else f"{kept} ... [cut: {len(text.encode())} bytes in all]"


def _used(result: Result) -> dict[str, Any]:
    if result.tokens is None:
        return {}
    return {
        "promptTokens": result.tokens.prompt,
        "cachedPromptTokens": result.tokens.cached,
        "completionTokens": result.tokens.completion,
        "reasoningTokens": result.tokens.reasoning or None,
        "totalTokens": result.tokens.total,
        "costUSD": None if result.micro is None else usd(result.micro),
    }

"""The ledger: what was asked of the scripted LLM and how it ended. It holds no key and no message text."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .replies import Tokens

KEEP_ENTRIES = 100_000
CHAT_PATH = "/v1/chat/completions"


@dataclass
class Totals:
    """Sums over chat completions since the last reset, forgotten entries too. Tokens are those of successes;
    what a provider would bill for calls whose client left stands apart, in `disconnected_tokens`."""

    calls: int = 0
    in_flight: int = 0
    succeeded_calls: int = 0
    disconnected_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    disconnected_tokens: int = 0

    def body(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "inFlight": self.in_flight,
            "succeededCalls": self.succeeded_calls,
            "disconnectedCalls": self.disconnected_calls,
            "promptTokens": self.prompt_tokens,
            "completionTokens": self.completion_tokens,
            "totalTokens": self.total_tokens,
            "cachedTokens": self.cached_tokens,
            "disconnectedTokens": self.disconnected_tokens,
        }

    def count(self, entry: Entry, times: int) -> None:
        """Count an entry that has ended (1), or take it out again (-1)."""
        if entry.succeeded:
            self.succeeded_calls += times
            self.prompt_tokens += times * entry.tokens.prompt
            self.completion_tokens += times * entry.tokens.completion
            self.total_tokens += times * entry.tokens.total
            self.cached_tokens += times * entry.tokens.cached
        elif entry.client_disconnected:
            self.disconnected_calls += times
            self.disconnected_tokens += times * entry.tokens.total


@dataclass
class Entry:
    """One request. `tokens` are those the answer reports, also when the client left before it had them."""

    sequence: int
    path: str
    start_time: float
    authorization_sha256: str | None
    end_time: float | None = None
    model: str | None = None
    message_count: int = 0
    messages_sha256: str | None = None
    rule: str | None = None
    streaming: bool = False
    tokens: Tokens = field(default_factory=Tokens)
    status: int | None = None
    fault: str | None = None
    client_disconnected: bool = False
    # The sums it is counted in: a request that ends after a reset must not spoil the new ones.
    totals: Totals = field(default_factory=Totals, repr=False)

    @property
    def succeeded(self) -> bool:
        """A 200 without a fault that was sent to its end."""
        return self.end_time is not None and self.status == 200 and self.fault is None and not self.client_disconnected

    def body(self) -> dict[str, Any]:
        return {
            "sequence": self.sequence,
            "path": self.path,
            "startTime": _iso(self.start_time),
            "endTime": None if self.end_time is None else _iso(self.end_time),
            "model": self.model,
            "messageCount": self.message_count,
            "messagesSha256": self.messages_sha256,
            "rule": self.rule,
            "streaming": self.streaming,
            "promptTokens": self.tokens.prompt,
            "completionTokens": self.tokens.completion,
            "totalTokens": self.tokens.total,
            "cachedTokens": self.tokens.cached,
            "status": self.status,
            "fault": self.fault,
            "succeeded": self.succeeded,
            "authorizationSha256": self.authorization_sha256,
            "clientDisconnected": self.client_disconnected,
        }


class Ledger:
    """The last requests and the sums over all. Safe to read from another thread than the server's."""

    def __init__(self, clock: Callable[[], float], keep: int = KEEP_ENTRIES) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._totals = Totals()
        self._sequence = 0

    def begin(self, path: str, authorization_sha256: str | None) -> Entry:
        """Record a request that has just come in."""
        with self._lock:
            self._sequence += 1
            entry = Entry(self._sequence, path, self._clock(), authorization_sha256, totals=self._totals)
            self._entries.append(entry)
            if path == CHAT_PATH:
                self._totals.calls += 1
                self._totals.in_flight += 1
            return entry

    def finish(self, entry: Entry, *, disconnected: bool = False) -> None:
        """Record that a request has ended. A second time counts only if the client turns out to have left.

        It is said before the last bytes of an answer are sent: who has the answer finds it in the ledger.
        """
        with self._lock:
            if entry.end_time is not None and not disconnected:
                return
            counted = entry.path == CHAT_PATH
            if counted and entry.end_time is None:
                entry.totals.in_flight -= 1
            elif counted:
                entry.totals.count(entry, -1)
            entry.end_time, entry.client_disconnected = self._clock(), disconnected
            if counted:
                entry.totals.count(entry, 1)

    def reset(self) -> None:
        """Forget everything; sequence numbers start at 1 again."""
        with self._lock:
            self._entries.clear()
            self._totals = Totals()
            self._sequence = 0

    @property
    def entries(self) -> list[Entry]:
        """The entries that are kept, oldest first."""
        with self._lock:
            return list(self._entries)

    @property
    def totals(self) -> Totals:
        return self._totals

    def body(self, after: int = 0) -> dict[str, Any]:
        """The JSON of `GET /ledger`: entries with a sequence number above `after`, and the totals of all."""
        with self._lock:
            entries = [entry.body() for entry in self._entries if entry.sequence > after]
            dropped = self._sequence - len(self._entries)
            return {"totals": self._totals.body(), "dropped": dropped, "entries": entries}


def _iso(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")

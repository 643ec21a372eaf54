"""Rates of queues, lent out in leases to runners as they report. Purely computational.

Times are seconds of a clock that is never set. See decision 16.
"""

from dataclasses import dataclass, field

from crewrun_api.queue import QueueSpec
from crewrun_api.report import Lease, Paced, Report
from crewrun_operator.sharing import LEASE_SECONDS, Sharing, Word

#: A run or a queue, by namespace and name.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rate:
    """What the runs of a queue may ask of models together in a minute."""

    requests: float | None = None
    tokens: float | None = None


def rate_of(spec: QueueSpec | None) -> Rate | None:
    """The rate that a queue sets, if it does."""
    if spec is None or (spec.requests_per_minute is None and spec.tokens_per_minute is None):
        return None
    return Rate(spec.requests_per_minute, spec.tokens_per_minute)


@dataclass(slots=True)
class _Shared:
    requests: Sharing | None = None
    tokens: Sharing | None = None
    runners: set[str] = field(default_factory=set)

    def set_rate(self, rate: Rate) -> None:
        self.requests, self.tokens = _at(self.requests, rate.requests), _at(self.tokens, rate.tokens)

    @property
    def both(self) -> list[Sharing]:
        return [sharing for sharing in (self.requests, self.tokens) if sharing is not None]


class Leases:
    """The leases that are out, by queue and Pod. It begins when its process does: leases of the one before it are
    unknown to it as long as they last."""

    def __init__(self, now: float) -> None:
        self._known_from = now + LEASE_SECONDS
        self._queues: dict[Key, _Shared] = {}
        self._of: dict[str, Key] = {}

    def renew(self, pod: str, queue: Key, rate: Rate, running: int, report: Report, now: float) -> Lease:
        """The lease of a runner that reports. `running` is how many runs hold a place in the queue."""
        if self._of.get(pod) != queue:
            self.drop(pod)
        shared = self._queues.setdefault(queue, _Shared())
        shared.set_rate(rate)
        shared.runners.add(pod)
        self._of[pod] = queue
        requests, tokens = words(report)
        fresh = now < self._known_from
        trust = {"believe": fresh, "all_known": not fresh or len(shared.runners) >= running}
        return Lease(
            requests_per_minute=shared.requests and shared.requests.renew(pod, requests, now, **trust),
            tokens_per_minute=shared.tokens and shared.tokens.renew(pod, tokens, now, **trust),
            seconds=LEASE_SECONDS,
        )

    def end(self, pod: str, now: float, last: Report | None = None) -> None:
        """The runner has ended, perhaps with a last report: what it does not owe is free."""
        if (queue := self._of.pop(pod, None)) is None:
            return
        shared = self._queues[queue]
        shared.runners.discard(pod)
        requests, tokens = words(last) if last else (None, None)
        for sharing, word in ((shared.requests, requests), (shared.tokens, tokens)):
            if sharing is not None:
                sharing.leave(pod, now, word.owed if word else None)
        self._tidy(queue)

    def drop(self, pod: str) -> None:
        """No rate binds the runner any more."""
        if (queue := self._of.pop(pod, None)) is None:
            return
        shared = self._queues[queue]
        shared.runners.discard(pod)
        for sharing in shared.both:
            sharing.drop(pod)
        self._tidy(queue)

    def _tidy(self, queue: Key) -> None:
        """Names of queues come from people."""
        shared = self._queues[queue]
        if not shared.runners and all(sharing.empty for sharing in shared.both):
            del self._queues[queue]


def words(report: Report) -> tuple[Word, Word]:
    """What a report says of requests and of tokens."""
    usage, paced = report.snapshot.usage, report.paced or Paced(seconds=0)
    requests = Word(
        part=paced.requests_per_minute or 0.0,
        seconds=paced.seconds,
        used=usage.requests + usage.reserved_requests,
        waited=paced.requests_waited,
        owed=paced.requests_owed,
    )
    tokens = Word(
        part=paced.tokens_per_minute or 0.0,
        seconds=paced.seconds,
        used=usage.total_tokens,
        waited=paced.tokens_waited,
        owed=paced.tokens_owed,
    )
    return requests, tokens


def _at(sharing: Sharing | None, rate: float | None) -> Sharing | None:
    if rate is None:
        return None
    sharing = sharing or Sharing(rate)
    sharing.rate = rate
    return sharing

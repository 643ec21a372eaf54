"""What an answer to a report means, and when the next report goes. Purely computational."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from crewrun_api import names
from crewrun_api.report import INTERVAL_SECONDS, Action, Answer, Lease

ENV_REPORT_DIR = "CREWRUN_REPORT_DIR"

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 10.0
#: An answer that asks for more than these is a mistake, and the run could not be stopped any more.
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.1, 300.0
_LONGEST_RETRY_AFTER = 60.0

#: What a person does about a report that is refused.
ADVICE = {
    400: "the runner image and the operator must be of the same release",
    401: "check the audience and expiry of the projected token, and the operator's log",
    403: "the token belongs to another Pod; check the operator's log",
    404: "the operator does not know this run; check that it watches this namespace",
    409: "a newer report or execution of this run is known; check the operator's log",
    413: "the report is larger than the operator takes; make the output and the files smaller",
    422: "the runner image and the operator must be of the same release",
}


@dataclass(frozen=True)
class Reply:
    """What came back; status 0 when nothing did."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    error: str = ""


class Sense(Enum):
    """What a reply says about the report."""

    TAKEN = auto()  # what it carried is stored
    GONE = auto()  # the execution does not count any more
    DENIED = auto()  # not with this token, now
    REFUSED = auto()  # never, the same report
    LATER = auto()  # nobody took it, another time may be better


@dataclass(frozen=True)
class Verdict:
    """A reply, understood."""

    sense: Sense
    stop: Answer | None = None
    interval: float | None = None
    retry_after: float | None = None
    #: If it was taken: the part of the queue's rate; None: there is no rate.
    lease: Lease | None = None


_SENSES = {
    400: Sense.REFUSED,
    401: Sense.DENIED,
    403: Sense.DENIED,
    404: Sense.GONE,
    409: Sense.GONE,
    413: Sense.REFUSED,
    422: Sense.REFUSED,
}


def understand(reply: Reply) -> Verdict:
    """Total: whatever answers at that address, an answer that is none counts as not taken."""
    answer = _answer(reply.body) if reply.status in (200, 404, 409) else None
    stop = answer if answer and answer.action is Action.STOP else None
    if reply.status == 200 and answer:
        interval = min(max(answer.interval_seconds, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
        return Verdict(Sense.TAKEN, stop, interval, lease=answer.lease)
    return Verdict(_SENSES.get(reply.status, Sense.LATER), stop, retry_after=reply.retry_after)


def _answer(body: bytes) -> Answer | None:
    try:
        return Answer.model_validate_json(body)
    except ValidationError:
        return None


def concludes(verdict: Verdict) -> bool:
    """Whether the report with the outcome need not be sent again."""
    return verdict.sense in (Sense.TAKEN, Sense.GONE, Sense.REFUSED)


class Pace:
    """When the next report goes. Times are a monotonic clock's."""

    def __init__(self) -> None:
        self._interval = INTERVAL_SECONDS
        self._next = 0.0
        self._failures = 0
        self._urgent = False
        #: Whether the operator takes reports, as far as is known; before the first one it is given the benefit.
        self.healthy = True

    def urge(self) -> None:
        """There is something that should not wait for the interval. It does wait for an operator that is away."""
        self._urgent = True

    def restart(self) -> None:
        """What comes now is too important for a backoff that began earlier."""
        self._next, self._failures = 0.0, 0

    def seconds(self, now: float) -> float:
        """Until the next report."""
        return 0.0 if self._urgent and self.healthy else max(0.0, self._next - now)

    def sent(self) -> None:
        """A report goes now, with all that is known."""
        self._urgent = False

    def heard(self, verdict: Verdict, now: float, last: bool) -> None:
        """The reply to it. `last` says that it carried the outcome: then whatever was not taken is tried again."""
        self.healthy = verdict.sense is Sense.TAKEN
        if self.healthy:
            self._failures, self._interval = 0, verdict.interval or self._interval
        if verdict.sense is Sense.LATER or (last and not self.healthy):
            self._failures += 1
            backoff = min(_FIRST_BACKOFF * 2 ** min(self._failures - 1, 10), _LONGEST_BACKOFF)
            asked = verdict.retry_after
            self._next = now + (backoff if asked is None else min(max(asked, _FIRST_BACKOFF), _LONGEST_RETRY_AFTER))
        else:
            self._failures = 0
            self._next = now + self._interval


def destination(environ: Mapping[str, str]) -> tuple[str, Path]:
    """Where to report, and the folder with the token and the authorities. Raises ValueError for an address that
    the token must not go to."""
    url = environ[names.ENV_REPORT_URL]
    parts = urlsplit(url)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname))):
        raise ValueError(f"{names.ENV_REPORT_URL} must be an https address")
    return url, Path(environ.get(ENV_REPORT_DIR, names.REPORT_DIR))


def _loopback(host: str) -> bool:
    """`localhost`, or an address of loopback. A name could lead anywhere."""
    if host == "localhost":
        return True
    return bool(re.fullmatch(r"[0-9a-fA-F.:]+", host)) and _is_loopback_address(host)


def _is_loopback_address(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

"""W3C trace context: the header `traceparent`, as a run's annotation and the runner's environment carry it."""

import re
from dataclasses import dataclass

#: Later versions may add parts behind these four; version ff is none, and neither id may be all zeros.
_FORMAT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.{0,200})?"
)
_SAMPLED = 0x01


@dataclass(frozen=True)
class Traceparent:
    """The span that a run is a part of."""

    trace_id: int
    span_id: int
    sampled: bool


def parse(text: str) -> Traceparent | None:
    """None when it is not valid: the standard says that it counts as absent then."""
    found = _FORMAT.fullmatch(text)
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return Traceparent(int(found["trace"], 16), int(found["span"], 16), bool(int(found["flags"], 16) & _SAMPLED))

"""What exceptions of provider SDKs carry, read by shape: no SDK is imported. Purely computational."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what caused it, outermost first, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def status_code(error: object) -> int | None:
    """The HTTP status that an SDK's exception carries."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def retry_after_seconds(error: BaseException, now: datetime) -> float | None:
    """The Retry-After of the response, as seconds from now."""
    for link in chain(error):
        headers = getattr(getattr(link, "response", None), "headers", None)
        if not isinstance(headers, Mapping):
            continue
        given = {name: headers.get(name) for name in ("retry-after-ms", "retry-after", "Retry-After")}
        for name, value in given.items():
            if value is not None and (seconds := seconds_until(str(value), now)) is not None:
                return seconds / 1000 if name.endswith("-ms") else seconds
    return None


def seconds_until(value: str, now: datetime) -> float | None:
    """The value of a Retry-After header, as seconds from now."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def said(error: BaseException) -> str:
    """What it says, on one line."""
    return one_line(str(error)) or "no text"


def provider_words(error: BaseException) -> str:
    """The provider's own words, which an SDK wraps into a dump of the response."""
    for link in chain(error):
        body = getattr(link, "body", None)
        inner = body.get("error", body) if isinstance(body, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(inner.get("message"), str):
            return one_line(inner["message"])
    return ""


def cause_words(error: BaseException) -> str:
    """An SDK's "Connection error." hides whether a name, a port or a certificate was wrong."""
    *_, innermost = chain(error)
    texts = [one_line(str(link)).rstrip(".") for link in (error, innermost)]
    return ": ".join(dict.fromkeys(filter(None, texts)))


def one_line(words: str) -> str:
    """Printable characters alone: escapes of a terminal would fill the record with JSON's escapes."""
    return " ".join("".join(char if char.isprintable() else " " for char in words).split())

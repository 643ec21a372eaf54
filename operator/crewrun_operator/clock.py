"""The one place where the operator reads the clock; everything else takes the time as an argument."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)

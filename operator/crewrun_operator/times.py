"""Kubernetes timestamps: RFC 3339 in UTC, whole seconds. Purely computational."""

from datetime import UTC, datetime, timedelta


def stamp(moment: datetime) -> str:
    """The moment as `2026-01-01T00:00:00Z`, cut to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp_up(moment: datetime) -> str:
    """The moment rounded up to the second, for times before which nothing may happen."""
    return stamp(moment if moment.microsecond == 0 else moment + timedelta(seconds=1))


def parse(text: str) -> datetime:
    """The moment that an RFC 3339 text names."""
    return datetime.fromisoformat(text)


def earliest(*moments: datetime | None) -> datetime | None:
    """The first of those that are set."""
    return min((moment for moment in moments if moment is not None), default=None)

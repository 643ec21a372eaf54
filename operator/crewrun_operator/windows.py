"""The windows of a queue's budget, in UTC. Purely computational."""

from datetime import UTC, datetime, timedelta

from crewrun_api.queue import Window


def window_start(window: Window, now: datetime) -> datetime:
    """When the window began in which this moment lies."""
    moment = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    match window:
        case Window.HOUR:
            return moment
        case Window.DAY:
            return moment.replace(hour=0)
        case Window.MONTH:
            return moment.replace(hour=0, day=1)


def window_end(window: Window, now: datetime) -> datetime:
    """When the next one begins."""
    start = window_start(window, now)
    match window:
        case Window.HOUR:
            return start + timedelta(hours=1)
        case Window.DAY:
            return start + timedelta(days=1)
        case Window.MONTH:
            return (start + timedelta(days=32)).replace(day=1)

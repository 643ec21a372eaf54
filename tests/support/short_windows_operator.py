"""An operator for which an hour of a budget's window takes `HOUR_SECONDS` seconds."""

import os
import sys
from datetime import UTC, datetime, timedelta

from crewrun_api.queue import Window
from crewrun_operator import windows

SECONDS = int(os.environ["HOUR_SECONDS"])


def start(window: Window, now: datetime) -> datetime:
    return datetime.fromtimestamp(now.timestamp() // SECONDS * SECONDS, UTC)


def end(window: Window, now: datetime) -> datetime:
    return start(window, now) + timedelta(seconds=SECONDS)


if __name__ == "__main__":
    windows.window_start, windows.window_end = start, end
    from crewrun_operator.__main__ import main  # after that: it takes the names as they are

    sys.exit(main())

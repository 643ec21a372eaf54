"""An operator that is killed (SIGKILL) at one of its writes: `CRASH=before:2` or `CRASH=after:2`.

Writes are counted from 1. After a write means: the API server has done it, and the operator never learns.
"""

import itertools
import os
import signal
import sys
from typing import Any

from crewrun_operator.__main__ import main
from crewrun_operator.api import Api, Document


def die_at(crash: str) -> None:
    """Let the operator of this process be killed at that write."""
    when, _, number = crash.partition(":")
    request, writes = Api._request, itertools.count(1)

    async def request_or_die(self: Api, verb: str, *arguments: Any, **options: Any) -> Document:
        due = verb != "GET" and next(writes) == int(number)
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await request(self, verb, *arguments, **options)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Api._request = request_or_die  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    die_at(os.environ["CRASH"])
    sys.exit(main())

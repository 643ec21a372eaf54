"""An operator that is killed (SIGKILL) at one point of its work: `CRASH=before-job` or `CRASH=after-job`."""

import os
import signal
import sys

from crewrun_operator.__main__ import main
from crewrun_operator.api import Api, Document

CRASH = os.environ["CRASH"]
create = Api.create


async def create_or_die(self: Api, path: str, body: Document) -> Document:
    if not path.endswith("/jobs"):
        return await create(self, path, body)
    if CRASH == "before-job":
        os.kill(os.getpid(), signal.SIGKILL)
    created = await create(self, path, body)
    if CRASH == "after-job":
        os.kill(os.getpid(), signal.SIGKILL)
    return created


Api.create = create_or_die  # type: ignore[method-assign]
sys.exit(main())

"""The operator's lives: a first one that is killed at a given write, and next ones until the test is over.

Each life is a process of its own, forked from a server that has imported everything already, so that a test
of many crashes takes its time in the crashes and not in imports.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.crashing_operator"])


#: What multiprocessing says when a process was killed before its end could be told.
_UNKNOWN = 255


class Lives:
    """Keeps an operator running in one namespace, as a Deployment would."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, crash: str, **settings: str) -> None:
        self._arguments = (str(kubeconfig), namespace, str(log), settings)
        self._first_crash: str | None = crash
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.deaths: list[int] = []

    @property
    def crashed(self) -> bool:
        """Whether the first life reached its crash; any other death is a fault."""
        assert set(self.deaths) <= {-signal.SIGKILL, _UNKNOWN}, f"an operator died by itself: {self.deaths}"
        return bool(self.deaths)

    def __enter__(self) -> "Lives":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        while not self._over.is_set():
            life = self._begin()
            while life.is_alive() and not self._over.is_set():
                life.join(timeout=0.05)
            if not self.deaths:  # what it was to die of may be what the test has just seen
                life.join(timeout=0.5)
            if life.is_alive():
                life.terminate()
                life.join()
            else:
                self.deaths.append(life.exitcode or 0)

    def _begin(self) -> ForkServerProcess:
        crash, self._first_crash = self._first_crash, None
        life = _CONTEXT.Process(target=_operate, args=(*self._arguments, crash), daemon=True)
        life.start()
        return life


def _operate(kubeconfig: str, namespace: str, log: str, settings: dict[str, str], crash: str | None) -> None:
    from tests.support import crashing_operator

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {
        "KUBECONFIG": kubeconfig,
        "CREWRUN_NAMESPACES": f'["{namespace}"]',
        "CREWRUN_RUNNER_IMAGE": "localhost/crewrun-runner:dev",
        "CREWRUN_HTTP_HOST": "127.0.0.1",
        "CREWRUN_HTTP_PORT": "0",
        **settings,
    }
    if crash is not None:
        crashing_operator.die_at(crash)
    sys.exit(crashing_operator.main())

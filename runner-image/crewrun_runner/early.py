"""Imported before anything else: from here on SIGTERM and SIGINT wait until `ending` takes them.

The imports that follow take a quarter of a second, in which a process that is PID 1 would lose the signal.
"""

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)

signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

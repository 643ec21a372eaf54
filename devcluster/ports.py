"""Free ports for a cluster's servers.

Taken from below the range that the kernel hands out to outgoing connections, in blocks. A block
that somebody is about to use has a fresh marker file: several clusters may start at once.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.locks import locked
from devcluster.paths import cache_dir

BLOCK = 16
FIRST, LAST = 20000, 32000
# Seconds in which a starting cluster has surely bound its ports.
RESERVED = 120.0


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Servers set it too: a connection of the last run that lingers does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def take_ports(names: Sequence[str], *, markers: Path | None = None) -> dict[str, int]:
    """A free loopback port for each name."""
    markers = markers or cache_dir() / "ports"
    markers.mkdir(parents=True, exist_ok=True)
    blocks = list(range(FIRST, LAST, BLOCK))
    random.shuffle(blocks)
    with locked(markers / ".lock", waiting_for="choosing ports"):
        for marker in markers.glob("[0-9]*"):
            if time.time() - marker.stat().st_mtime > RESERVED:
                marker.unlink(missing_ok=True)
        for block in blocks:
            marker = markers / str(block)
            if not marker.exists() and all(is_free(port) for port in range(block, block + len(names))):
                marker.touch()
                return {name: block + offset for offset, name in enumerate(names)}
    raise DevClusterError(
        f"no block of {len(names)} free ports on 127.0.0.1 between {FIRST} and {LAST}.",
        hint="stop clusters that nobody needs: python -m devcluster down --name NAME",
    )

"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import itertools
import random
import socket

# Below those that systems give to connections, which could take one before its server does. Each test process goes
# through them from a place of its own, so that no two have the same one in mind.
_PORTS = range(10_000, 32_000)
_next = itertools.count(random.randrange(len(_PORTS)))


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    while True:
        port = _PORTS[next(_next) % len(_PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

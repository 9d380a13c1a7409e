"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below those that systems give to connections, which could take one before its server does, and below 20,000, from
# where on the nodes of Clusters talk among themselves: by ports that are 10,000 above their own.
_PORTS = range(10_000, 20_000)

# Each process that runs tests has ports of its own, or two would find the same one free and then both take it. It
# begins somewhere among them, by no seed of the tests', for whoever runs the tests twice at once.
_MOST_PROCESSES = 16
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_own = _PORTS[_number % _MOST_PROCESSES :: _MOST_PROCESSES]
_next = itertools.count(random.SystemRandom().randrange(len(_own)))


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    while True:
        port = _own[next(_next) % len(_own)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

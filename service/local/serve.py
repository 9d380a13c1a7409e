"""`python -m service.local.serve APPLICATION FD DRAIN_SECONDS`: serves an application on a socket that is bound.

uvicorn's own `--fd` takes every socket for a UNIX one, and asyncio then leaves Nagle's algorithm on: each answer on a
connection that is kept alive waits 40 ms for an acknowledgement. A socket that knows its family does not.
"""

from __future__ import annotations

import socket
import sys

import uvicorn


def main() -> None:
    """Serve until told to stop."""
    application, descriptor, drain_seconds = sys.argv[1:]
    config = uvicorn.Config(
        application,
        factory=True,
        loop="uvloop",
        access_log=False,
        timeout_graceful_shutdown=int(drain_seconds),
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()

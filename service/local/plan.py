"""What a local run is to start, read from the environment before anything starts."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_REPLICAS = 3
MAX_REPLICAS = 64
MAX_PORT = 65535


class LocalRunError(Exception):
    """The local run cannot start or go on; the message is one line for the person at the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start and where its data is.

    Attributes:
        directory: Where data, logs and secrets stay between runs.
        port: The port that the API replicas share; 0 takes free ports for everything, so that runs fit side by side.
        replicas: How many API processes share the port.
        redis_url: A Redis that is there already; None starts one.
        database_url: A PostgreSQL that is there already; None starts one.
    """

    directory: Path
    port: int
    replicas: int
    redis_url: str | None
    database_url: str | None


def read_plan(environment: Mapping[str, str]) -> Plan:
    """Read the plan from the environment.

    Raises:
        LocalRunError: A variable makes no sense.
    """
    return Plan(
        directory=local_directory(environment),
        port=_integer(environment, "PORT", DEFAULT_PORT, range(MAX_PORT + 1)),
        replicas=_integer(environment, "REPLICAS", DEFAULT_REPLICAS, range(1, MAX_REPLICAS + 1)),
        redis_url=environment.get("REDIS_URL") or None,
        database_url=environment.get("DATABASE_URL") or None,
    )


def local_directory(environment: Mapping[str, str]) -> Path:
    """Return where a local run keeps its data."""
    return Path(environment.get("SWITCHGEAR_LOCAL_DIR") or ".local").resolve()


def _integer(environment: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit()) or int(text) not in allowed:
        raise LocalRunError(f"{name} must be a number from {allowed.start} to {allowed.stop - 1}")
    return int(text)


def refuse_taken_port(port: int) -> None:
    """Make sure that nobody listens on the port.

    Raises:
        LocalRunError: Somebody does.
    """
    # A plain bind: with SO_REUSEPORT, which the replicas use, a second run would share the first one's port in silence.
    if not is_free(port):
        raise LocalRunError(
            f"port {port} is already taken; stop what uses it, or choose another: PORT={port + 1} make run"
        )


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port."""
    with socket.socket() as probe:
        # Connections of a run that ended a moment ago do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def preferred_port(plan: Plan, wanted: int) -> int:
    """Return the wanted port if it is free, and any free one otherwise or if the plan asks for free ports."""
    if plan.port != 0 and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def lock_directory(directory: Path) -> TextIOWrapper:
    """Claim the data directory for as long as the returned file is open.

    Raises:
        LocalRunError: Another run uses it.
    """
    # As root PostgreSQL runs as another user, who must be able to walk through to its data; secrets have own modes.
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    lock = (directory / "lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LocalRunError(f"another run uses {directory} already; stop it first") from None
    return lock

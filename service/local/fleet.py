"""The processes of this project: the migrations, the provider sandbox and the API replicas that share one port."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from service.local.children import Child
from service.local.plan import LOOPBACK

PROJECT = Path(__file__).resolve().parents[2]
_ASK_TIMEOUT_SECONDS = 1.0
# A replica lets its requests finish this long: as long as one attempt at a provider that does not answer.
_API_DRAIN_SECONDS = 4
_SANDBOX_DRAIN_SECONDS = 1
# Plain HTTP is asked again and again while all replicas start, and to load the system's certificates for each question
# takes several times as long as to ask.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def migrations(logs: Path, environment: Mapping[str, str]) -> Child:
    """Describe the process that brings the database up to date and ends."""
    return Child(
        name="migrations",
        command=[sys.executable, "-m", "alembic", "-c", str(PROJECT / "pyproject.toml"), "upgrade", "head"],
        log=logs / "migrations.log",
        environment=environment,
        is_ready=lambda: False,  # it is ready when it has ended well
        once=True,
    )


def sandbox(logs: Path, environment: Mapping[str, str], port: int) -> Child:
    """Describe the provider sandbox."""
    (listener,) = _listeners(port, 1)
    return Child(
        name="sandbox",
        command=_serve("service.sandbox.app:create_app", listener, _SANDBOX_DRAIN_SECONDS),
        log=logs / "sandbox.log",
        environment=environment,
        sockets=(listener,),
        is_ready=lambda: _answering_replica(f"http://{LOOPBACK}:{port}/_sandbox") is not None,
    )


def replicas(logs: Path, environment: Mapping[str, str], port: int, count: int) -> tuple[int, list[Child]]:
    """Describe the API processes, and say which port they share: the given one, or any free one for 0."""
    listeners = _listeners(port, count)
    shared_port: int = listeners[0].getsockname()[1]
    answered: set[str] = set()

    def is_ready(name: str) -> bool:
        # The kernel chooses who answers, so each question tells about some replica; new connections reach them all.
        replica = _answering_replica(f"http://{LOOPBACK}:{shared_port}/readyz")
        answered.update({replica} if replica else ())
        return name in answered

    def replica(number: int, listener: socket.socket) -> Child:
        name = f"api-{number}"
        return Child(
            name=name,
            command=_serve("service.app:create_app", listener, _API_DRAIN_SECONDS),
            log=logs / f"{name}.log",
            environment={**environment, "SWITCHGEAR_REPLICA_ID": name, "PORT": str(shared_port)},
            sockets=(listener,),
            is_ready=lambda: is_ready(name),
        )

    return shared_port, [replica(number, listener) for number, listener in enumerate(listeners, start=1)]


def _listeners(port: int, count: int) -> list[socket.socket]:
    """Bind one socket for each process; the processes themselves listen, so nobody connects before they answer."""
    if sys.platform != "linux":
        # Elsewhere SO_REUSEPORT does not spread the connections, so the processes share one socket.
        return [_bind(port, share_port=False)] * count
    first = _bind(port, share_port=True)
    return [first, *(_bind(first.getsockname()[1], share_port=True) for _ in range(count - 1))]


def _bind(port: int, *, share_port: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((LOOPBACK, port))
    return listener


def _serve(application: str, listener: socket.socket, drain_seconds: int) -> list[str]:
    return [sys.executable, "-m", "service.local.serve", application, str(listener.fileno()), str(drain_seconds)]


def _answering_replica(url: str) -> str | None:
    """Return who answered a healthy 200, and an empty name for a server without replicas; None if nobody did."""
    try:
        # trust_env: somebody's proxy must not be asked for our loopback.
        answer = httpx.get(url, timeout=_ASK_TIMEOUT_SECONDS, trust_env=False, verify=_NO_CERTIFICATES)
    except httpx.TransportError:
        return None
    return answer.headers.get("X-Replica-Id", "") if answer.is_success else None

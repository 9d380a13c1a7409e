"""One deadline for everything that a command makes a connection do."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ResponseError

# What every step gets at least. A thread that was kept from running finds its deadline passed and the answer in the
# socket; without a last look it would take its own pause for an absence of the store.
_LAST_LOOK_SECONDS = 0.02


class _Current(threading.local):
    due = math.inf


_current = _Current()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound what connections do in this thread, until the block ends."""
    # A signal handler may make a call in the middle of another one, whose deadline goes on afterwards.
    due_before, _current.due = _current.due, time.monotonic() + seconds
    try:
        yield
    finally:
        _current.due = due_before


def rest_seconds() -> float:
    """Return how long the next step in this thread may take."""
    return max(_current.due - time.monotonic(), _LAST_LOOK_SECONDS)


def bound(pool: ConnectionPool) -> None:
    """Make every connection of a pool keep to the deadline of the thread that uses it."""
    kind = pool.connection_class
    pool.connection_class = type(f"InTime{kind.__name__}", (_InTime, kind), {})


if TYPE_CHECKING:
    _Connection: TypeAlias = AbstractConnection
else:
    _Connection = object  # Mixed into whatever kind of connection the pool makes.


class _InTime(_Connection):
    """Bounds connecting, authenticating, sending and answering together; a driver's timeouts bound each alone."""

    # How many commands were sent whose answers were not read.
    _unanswered = 0

    @property
    def socket_timeout(self) -> float | None:
        return _shorter(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property  # type: ignore[misc] # set by what is not used here only
    def socket_connect_timeout(self) -> float | None:
        return _shorter(self._socket_connect_timeout)

    def connect(self) -> None:
        # The pool does this before it hands a connection out. The last command may have been interrupted between its
        # two halves, and its answer, should it not have arrived yet, would be taken for that of the next one.
        if self._unanswered and self._sock:
            self.disconnect()
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except BaseException:
            # Interrupted, perhaps before it has said who it is. The driver takes whatever has a socket for connected.
            self.disconnect()
            raise

    def disconnect(self, *args: Any, **options: Any) -> None:
        super().disconnect(*args, **options)  # type: ignore[no-untyped-call]
        self._unanswered = 0

    def can_read(self, timeout: float = 0) -> bool:
        parser: Any = self._parser
        there_is_something = bool(super().can_read(timeout))
        if there_is_something and isinstance(self._sock, ssl.SSLSocket) and not parser._reader.has_data():  # noqa: SLF001
            # With TLS 1.3 a server sends tickets after the handshake. The driver looks whether the socket has anything
            # and takes them for data that nobody asked for; to read is what tells.
            return bool(parser.read_from_socket(timeout=0, raise_on_timeout=False))
        return there_is_something

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the driver's
        socket: Any = self._sock
        self._unanswered = self._unanswered + 1 if socket else 1
        self.update_current_socket_timeout(-1)  # To what is left now; it holds for the answer as well.
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, disconnect_on_error: bool = True, **options: Any) -> Any:
        # One that was interrupted must not give its answer to the next command; the driver's own connection by
        # Sentinels leaves that to chance.
        try:
            answer = super().read_response(*args, disconnect_on_error=disconnect_on_error, **options)
        except ResponseError:
            self._unanswered = max(0, self._unanswered - 1)  # That is an answer as well.
            raise
        # A subscription hears more than it has asked for.
        self._unanswered = max(0, self._unanswered - 1)
        return answer


def _shorter(seconds: float | None) -> float:
    return min(math.inf if seconds is None else seconds, rest_seconds())

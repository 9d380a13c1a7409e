"""One deadline for everything that a command makes a connection do."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.connection import AbstractConnection, ConnectionPool

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

    @property
    def socket_timeout(self) -> float | None:
        return _shorter(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property  # type: ignore[misc] # set by what is not used here only
    def socket_connect_timeout(self) -> float | None:
        return _shorter(self._socket_connect_timeout)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the driver's
        self.update_current_socket_timeout(-1)  # To what is left now; it holds for the answer as well.
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, disconnect_on_error: bool = True, **options: Any) -> Any:
        # One that was interrupted must not give its answer to the next command; the driver's own connection by
        # Sentinels leaves that to chance.
        return super().read_response(*args, disconnect_on_error=disconnect_on_error, **options)


def _shorter(seconds: float | None) -> float:
    return min(math.inf if seconds is None else seconds, rest_seconds())

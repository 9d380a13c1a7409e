"""A connection for messages: the driver opens it, and from then on it is read here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection


class Subscription(asyncio.Protocol):
    """Hands on what the server says within the turn of the event loop in which it arrives.

    The driver opens the connection, since it knows about TLS, Sentinels and credentials, but its way of reading takes a
    second turn and twice the time: each message goes to every replica, and a trip is known to the last of them once all
    have read it.

    Args:
        connection: Open, and nobody else's.
        hear: Called with each confirmation and message: its kind, its channel and what it says.

    Attributes:
        heard: Set whenever anything arrives; whoever waits for a sign of life takes it back first.
    """

    def __init__(self, connection: AbstractConnection, hear: Callable[[list[Any]], None]) -> None:
        self._connection = connection
        self._hear = hear
        # No operator's text may end the subscription by how it is written.
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        self._lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.heard = False
        writer = connection._writer  # noqa: SLF001 - the driver has no other name for what it writes to
        assert writer is not None  # noqa: S101 - it is open
        # Writing needs no waiting: what is sent is a few names, and a sign of life that does not come tells the rest.
        self._transport = writer.transport
        self._transport.set_protocol(self)

    def send(self, *words: str) -> None:
        """Send a command; the answer is heard."""
        # Not by `writelines`: in CPython 3.12, and in 3.13 and 3.14 at first (gh-136234), it makes the event loop wait
        # for a connection that has just ended, and the next one that gets the same number is never read.
        self._transport.write(b"".join(self._connection.pack_command(*words)))

    async def until_lost(self) -> None:
        """Wait until no more will be heard.

        Raises:
            Exception: Why, always.
        """
        raise await self._lost

    def data_received(self, data: bytes) -> None:
        """Hand on each whole reply."""
        self.heard = True
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    self.connection_lost(reply)
                elif isinstance(reply, list):
                    self._hear(reply)
        except Exception as error:  # noqa: BLE001 - from here it would only be logged, and nobody would connect anew
            self.connection_lost(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Wake up whoever waits for the end."""
        if not self._lost.done():
            self._lost.set_result(error or ConnectionError("the server closed the subscription"))

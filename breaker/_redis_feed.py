"""The messages that the scripts publish, on one connection that is known to be alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from breaker import _wire
from breaker._errors import ScriptError, StoreUnavailableError
from breaker._subscription import Subscription
from breaker._topology import Client, Subscriptions
from breaker._types import Mode, View

_log = logging.getLogger("breaker")

_PAUSE_SECONDS = 1.0

# How often a circuit is read again of which a change may go unnoticed.
_REREAD_SECONDS = 10.0

# A replica with thousands of circuits reads them all when it connects; more at a time would only wait for each other.
_READS_AT_ONCE = 8


class RedisFeed:
    """Brings each circuit's views to those who follow it.

    One connection carries the messages of all circuits. It is asked for a sign of life once in a heartbeat; when none
    comes within the store's timeout, or the connection breaks, every follower is told that its view is no longer kept
    fresh. So a view is stale by the time that a message takes, or, when a connection dies silently, by at most the
    heartbeat and the timeout. Where a change may send no message, each circuit is also read every ten seconds.

    Args:
        client: The client whose server publishes.
        snapshot: Reads a circuit.
        recover: Called once in a heartbeat; finds out whether a store that counts as away is back.
        timeout_seconds: How long the server may take to answer.
        heartbeat_seconds: How often it is asked for a sign of life.
    """

    def __init__(
        self,
        client: Client,
        *,
        snapshot: Callable[[str], Awaitable[View | None]],
        recover: Callable[[], Awaitable[None]],
        timeout_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        self._subscriptions = Subscriptions(client)
        self._snapshot = snapshot
        self._recover = recover
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._followers: dict[str, list[Callable[[View | None], None]]] = {}
        self._names: dict[str, str] = {}
        self._newly_followed: set[str] = set()
        self._new = asyncio.Event()
        # Channels whose followers have not heard what is there now, neither by a message nor by a read.
        self._untold: set[str] = set()
        self._in_a_mode: set[str] = set()
        # Channels whose circuits have to be read.
        self._unread: asyncio.Queue[str] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, channel: str, name: str, see: Callable[[View | None], None]) -> None:
        """Tell a follower of every view of a circuit from now on, and of None when they stop arriving.

        Whoever follows already is told what is there now.
        """
        self._names[channel] = name
        followers = self._followers.setdefault(channel, [])
        if see not in followers:
            followers.append(see)
        self._newly_followed.add(channel)
        self._new.set()
        if self._task is None:
            # Not in the context of the call that was the first: its trace has no part in this.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    def reconnect(self) -> None:
        """Give the connection up for a new one: it leads to a server that is not the right one any more."""
        if self._subscription is not None:
            self._subscription.connection_lost(ConnectionError("the server is not the primary any more"))

    async def aclose(self) -> None:
        """Stop, and tell every follower."""
        # In an event loop that has ended it never comes to an end.
        if self._task is not None and self._task.get_loop() is asyncio.get_running_loop():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        # A cancellation that meets the task group while it gives up is lost in CPython 3.11 and 3.12: it is looked for.
        task = asyncio.current_task()
        while task is not None and not task.cancelling():
            try:
                await self._listen()
            except Exception as error:
                # The store's own guard says once that Redis is away; this connection adds nothing to that.
                _log.debug("the views are not kept fresh for now: %s: %s", type(error).__name__, error)
            finally:
                for channel in self._followers:
                    self._tell(channel, None)
            if not task.cancelling():
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        async with asyncio.timeout(self._timeout_seconds):
            connection = await self._subscriptions.open()
        self._unread = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as tasks:
                subscription = self._subscription = Subscription(connection, self._hear)
                self._newly_followed.update(self._followers)
                self._new.set()
                tasks.create_task(self._follow_new(subscription))
                tasks.create_task(self._watch(subscription))
                # By itself: it waits for each part of a store that is away, and nothing else may wait for that.
                tasks.create_task(self._keep_recovering())
                tasks.create_task(self._reread())
                for _ in range(_READS_AT_ONCE):
                    tasks.create_task(self._read())
                await subscription.until_lost()
        finally:
            self._subscription = None
            await connection.disconnect(nowait=True)

    def _hear(self, reply: list[Any]) -> None:
        kind, channel = reply[:2]
        if kind == "subscribe" or (kind == "message" and not self._take(channel, reply[2])):
            self._untold.add(channel)
            self._unread.put_nowait(channel)

    async def _follow_new(self, subscription: Subscription) -> None:
        """Subscribe to what is newly followed; where that is so already, the circuit is only read again."""
        while True:
            await self._new.wait()
            self._new.clear()
            subscription.send("SUBSCRIBE", *self._newly_followed)
            self._newly_followed.clear()

    async def _watch(self, subscription: Subscription) -> None:
        """Make sure that the connection is alive."""
        rest_seconds = max(0.0, self._heartbeat_seconds - self._timeout_seconds)
        while True:
            await asyncio.sleep(rest_seconds)
            subscription.heard = False
            subscription.send("PING")
            await asyncio.sleep(self._timeout_seconds)
            if not subscription.heard:
                raise ConnectionError("the subscription gave no sign of life")

    async def _keep_recovering(self) -> None:
        while True:
            await self._recover()
            await asyncio.sleep(self._heartbeat_seconds)

    async def _read(self) -> None:
        """Read circuits whose messages arrive from now on, unless one has told all there is."""
        loop = asyncio.get_running_loop()
        while True:
            channel = await self._unread.get()
            view = None
            if channel in self._untold:
                # What is wrong with one circuit takes nothing from the others.
                with contextlib.suppress(StoreUnavailableError):
                    view = await self._snapshot(self._names[channel])
            if channel in self._untold:
                if view is None:
                    # Nothing is there yet, and a young Cluster's nodes may lose the message of its creation.
                    loop.call_later(self._heartbeat_seconds, self._unread.put_nowait, channel)
                else:
                    self._untold.discard(channel)
                    self._tell(channel, view)
            self._unread.task_done()

    async def _reread(self) -> None:
        """Bound how old a copy can become where nothing else does.

        A message may be lost between the nodes of a Cluster; and a circuit that was deleted in an operator's mode sends
        none, while calls that the mode lets through or refuses never ask.
        """
        while True:
            await asyncio.sleep(_REREAD_SECONDS)
            for channel in [*self._followers] if self._subscriptions.may_lose else [*self._in_a_mode]:
                self._untold.add(channel)
                try:
                    view = await self._snapshot(self._names[channel])
                except StoreUnavailableError:
                    continue
                # What a message told meanwhile is newer. Otherwise this counts even if it looks older: a failover may
                # have rolled the circuit back, behind a connection that did not break.
                if channel in self._untold:
                    self._untold.discard(channel)
                    self._tell(channel, None)
                    self._tell(channel, view)

    def _take(self, channel: str, message: str) -> bool:
        """Tell of a message; False when it cannot be read, so that the circuit has to be."""
        self._untold.discard(channel)
        try:
            view = _wire.told(message)
        except ScriptError as error:
            _log.debug("a message cannot be read: %s", error)
            self._tell(channel, None)
            return False
        self._tell(channel, view)
        return True

    def _tell(self, channel: str, view: View | None) -> None:
        """Tell every follower; one that knows this view already passes it over."""
        if view is None or view.mode is Mode.AUTO:
            self._in_a_mode.discard(channel)
        else:
            self._in_a_mode.add(channel)
        for see in self._followers[channel]:
            see(view)

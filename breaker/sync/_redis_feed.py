"""The messages that the scripts publish, on one connection that is known to be alive, for threads."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.client import PubSub

from breaker import _wire
from breaker._types import Mode, View
from breaker.sync._in_time import within
from breaker.sync._threads import Worker

_log = logging.getLogger("breaker")

_PAUSE_SECONDS = 1.0
# How often a circuit in an operator's mode is read again: if it was deleted no message says so, and calls that the mode
# lets through or refuses never ask.
_REREAD_SECONDS = 10.0
# How often the thread looks up from the connection; a circuit that is newly followed waits for that, and closing does.
_LOOK_SECONDS = 0.1


class RedisFeed:
    """Brings each circuit's views to those who follow it; what `breaker._redis_feed` does for tasks.

    A connection that was silent for a heartbeat is asked for a sign of life. When none comes within the store's
    timeout, or the connection breaks, every follower is told that its view is no longer kept fresh.

    Args:
        open_subscription: Makes a subscription that connects when it is first used.
        snapshot: Reads a circuit.
        recover: Called at each sign of life, before anything is read; finds out whether a store that counts as away is
            back.
        timeout_seconds: How long the server may take to answer.
        heartbeat_seconds: How long the connection may be silent.
    """

    def __init__(
        self,
        open_subscription: Callable[[], PubSub],
        *,
        snapshot: Callable[[str], View | None],
        recover: Callable[[], None],
        timeout_seconds: float,
        heartbeat_seconds: float,
    ) -> None:
        self._open = open_subscription
        self._snapshot = snapshot
        self._recover = recover
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._look_seconds = min(_LOOK_SECONDS, timeout_seconds, heartbeat_seconds)
        self._lock = threading.RLock()
        self._followers: dict[str, list[Callable[[View | None], None]]] = {}
        self._names: dict[str, str] = {}
        self._newly_followed: set[str] = set()
        # When to read which channel's circuit.
        self._read_at: dict[str, float] = {}
        self._doubted: set[str] = set()
        self._closing = threading.Event()
        self._is_replaced = False
        self._worker = Worker(self._run, "breaker-subscription")

    def follow(self, channel: str, name: str, see: Callable[[View | None], None]) -> None:
        """Tell a follower of every view of a circuit from now on, and of None when they stop arriving."""
        with self._lock:
            self._names[channel] = name
            followers = self._followers.setdefault(channel, [])
            if see not in followers:  # It was interrupted while it asked for this, and asks again.
                followers.append(see)
            self._newly_followed.add(channel)
        self._worker.ensure()

    def reconnect(self) -> None:
        """Open another connection soon: the server at the end of this one was replaced."""
        self._is_replaced = True

    def close(self) -> None:
        """Stop, and tell every follower."""
        self._closing.set()
        self._worker.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except BaseException as error:
                # The store's own guard says once that Redis is away; this connection adds nothing to that.
                _log.debug("the views are not kept fresh for now: %s: %s", type(error).__name__, error)
            finally:
                for channel in list(self._followers):
                    self._tell(channel, None)
            self._closing.wait(_PAUSE_SECONDS)

    def _listen(self) -> None:
        with contextlib.closing(self._open()) as subscription:
            subscribed: set[str] = set()
            self._read_at.clear()
            self._is_replaced = False
            ask_at, asked_at = time.monotonic() + self._heartbeat_seconds, None
            while not (self._closing.is_set() or self._is_replaced):
                self._subscribe(subscription, subscribed)
                self._read_due()
                now = time.monotonic()
                if asked_at is None and now >= ask_at:
                    with within(self._timeout_seconds):
                        subscription.ping()
                    asked_at = now
                due = ask_at if asked_at is None else asked_at + self._timeout_seconds
                # Before the look, so that a thread that was kept from running looks once more before it gives up.
                overdue = asked_at is not None and now >= due
                message = subscription.get_message(timeout=max(0.0, min(self._look_seconds, due - now)))
                if message is not None:
                    ask_at, asked_at = now + self._heartbeat_seconds, None
                    self._take(message)
                    self._recover()
                elif overdue:
                    raise ConnectionError("the subscription gave no sign of life")

    def _subscribe(self, subscription: PubSub, subscribed: set[str]) -> None:
        with self._lock:
            missing = self._followers.keys() - subscribed
            followed_again = self._newly_followed & subscribed
            self._newly_followed.clear()
        subscribed |= missing
        if missing:
            with within(self._timeout_seconds):
                subscription.subscribe(*missing)
        for channel in followed_again:
            self._read_at[channel] = 0.0

    def _take(self, message: dict[str, Any]) -> None:
        channel = _wire.text(message["channel"])
        if message["type"] == "subscribe":
            # Confirmed, so no message is missed from here on. It may be the second time, behind our back, after the
            # driver connected anew: whatever was known before may be older or newer than what is there now.
            self._tell(channel, None)
            self._read_at[channel] = 0.0
        elif message["type"] == "message" and channel in self._names:
            self._tell_of(channel, lambda: _wire.told(_wire.text(message["data"])))

    def _read_due(self) -> None:
        """Read the circuits whose time has come."""
        now = time.monotonic()
        for channel in [channel for channel, at in self._read_at.items() if at <= now]:
            del self._read_at[channel]
            self._tell_of(channel, functools.partial(self._look, channel))

    def _look(self, channel: str) -> View | None:
        """Read a circuit; where what was told before is in doubt, what is there counts although it may look older."""
        view = self._snapshot(self._names[channel])
        if channel in self._doubted:
            self._doubted.discard(channel)
            self._tell(channel, None)
        return view

    def _tell_of(self, channel: str, read: Callable[[], View | None]) -> None:
        """Tell what is read of a circuit; what cannot be read is the matter of that circuit only, and is read later."""
        try:
            view = read()
            self._tell(channel, view)
            if view is not None and view.mode is not Mode.AUTO:
                self._read_at.setdefault(channel, time.monotonic() + _REREAD_SECONDS)
                self._doubted.add(channel)
        except Exception as error:
            _log.debug("%s cannot be read for now: %s: %s", channel, type(error).__name__, error)
            self._tell(channel, None)
            self._read_at[channel] = time.monotonic() + self._heartbeat_seconds

    def _tell(self, channel: str, view: View | None) -> None:
        """Tell every follower; one that knows this view already passes it over."""
        for see in list(self._followers[channel]):
            see(view)

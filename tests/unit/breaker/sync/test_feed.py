"""How long the feed for threads relies on a connection that has died without a word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from breaker import View
from breaker.sync._redis_feed import RedisFeed


class Clock:
    """A clock that only waiting moves."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Silent:
    """A subscription that is confirmed, and never says anything again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: list[dict[str, Any]] = []

    def subscribe(self, channel: str) -> None:
        """Confirm it."""
        self._said.append({"type": "subscribe", "channel": channel, "data": 1})

    def ping(self) -> None:
        """Send what will not be answered."""

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        """Wait for all of the time that is allowed."""
        if self._said:
            return self._said.pop()
        self._clock.seconds += timeout
        return None

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(("heartbeat_seconds", "timeout_seconds"), [(1.0, 0.25), (0.35, 0.15), (0.02, 0.25)])
def test_a_silent_connection_is_relied_on_for_a_heartbeat_and_a_timeout(
    monkeypatch: pytest.MonkeyPatch, heartbeat_seconds: float, timeout_seconds: float
) -> None:
    """However often the thread looks up, it looks in time for what is due."""
    clock = Clock()
    monkeypatch.setattr("breaker.sync._redis_feed.time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr("breaker.sync._redis_feed.Worker", lambda *_: SimpleNamespace(ensure=lambda: None))
    feed = RedisFeed(
        lambda: Silent(clock),  # type: ignore[arg-type, return-value]
        snapshot=lambda _: View(),
        recover=lambda: None,
        timeout_seconds=timeout_seconds,
        heartbeat_seconds=heartbeat_seconds,
    )
    seen: list[View | None] = []
    feed.follow("changes", "c", seen.append)
    began = clock()
    with pytest.raises(ConnectionError, match="no sign of life"):
        feed._listen()
    assert seen[-1] == View()
    assert clock() - began == pytest.approx(heartbeat_seconds + timeout_seconds)

"""What a connection for messages hands on, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection

from breaker import RedisStore, View
from breaker._redis_feed import RedisFeed
from breaker._subscription import Subscription
from tests.support.ports import free_port
from tests.support.replica import until

MESSAGE = b"*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$2\r\n{}\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)


def subscribed(hear: Callable[[list[Any]], None]) -> tuple[Wire, Subscription]:
    """Subscribe over a wire that leads nowhere; commands are spelled by the driver."""
    wire = Wire()
    opened = SimpleNamespace(
        _writer=SimpleNamespace(transport=wire), pack_command=lambda *words: Connection().pack_command(*words)
    )
    return wire, Subscription(cast("AbstractConnection", opened), hear)


async def test_replies_are_handed_on_whole_however_they_arrive() -> None:
    """Several in one piece and one in several pieces, as text."""
    heard: list[Any] = []
    _, subscription = subscribed(heard.append)
    subscription.data_received(MESSAGE * 2 + MESSAGE[:20])
    assert heard == [["message", "channel", "{}"]] * 2
    subscription.data_received(MESSAGE[20:])
    assert len(heard) == 3


async def test_an_answer_that_is_no_list_is_a_sign_of_life_and_nothing_else() -> None:
    """With the newer protocol a PING is answered by a word."""
    heard: list[Any] = []
    wire, subscription = subscribed(heard.append)
    subscription.send("PING")
    assert wire.sent == b"*1\r\n$4\r\nPING\r\n"
    assert not subscription.heard
    subscription.data_received(b"+PONG\r\n")
    assert subscription.heard
    assert heard == []


async def test_what_is_not_text_ends_nothing() -> None:
    """An operator's reason may have been written by anything."""
    heard: list[Any] = []
    _, subscription = subscribed(heard.append)
    subscription.data_received(MESSAGE.replace(b"{}", b"\xff}"))
    assert heard == [["message", "channel", "\ufffd}"]]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"-NOPERM No permissions to access a channel\r\n", "NOPERM"),
        (b"what nobody says\r\n", "Protocol error"),
        (MESSAGE, "a follower failed"),
    ],
)
async def test_what_cannot_be_handed_on_ends_it(data: bytes, error: str) -> None:
    """A refusal, nonsense, or a follower that fails: whoever waits is told why, once."""

    def hear(_: list[Any]) -> None:
        raise RuntimeError("a follower failed")

    _, subscription = subscribed(hear)
    subscription.data_received(data)
    subscription.connection_lost(None)
    with pytest.raises(Exception, match=error):
        await subscription.until_lost()


async def test_a_connection_that_the_server_closes_ends_it() -> None:
    """With the transport's own error where there is one."""
    _, subscription = subscribed(print)
    subscription.connection_lost(None)
    with pytest.raises(ConnectionError, match="closed"):
        await subscription.until_lost()
    _, subscription = subscribed(print)
    subscription.connection_lost(ConnectionResetError("by peer"))
    with pytest.raises(ConnectionResetError):
        await subscription.until_lost()


def test_a_subscription_whose_event_loop_has_ended_is_not_waited_for() -> None:
    """Whoever closes it in another loop finds it closed."""

    async def nothing(*_: str) -> None:
        """Be asked in vain."""

    feed = RedisFeed(Redis(), snapshot=nothing, recover=nothing, timeout_seconds=1, heartbeat_seconds=1)
    with contextlib.closing(asyncio.new_event_loop()) as ended:
        feed._task = ended.create_task(nothing())
        ended.run_until_complete(feed._task)
    asyncio.run(asyncio.wait_for(feed.aclose(), 5))


async def test_what_is_sent_to_a_connection_that_has_just_ended_leaves_nothing_behind() -> None:
    """The event loop would take the next connection of the process, which gets the same number, for this one."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server, asyncio.timeout(10):
        host, port = server.sockets[0].getsockname()
        _, ended = await asyncio.open_connection(host, port)
        opened = SimpleNamespace(_writer=ended, pack_command=lambda *words: Connection().pack_command(*words))
        subscription = Subscription(cast("AbstractConnection", opened), lambda _: None)
        ended.transport.abort()
        subscription.send("PING")
        with pytest.raises(ConnectionError):
            await subscription.until_lost()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"x")
        assert await reader.read() == b"x"
        writer.close()


async def test_who_follows_twice_is_told_once() -> None:
    """As a breaker does that has found the store back; nobody listens at this address, which everybody is told."""
    seen: list[View | None] = []
    store = RedisStore.from_url(f"redis://127.0.0.1:{free_port()}")
    for _ in range(2):
        store.follow("c", seen.append)
    await until(lambda: bool(seen))
    await store.aclose()
    assert seen == [None]

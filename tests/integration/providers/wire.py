"""A provider played by a raw socket server: on the wire it does what its script says, wrong things above all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

Move = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Arrived:
    """One request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: str


@dataclass
class Wire:
    """A running server.

    Attributes:
        url: Where it listens.
        moves: What it does with the first request, the second and so on; the last move is repeated.
        arrived: The requests that arrived.
        heard: Set once a request has arrived.
    """

    url: str
    moves: list[Move]
    arrived: list[Arrived] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, play the next move and close."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
            body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
            self.arrived.append(Arrived(method, target, headers, body))
            self.heard.set()
            await self.moves[min(len(self.arrived), len(self.moves)) - 1](writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away first, as a client may
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def playing(*moves: Move) -> AsyncIterator[Wire]:
    """Run a server that plays these moves, one connection for each."""
    wire = Wire("", list(moves))
    talks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(wire.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


@contextlib.contextmanager
def nobody_listening() -> Iterator[str]:
    """Give a URL whose port refuses connections: bound, so that nobody else takes it meanwhile, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield _url(bound)


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """Give a URL whose port neither accepts nor refuses: its queue of waiting connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield _url(listener)


def answer(status: int, body: object = b"", **headers: str) -> Move:
    """Answer properly; a body that is not bytes is sent as JSON. Underscores in header names become dashes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + content)


def raw(sent: bytes) -> Move:
    """Send these bytes and close."""

    async def move(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    return move


async def hang(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a reset instead of an answer."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, so that no silence is ever long, and never come to an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"

"""A process that is one replica and does what comes down its pipe."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from multiprocessing.connection import Connection
from typing import Any

from tests.conformance.replica import Replica
from tests.support.forkserver import PROCESSES

_PATIENCE_SECONDS = 30.0


async def readable(pipe: Connection[Any, Any]) -> None:
    """Wait until something has come down a pipe, or its other end is gone."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(pipe.fileno())


async def _serve(pipe: Connection[Any, Any]) -> None:
    replica = Replica()
    while True:
        await readable(pipe)
        verb, arguments = pipe.recv()
        try:
            answer = (True, await getattr(replica, verb)(**arguments))
        except Exception:  # noqa: BLE001 - the test that asked has to see it
            answer = (False, traceback.format_exc())
        pipe.send(answer)


def be_a_replica(pipe: Connection[Any, Any]) -> None:
    """Serve until the other end of the pipe is gone; the body of the process."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        asyncio.run(_serve(pipe))


class Worker:
    """The other end: a replica in a process of its own."""

    def __init__(self) -> None:
        self._pipe, theirs = PROCESSES.Pipe()
        self._process = PROCESSES.Process(target=be_a_replica, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """Let the replica do something and return what it answers."""
        self._pipe.send((verb, arguments))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await readable(self._pipe)
        except BaseException:
            self.kill()  # Its answer would be taken for the answer to the next question.
            raise
        worked, answer = self._pipe.recv()
        assert worked, answer
        return answer

    def kill(self) -> None:
        """End the process with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


class Pool:
    """Processes that are kept from test to test, since beginning one takes longer than most tests."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def take(self, count: int) -> list[Worker]:
        """Return so many living workers."""
        self._workers = [worker for worker in self._workers if worker.alive]
        self._workers += [Worker() for _ in range(count - len(self._workers))]
        return self._workers[:count]

    def close(self) -> None:
        """End all of them."""
        for worker in self._workers:
            if worker.alive:
                worker.kill()

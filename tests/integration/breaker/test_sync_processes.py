"""Threads in processes of their own share one circuit of a real server of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any

import pytest

from breaker import BreakerConfig, CallNotPermittedError
from breaker.sync import CircuitBreaker, RedisStore
from tests.support.forkserver import PROCESSES
from tests.support.processes import wait_until
from tests.support.replica import NAME, ProviderDownError

# A lease that is long enough for a busy machine to see that it is kept, and short enough to wait for.
CONFIG = BreakerConfig(cooldown_seconds=0.3, call_timeout_seconds=3, lease_seconds=3.5)
_THREADS = 8


def be_a_replica(pipe: Connection[Any, Any], url: str) -> None:
    """Do what comes down the pipe: `fail`, `all` threads at once, tell whether the copy `refuses`."""

    def fails() -> None:
        raise ProviderDownError

    refused: list[str] = []

    def holds() -> str:
        wait_until(lambda: len(refused) == _THREADS - 1, "every other thread has been refused")
        pipe.send("inside")
        return str(pipe.recv())

    def once(_: int) -> str:
        try:
            return breaker.call(holds)
        except CallNotPermittedError as error:
            refused.append(error.reason)
            return error.reason

    with closing(RedisStore.from_url(url, timeout_seconds=5)) as store, ThreadPoolExecutor(_THREADS) as threads:
        breaker = CircuitBreaker(NAME, store, CONFIG)
        breaker.call(lambda: "charged")
        wait_until(lambda: breaker._circuit.permit is not None, "the copy is fresh")
        pipe.send("ready")
        while (word := pipe.recv()) != "end":
            if word == "fail":
                with pytest.raises(ProviderDownError):
                    breaker.call(fails)
                pipe.send("failed")
            elif word == "refuses":
                pipe.send(breaker._circuit.mirror.refusing_seconds() > 0)
            else:
                refused.clear()
                pipe.send(Counter(threads.map(once, range(_THREADS))))


class Worker:
    """A process that is such a replica."""

    def __init__(self, url: str) -> None:
        self.pipe, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=be_a_replica, args=(theirs, url), daemon=True)
        self.process.start()

    def ask(self, word: str) -> Any:
        self.pipe.send(word)
        return self.heard()

    def heard(self) -> Any:
        assert self.pipe.poll(20), "a replica says nothing"
        return self.pipe.recv()


@pytest.fixture
def fleet(empty_server_url: str) -> Iterator[list[Worker]]:
    """Three replicas that have tripped the circuit together, and know that its cooldown is over."""
    workers = [Worker(empty_server_url) for _ in range(3)]
    assert [worker.heard() for worker in workers] == ["ready"] * 3
    assert [worker.ask("fail") for worker in workers] == ["failed"] * 3
    wait_until(lambda: all(worker.ask("refuses") for worker in workers), "everybody knows of the trip")
    wait_until(lambda: not any(worker.ask("refuses") for worker in workers), "the cooldown is over")
    yield workers
    for worker in workers:
        worker.process.kill()
        worker.process.join()


def test_of_the_threads_of_three_processes_one_probes(fleet: list[Worker]) -> None:
    """Twenty-four threads at the half-open moment: one reaches the dependency, and closes the circuit for all."""
    for worker in fleet:
        worker.pipe.send("all")
    said = [worker.heard() for worker in fleet]
    assert said.count("inside") == 1
    prober = fleet[said.index("inside")]
    prober.pipe.send("charged")
    ends: Counter[str] = sum((each for each in [*said, prober.heard()] if each != "inside"), Counter())
    assert ends == {"charged": 1, "probing": 3 * _THREADS - 1}
    wait_until(lambda: not any(worker.ask("refuses") for worker in fleet), "everybody knows that it has closed")
    assert [worker.ask("fail") for worker in fleet] == ["failed"] * 3, "calls go through again"


def test_a_prober_whose_process_is_killed_is_replaced_after_its_lease(fleet: list[Worker]) -> None:
    """Its threads' place is kept until the lease lapses, then another process probes."""
    first, second, _ = fleet
    assert first.ask("all") == "inside"
    first.process.kill()
    assert second.ask("all") == {"probing": _THREADS}
    wait_until(lambda: not second.ask("refuses"), "the lease has lapsed")
    assert second.ask("all") == "inside"
    second.pipe.send("charged")
    assert second.heard() == {"charged": 1, "probing": _THREADS - 1}

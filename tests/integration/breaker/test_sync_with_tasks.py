"""Threads and tasks on one circuit of a real server of each kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing

import pytest
import pytest_asyncio

from breaker import BreakerConfig, CallNotPermittedError, Consecutive, State
from breaker.sync import CircuitBreaker, RedisStore
from tests.support.processes import wait_until
from tests.support.replica import NAME, ProviderDownError, Replica, replicas, until

CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=0.3)


def works() -> str:
    """Succeed."""
    return "charged"


def fails() -> str:
    """Fail as a sick dependency does."""
    raise ProviderDownError


Start = Callable[[str], Replica]


@pytest_asyncio.fixture
async def start(empty_server_url: str) -> AsyncIterator[Start]:
    """Start a replica of tasks that is closed at the end."""
    async with replicas() as starting:
        yield lambda name: starting(empty_server_url, name, CONFIG)


@pytest.fixture
def threaded(empty_server_url: str) -> Iterator[CircuitBreaker]:
    """A replica of threads."""
    with closing(RedisStore.from_url(empty_server_url, timeout_seconds=5)) as store:
        yield CircuitBreaker(NAME, store, CONFIG, replica_id="worker-1")


async def warm(threaded: CircuitBreaker, *others: Replica) -> None:
    """Use every replica until its copy is fresh."""
    for replica in others:
        await replica.warm()
    await asyncio.to_thread(threaded.call, works)
    await until(lambda: threaded._circuit.permit is not None)


async def test_failures_of_threads_and_of_tasks_add_up(start: Start, threaded: CircuitBreaker) -> None:
    """One here and two there trip the circuit of both."""
    tasks = start("api-1")
    await warm(threaded, tasks)
    with pytest.raises(ProviderDownError):
        await asyncio.to_thread(threaded.call, fails)
    await tasks.fail(2)
    await until(lambda: threaded._circuit.mirror.refusing_seconds() > 0)
    with pytest.raises(CallNotPermittedError) as refused:
        await asyncio.to_thread(threaded.call, works)
    assert refused.value.last_error == "ProviderDownError"


async def test_a_trip_by_threads_reaches_tasks(start: Start, threaded: CircuitBreaker) -> None:
    """And the success of their probe closes the circuit for both."""
    tasks = start("api-1")
    await warm(threaded, tasks)
    for _ in range(3):
        with pytest.raises(ProviderDownError):
            await asyncio.to_thread(threaded.call, fails)
    await until(lambda: tasks.refuses)
    await until(lambda: not tasks.refuses and threaded._circuit.mirror.refusing_seconds() == 0)
    assert await asyncio.to_thread(threaded.call, works) == "charged"
    await until(lambda: tasks.permits)


async def test_one_probe_among_eight_threads_and_three_replicas_of_tasks(
    start: Start, threaded: CircuitBreaker
) -> None:
    """Everybody competes at the end of the cooldown; one call reaches the dependency and closes the circuit for all."""
    others = [start(f"api-{number}") for number in (1, 2, 3)]
    await warm(threaded, *others)
    await others[0].fail(3)
    await until(lambda: all(replica.refuses for replica in others))
    await until(lambda: threaded._circuit.mirror.refusing_seconds() > 0)
    await until(lambda: not any(replica.refuses for replica in others))
    await until(lambda: threaded._circuit.mirror.refusing_seconds() == 0)
    reached: list[str] = []
    go_on = threading.Event()

    def probe_in_thread() -> str:
        """Reach the dependency, and wait."""
        reached.append("thread")
        assert go_on.wait(20)
        return "charged"

    async def probe_in_task() -> str:
        """Reach the dependency, and wait."""
        reached.append("task")
        await asyncio.to_thread(go_on.wait, 20)
        return "charged"

    results: list[object] = []

    def call() -> None:
        """Call in a thread, and note the outcome."""
        try:
            results.append(threaded.call(probe_in_thread))
        except CallNotPermittedError as refused:
            results.append(refused)

    async def call_in_task(replica: Replica) -> None:
        """Call in a task, and note the outcome."""
        try:
            results.append(await replica.breaker.call(probe_in_task))
        except CallNotPermittedError as refused:
            results.append(refused)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    async with asyncio.TaskGroup() as tasks:
        for replica in others:
            tasks.create_task(call_in_task(replica))
        await until(lambda: len(results) == 10)
        go_on.set()
    await asyncio.to_thread(wait_until, lambda: len(results) == 11, "everybody has an answer")
    assert len(reached) == 1
    assert results.count("charged") == 1
    await until(lambda: all(replica.permits for replica in others) and threaded._circuit.permit is not None)
    for thread in threads:
        thread.join(20)


async def test_a_thread_that_hangs_gives_the_probes_place_up_for_a_task(empty_server_url: str, start: Start) -> None:
    """While it still hangs the circuit opens again, and after the cooldown a task is the probe."""
    config = BreakerConfig(policy=Consecutive(3), cooldown_seconds=0.3, call_timeout_seconds=0.2, lease_seconds=60)
    tasks, go_on = start("api-1"), threading.Event()
    with closing(RedisStore.from_url(empty_server_url, timeout_seconds=5)) as store:
        hanging = CircuitBreaker(NAME, store, config, replica_id="worker-1")
        await warm(hanging, tasks)
        await tasks.fail(3)
        await until(lambda: hanging._circuit.mirror.refusing_seconds() > 0)
        await until(lambda: hanging._circuit.mirror.refusing_seconds() == 0)
        probe = asyncio.create_task(asyncio.to_thread(hanging.call, go_on.wait, 30))

        async def seen() -> tuple[State, str]:
            """Read what the fleet knows."""
            view = await tasks.store.snapshot(NAME)
            assert view is not None
            return view.state, view.last_error

        async with asyncio.timeout(20):
            while await seen() != (State.OPEN, "CallTimeoutError"):
                pass
        await until(lambda: tasks.refuses)
        await until(lambda: not tasks.refuses)
        await tasks.warm()
        assert not probe.done()
        go_on.set()
        assert await probe is True
        assert (await seen())[0] is State.CLOSED


async def test_a_probe_that_is_interrupted_leaves_its_place_to_a_task(start: Start, threaded: CircuitBreaker) -> None:
    """Ctrl-C in the middle of the probe decides nothing, and the next probe need not wait for the lease to lapse."""
    tasks = start("api-1")
    await warm(threaded, tasks)
    await tasks.fail(3)
    await until(lambda: threaded._circuit.mirror.refusing_seconds() > 0)
    await until(lambda: threaded._circuit.mirror.refusing_seconds() == 0 and not tasks.refuses)
    states: list[State] = []

    def interrupted() -> None:
        """Note that this is a probe, and press Ctrl-C."""
        states.append(threaded.status.state)
        raise KeyboardInterrupt

    def call() -> None:
        """Call in a thread, which has to keep the interruption to itself."""
        with pytest.raises(KeyboardInterrupt):
            threaded.call(interrupted)

    await asyncio.to_thread(call)
    assert states == [State.HALF_OPEN]
    await until(lambda: not tasks.refuses)
    await tasks.warm()

"""What a forked child does with what its parent made."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    Consecutive,
    Outcome,
    State,
)
from breaker import _fork as fork
from breaker.sync import CircuitBreaker, RedisStore
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import ProviderDownError, TellingStore, fails, in_thread, works


def test_a_forked_child_begins_anew_as_long_as_what_it_knew_lives() -> None:
    """Permit ids and the replica's name are the child's own, and so are the threads; what is gone is not begun."""
    store = TellingStore(ManualClock())
    breaker = CircuitBreaker("stripe", store)
    first_id, timers = breaker._circuit.replica.permit_id(), store.timers
    for _ in range(3 * fork._sweep_at):
        CircuitBreaker("short-lived", store)
    gc.collect()
    CircuitBreaker("short-lived", store)
    gc.collect()
    assert any(made() is None for made, _ in fork._made.values())
    for _ in range(fork._sweep_at):
        CircuitBreaker("short-lived", store)
        assert len(fork._made) <= fork._sweep_at, "what is gone is forgotten when enough others are made"
    fork._begin_anew()
    assert CircuitBreaker("last", store).call(works) == "charged"
    assert breaker._circuit.replica.permit_id().split("-")[0] != first_id.split("-")[0]
    assert store.timers is not timers
    assert breaker.call(works) == "charged"


def in_block(breaker: CircuitBreaker) -> None:
    """Fork in a block."""
    with breaker:
        fork._begin_anew()
        fails()


def in_stream(breaker: CircuitBreaker) -> None:
    """Fork before the first item of a stream."""

    @breaker
    def stream() -> Iterator[str]:
        """Break off."""
        fork._begin_anew()
        yield fails()

    list(stream())


def in_call(breaker: CircuitBreaker) -> None:
    """Fork in a call."""

    @breaker
    def call() -> None:
        """Fork, and fail."""
        fork._begin_anew()
        fails()

    call()


def between_admission_and_end(breaker: CircuitBreaker) -> None:
    """Fork with a permit in hand, while another thread of the parent has its turn."""
    permit = breaker.admit()
    in_thread(permit._link.turn.lock.acquire).join(20)
    fork._begin_anew()
    permit.settle(Outcome.FAILURE)
    fails()


@pytest.mark.parametrize("way", [in_block, in_stream, in_call, between_admission_and_end])
@pytest.mark.parametrize("is_probe", [True, False])
def test_a_forked_child_settles_nothing_that_its_parent_is_doing(
    way: Callable[[CircuitBreaker], None], *, is_probe: bool
) -> None:
    """The call is still under way in the parent, which says how it ends; here it ends without a report."""
    clock = ManualClock()
    store = TellingStore(clock)
    breaker = CircuitBreaker("stripe", store, BreakerConfig(policy=Consecutive(1)))
    breaker.call(works)
    if is_probe:
        with pytest.raises(ProviderDownError):
            breaker.call(fails)
        clock.advance(31)
        store.lose_messages()
    store.reports.clear()
    with pytest.raises(ProviderDownError):
        way(breaker)
    store.timers.close()
    assert not store.reports
    view = store.snapshot("stripe")
    assert view is not None
    assert (view.state, view.probes_out) == ((State.HALF_OPEN, 1) if is_probe else (State.CLOSED, 0))


_FORKING = """
import os, sys
from breaker.sync import CircuitBreaker, MemoryStore
store = MemoryStore()
breaker = CircuitBreaker("stripe", store)
breaker.call(int)
child = os.fork()
if child == 0:
    assert str(os.getpid()) in breaker._circuit.replica.id
    breaker.call(int)
    store.timers.after(0, lambda: os._exit(7))
    store.timers._worker._thread.join(20)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_child_has_timers_of_its_own() -> None:
    """What runs in the parent's thread runs in the child's."""
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKING], timeout=40, check=False)
    assert child.returncode == 7


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "redis+sentinel://127.0.0.1:26379/primary"])
def test_a_forked_child_has_the_drivers_locks_to_itself(url: str) -> None:
    """Another thread of the parent may have held one, which does not exist in the child and lets nobody in."""
    with closing(RedisStore.from_url(url)) as store:
        pool: Any = store._client.connection_pool
        asking = pool.sentinel_manager.sentinels if "sentinel" in url else []
        pools = [pool, *(sentinel.connection_pool for sentinel in asking)]
        for each in pools:
            in_thread(each._lock.acquire)
        fork._begin_anew()
        assert all(each._lock.acquire(blocking=False) for each in pools)

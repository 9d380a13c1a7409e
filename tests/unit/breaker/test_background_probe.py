"""A probe in the background: no caller is the canary, and one replica at a time finds out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    Mode,
    Override,
    Reason,
    State,
    View,
)
from breaker._circuit import Circuit
from breaker._limits import Limits
from tests.support.replica import ProviderDownError, fails, until, works
from tests.support.telling_store import TellingStore

COOLDOWN_SECONDS = 0.02


class Provider:
    """A dependency that a test heals."""

    def __init__(self) -> None:
        self.is_well = False
        self.probes = 0
        self.held: asyncio.Event | None = None

    async def probe(self) -> str:
        """Find out whether the dependency is back."""
        self.probes += 1
        if self.held is not None:
            await self.held.wait()
        if not self.is_well:
            raise ProviderDownError
        return "well"


@pytest.fixture
def store() -> TellingStore:
    """An empty store, on the clock of the machine: probes wait for real, if only for moments."""
    return TellingStore(time.time)


def breaker_on(store: TellingStore, provider: Provider, **options: Any) -> CircuitBreaker:
    """Make a breaker that trips at the first failure and probes in the background."""
    options = {"policy": Consecutive(1), "cooldown_seconds": COOLDOWN_SECONDS, **options}
    return CircuitBreaker("c", store, BreakerConfig(**options), probe=provider.probe)


async def trip(breaker: CircuitBreaker) -> None:
    """Let a call fail."""
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)


@pytest.mark.parametrize("consistency", Consistency)
async def test_the_background_probe_closes_the_circuit(store: TellingStore, consistency: Consistency) -> None:
    """It is made again and again until the dependency is back; then calls go through."""
    provider = Provider()
    breaker = breaker_on(store, provider, consistency=consistency)
    await trip(breaker)
    await until(lambda: provider.probes >= 2)
    provider.is_well = True
    await until(lambda: breaker.status.state is State.CLOSED)
    assert await breaker.call(works) == "charged"
    probes = provider.probes
    await breaker.aclose()
    assert provider.probes == probes


async def test_no_caller_is_the_probe(store: TellingStore) -> None:
    """While the background probe is out, and before, callers are refused."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider, consistency=Consistency.STRICT)
    await trip(breaker)
    await until(lambda: provider.probes == 1)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.reason is Reason.PROBING
    provider.is_well = True
    provider.held.set()
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_of_many_replicas_one_probes_at_a_time(store: TellingStore) -> None:
    """They compete for the one place; who does not get it waits for the one who did."""
    provider = Provider()
    provider.held = asyncio.Event()
    replicas = [breaker_on(store, provider) for _ in range(5)]
    for replica in replicas:
        await replica.call(works)
    await trip(replicas[0])
    await until(lambda: provider.probes == 1)
    await until(lambda: store.asked.count(True) >= 5)
    assert provider.probes == 1
    provider.is_well = True
    provider.held.set()
    await until(lambda: all(replica.status.state is State.CLOSED for replica in replicas))
    for replica in replicas:
        await replica.aclose()
    assert provider.probes == 1


async def test_closing_a_breaker_ends_its_probe_and_gives_the_place_back(store: TellingStore) -> None:
    """A probe in flight is cancelled, which decides nothing."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider)
    await trip(breaker)
    await until(lambda: provider.probes == 1)
    await breaker.aclose()
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)


async def test_a_probe_waits_for_an_operator(store: TellingStore) -> None:
    """While the circuit is forced open nothing is called; when that ends, the probe goes on."""
    provider = Provider()
    breaker = breaker_on(store, provider)
    await breaker.call(works)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna"))
    await store.control("c", Override(mode=Mode.AUTO, reason="done", actor="anna"))
    await trip(breaker)
    provider.is_well = True
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_a_probe_that_hangs_is_ended_by_the_call_timeout(store: TellingStore) -> None:
    """It counts as a failure, and the next one follows."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider, call_timeout_seconds=0.02)
    await trip(breaker)
    await until(lambda: provider.probes == 2)
    await breaker.aclose()


async def test_a_probe_that_finds_the_place_taken_waits_for_it(store: TellingStore) -> None:
    """Another's lease is out: the background probe comes back when it lapses."""
    provider = Provider()
    provider.is_well = True
    breaker = breaker_on(store, provider, call_timeout_seconds=None, lease_seconds=0.05)
    really_acquire = store.acquire

    async def too_late(name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool) -> Any:
        if may_probe and not provider.probes:
            store.acquire = really_acquire  # type: ignore[method-assign]
            await really_acquire(name, "another's", limits, "another")
        return await really_acquire(name, permit_id, limits, replica_id, may_probe=may_probe)

    await trip(breaker)
    store.acquire = too_late  # type: ignore[method-assign, assignment]
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


@pytest.mark.parametrize("mode", list(Mode))
def test_an_operator_who_lets_calls_through_hurries_no_probe(mode: Mode) -> None:
    """The probe waits for the end of the cooldown, whatever the callers may do meanwhile."""
    circuit = Circuit("c", BreakerConfig(), replica_id="api-1", leaves_probing=True)
    circuit.see(View(state=State.OPEN, generation=1, revision=1, now_ms=1_000, retry_at_ms=21_000, mode=mode))
    assert circuit.probe_wait_seconds() == 20

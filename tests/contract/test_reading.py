from __future__ import annotations

import pytest

from breaker import Mode, Outcome, Store, View
from tests.contract.circuit import NAME, Circuit
from tests.support.stores import ManualClock


async def test_reading_changes_nothing(circuit: Circuit, clock: ManualClock) -> None:
    """However often a circuit is read, also after its cooldown, it stays as it is."""
    await circuit.fail(3)
    clock.advance(60)
    first = await circuit.view()
    assert [await circuit.view() for _ in range(3)] == [first] * 3


async def test_a_new_circuit_is_blank(circuit: Circuit, clock: ManualClock) -> None:
    """Everything that nobody has brought about yet reads as nothing."""
    await circuit.permit()
    text = circuit.limits.text
    assert await circuit.view() == View(
        generation=clock.now_ms, revision=1, config=text, config_at_ms=clock.now_ms, now_ms=clock.now_ms
    )


async def test_reading_an_unknown_circuit_creates_nothing(store: Store) -> None:
    """A name that nobody ever called reads as nothing and is not listed afterwards."""
    assert await store.snapshot(NAME) is None
    assert await store.names() == []


async def test_names_are_listed_once_and_sorted(store: Store, circuit: Circuit) -> None:
    """The registry holds every circuit that was called."""
    for name in ("b", "a", "b"):
        await store.acquire(name, f"p-{name}", circuit.limits, "replica-1")
    assert await store.names() == ["a", "b"]


async def test_two_circuits_share_nothing(store: Store, circuit: Circuit) -> None:
    """A name that begins like another is another circuit."""
    await circuit.fail(3)
    reply = await store.acquire(f"{NAME}2", "p", circuit.limits, "replica-1")
    assert reply.state == "closed"


async def test_revision_counts_every_change(circuit: Circuit) -> None:
    """Two views of one circuit can be put in order."""
    await circuit.permit()
    revisions = [(await circuit.view()).revision]
    await circuit.fail()
    revisions.append((await circuit.view()).revision)
    await circuit.succeed()
    revisions.append((await circuit.view()).revision)
    assert revisions == [1, 2, 3]


async def test_a_view_says_how_long_until_the_next_call(circuit: Circuit, clock: ManualClock) -> None:
    """Open: the rest of the cooldown. Half-open: the rest of the lease. Closed: nothing to wait for."""
    await circuit.permit()
    assert (await circuit.view()).retry_after_seconds == 0
    await circuit.fail(3)
    clock.advance(10)
    assert (await circuit.view()).retry_after_seconds == 20
    clock.advance(20)
    probe = await circuit.permit()
    clock.advance(2)
    assert (await circuit.view()).retry_after_seconds == 3
    await circuit.settle(probe, Outcome.SUCCESS)
    assert (await circuit.view()).retry_after_seconds == 0


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
async def test_where_an_operator_lets_calls_through_there_is_nothing_to_wait_for(
    circuit: Circuit, clock: ManualClock, mode: Mode
) -> None:
    """Whatever the machine beneath would have callers wait for: open with its cooldown, half-open with a probe out."""
    await circuit.fail(3)
    await circuit.set_mode(mode, for_seconds=600)
    assert (await circuit.view()).retry_after_seconds == 0
    await circuit.set_mode(Mode.AUTO)
    clock.advance(30)
    await circuit.permit()
    assert (await circuit.view()).retry_after_seconds == 5
    await circuit.set_mode(mode)
    assert (await circuit.view()).retry_after_seconds == 0


async def test_a_lease_is_shown_until_it_lapses(circuit: Circuit, clock: ManualClock) -> None:
    """One millisecond before the moment a probe is out, at the moment none is."""
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit()
    clock.advance(4.999)
    seen = await circuit.view()
    assert (seen.probes_out, seen.probe_until_ms, seen.retry_after_seconds) == (1, clock.now_ms + 1, 0.001)
    clock.advance(0.001)
    seen = await circuit.view()
    assert (seen.probes_out, seen.probe_until_ms, seen.retry_after_seconds) == (0, 0, 0)

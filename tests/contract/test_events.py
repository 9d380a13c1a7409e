from __future__ import annotations

import pytest

from breaker import LogEntry, MemoryStore, Mode, State, Store
from breaker._record import MAX_EVENTS
from breaker._types import Transition
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS
from tests.support.stores import ManualClock


async def test_a_whole_outage_can_be_read_afterwards(circuit: Circuit, clock: ManualClock) -> None:
    """Every transition and every word of an operator is there in order, with who, why and when."""
    begun = clock.now_ms
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit(by="replica-2")
    clock.advance(5)
    await circuit.fail(by="replica-3")
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10)
    clock.advance(10)
    await circuit.ask(by="replica-2")
    await circuit.wait_out()
    await circuit.succeed(by="replica-2")
    await circuit.adjust(consecutive=2)
    await circuit.set_mode(None)
    auto, opened, halfway, closed = Mode.AUTO, State.OPEN, State.HALF_OPEN, State.CLOSED
    # Generations follow the clock; where two begin in one millisecond, the second is one more.
    assert [
        (entry.kind, entry.state, entry.generation - begun, entry.mode, entry.by, entry.reason, entry.at_ms - begun)
        for entry in await circuit.log()
    ] == [
        ("tripped", opened, 1, auto, "replica-1", "3 consecutive failures", 0),
        ("half_opened", halfway, 30_000, auto, "replica-2", "", 30_000),
        ("reopened", opened, 35_000, auto, "replica-3", "probe failed", 35_000),
        ("mode_changed", opened, 35_000, Mode.FORCED_OPEN, "anna", "because", 35_000),
        ("mode_expired", opened, 35_000, auto, "", "", 45_000),
        ("half_opened", halfway, 65_000, auto, "replica-2", "", 65_000),
        ("closed", closed, 65_001, auto, "replica-2", "probe succeeded", 65_000),
        ("settings_changed", closed, 65_001, auto, "anna", "tuning", 65_000),
        ("reset", closed, 65_002, auto, "anna", "because", 65_000),
    ]


async def test_the_newest_come_first_and_no_more_than_were_asked_for(circuit: Circuit) -> None:
    """Who asks for two gets the last two."""
    await circuit.fail(3)
    await circuit.recover()
    kinds = [entry.kind for entry in await circuit.store.events(NAME, 2)]
    assert kinds == [Transition.CLOSED, Transition.HALF_OPENED]
    assert len(await circuit.store.events(NAME, 3)) == 3
    assert len(await circuit.store.events(NAME, 4)) == 3


async def test_any_limit_is_understood(circuit: Circuit) -> None:
    """One that comes from an operator's client takes no store away, though no server can be asked for it."""
    await circuit.fail(3)
    assert await circuit.store.events(NAME, 0) == []
    assert await circuit.store.events(NAME, -1) == []
    assert len(await circuit.store.events(NAME, 10**20)) == 1
    assert not circuit.store.degraded


async def test_a_circuit_that_nobody_used_has_no_events(store: Store) -> None:
    """Asking for them is no error and creates nothing."""
    assert await store.events(NAME) == []
    assert await store.names() == []


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.AUTO])
async def test_a_mode_is_an_event_when_it_begins_and_when_it_ends(circuit: Circuit, mode: Mode) -> None:
    """Setting a mode and handing the circuit back are both told of, with the mode in force afterwards."""
    await circuit.set_mode(mode)
    await circuit.set_mode(Mode.AUTO)
    assert [(entry.kind, entry.mode) for entry in await circuit.log()] == [
        (Transition.MODE_CHANGED, mode),
        (Transition.MODE_CHANGED, Mode.AUTO),
    ]


async def test_a_mode_that_is_over_ends_once(circuit: Circuit, clock: ManualClock) -> None:
    """The first command after the end tells of it, an operator's as well, and no other does."""
    await circuit.set_mode(Mode.FORCED_CLOSED, for_seconds=10)
    clock.advance(9.999)
    await circuit.ask()
    assert "mode_expired" not in await circuit.happened()
    clock.advance(0.001)
    seen = await circuit.adjust(consecutive=2)
    assert (await circuit.happened())[-2:] == ["mode_expired", "settings_changed"]
    await circuit.ask()
    assert (await circuit.happened()).count("mode_expired") == 1
    assert (seen.mode, seen.mode_actor) == (Mode.AUTO, "")


async def test_calls_that_move_nothing_are_no_events(circuit: Circuit) -> None:
    """Failures below the threshold, successes and refusals stay out of the stream."""
    await circuit.fail(2)
    await circuit.succeed()
    assert await circuit.happened() == []
    await circuit.fail(3)
    await circuit.refusal()
    assert await circuit.happened() == ["tripped"]


@pytest.mark.parametrize("store", ["memory", *KINDS], indirect=True)
async def test_the_stream_is_capped(circuit: Circuit) -> None:
    """An audit trail of a circuit that flaps for hours keeps its newest thousand entries; in Redis a few more."""
    for _ in range(MAX_EVENTS + 150):
        await circuit.set_mode(Mode.AUTO)
    last = await circuit.set_mode(Mode.FORCED_OPEN)
    entries: list[LogEntry] = await circuit.store.events(NAME, 2 * MAX_EVENTS)
    more = 0 if isinstance(circuit.store, MemoryStore) else 100
    assert MAX_EVENTS <= len(entries) <= MAX_EVENTS + more
    assert entries[0].mode is last.mode

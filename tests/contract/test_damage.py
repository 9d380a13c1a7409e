"""What becomes of a circuit of which a part was lost, or that a hand has damaged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from breaker import (
    Consecutive,
    FailureRate,
    Mode,
    Outcome,
    RedisStore,
    ScriptError,
    State,
    Store,
    StoreUnavailableError,
)
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)
_RECORD = f"breaker:{{{NAME}}}"


@pytest.fixture
def client(store: Store) -> Any:
    """What the store talks to its server with; here it is the hand."""
    assert isinstance(store, RedisStore)
    return store._client


async def _redeploy(circuit: Circuit) -> None:
    circuit.configure(cooldown_seconds=9)
    circuit.clock.advance(60)
    await circuit.permit()


@pytest.mark.parametrize("operator", [True, False])
async def test_a_circuit_that_begins_anew_has_counted_nothing(circuit: Circuit, client: Any, operator: bool) -> None:
    """The record alone was evicted: what an earlier life has counted trips no later one, whoever begins it."""
    circuit.configure(policy=FailureRate(minimum_calls=20))
    await circuit.count(19, 19)
    await client.delete(_RECORD)
    if operator:
        await circuit.adjust(cooldown_ms=5)
    assert (await circuit.count(1)).state is State.CLOSED
    assert ((await circuit.view()).calls, (await circuit.view()).failures) == (1, 0)


async def test_a_circuit_that_begins_anew_knows_no_failures_in_a_row(circuit: Circuit, client: Any) -> None:
    """A failure that an earlier life has counted is another one here."""
    permit_id = circuit.new_id()
    for _ in range(2):
        assert (await circuit.tell(permit_id, (await circuit.permit())[1].generation, Outcome.FAILURE)).failures == 1
        await client.delete(_RECORD)


async def test_a_circuit_that_begins_anew_has_no_witnesses(circuit: Circuit, client: Any) -> None:
    """Who saw failures of an earlier life does not make a quorum."""
    circuit.configure(policy=Consecutive(1), minimum_reporters=2)
    await circuit.fail()
    await client.delete(_RECORD)
    assert (await circuit.fail(by="replica-2")).state is State.CLOSED


async def test_a_circuit_that_begins_anew_has_no_probes(circuit: Circuit, client: Any) -> None:
    """A place that was given in an earlier life is none."""
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit()
    await client.delete(_RECORD)
    await circuit.permit()
    assert ((await circuit.view()).state, (await circuit.view()).probes_out) == (State.CLOSED, 0)


_EVENTFUL: dict[str, Callable[[Circuit], Awaitable[object]]] = {
    "a trip": Circuit.fail,
    "another configuration": _redeploy,
    "a mode": lambda circuit: circuit.set_mode(Mode.FORCED_OPEN),
    "settings": lambda circuit: circuit.adjust(cooldown_ms=5),
    "a reset": lambda circuit: circuit.set_mode(None),
}


@pytest.mark.parametrize("what", _EVENTFUL)
async def test_what_cannot_be_noted_does_not_happen(circuit: Circuit, client: Any, what: str) -> None:
    """With something else in the place of the events no change is made by halves: none is written and none is told."""
    await circuit.fail(2)
    await client.set(f"{_RECORD}:events", "no stream")
    before = await client.hgetall(_RECORD)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"{_RECORD}:changes")
        with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
            await _EVENTFUL[what](circuit)
        await client.publish(f"{_RECORD}:changes", "that is all")
        while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
    assert message["data"] == b"that is all"
    assert await client.hgetall(_RECORD) == before


@pytest.mark.parametrize(
    ("action", "duration_ms"),
    [
        ("explode", 0),
        ("", 0),
        ("forced_open", "60000.5"),
        ("forced_open", "-1"),
        ("forced_open", "nan"),
        ("forced_open", "inf"),
        ("forced_open", "soon"),
        ("forced_open", ""),
        ("forced_open", 10 * 365 * 24 * 3_600_000 + 1),
    ],
)
async def test_an_action_that_makes_no_sense_is_refused_by_the_script(
    circuit: Circuit, action: str, duration_ms: str | int
) -> None:
    """Whoever calls the script without the library is told what is wrong, and neither makes nor changes a circuit."""
    store = circuit.store
    assert isinstance(store, RedisStore)
    for _ in range(2):
        before = await store.snapshot(NAME)
        with pytest.raises(ScriptError, match=r"BREAKER there is no action|BREAKER a duration is"):
            await store._run_registered(NAME, store._scripts.control, (action, "because", "anna", duration_ms, ""))
        assert await store.snapshot(NAME) == before
        await circuit.permit()


async def test_the_longest_mode_lasts_ten_years(circuit: Circuit) -> None:
    """The bound itself is allowed, and the record with it."""
    seen = await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10 * 365 * 24 * 3600)
    assert (await circuit.refusal()).mode_rest_ms == seen.mode_until_ms - circuit.clock.now_ms


async def test_the_longest_times_are_carried_out(circuit: Circuit) -> None:
    """Every time of a configuration at its upper bound, from the first call to the close."""
    ten_years = 10 * 365 * 24 * 3600
    circuit.configure(
        policy=FailureRate(window_seconds=ten_years, minimum_calls=1),
        cooldown_seconds=ten_years / 2,
        max_cooldown_seconds=ten_years,
        stable_after_seconds=ten_years,
        ramp_seconds=ten_years,
        idle_seconds=ten_years,
    )
    assert (await circuit.fail()).state is State.OPEN
    await circuit.recover()
    assert (await circuit.view()).state is State.CLOSED

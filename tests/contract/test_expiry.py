"""What Redis forgets and when; only real servers are asked, and only how long they would still keep it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from breaker import FailureRate, Mode, Outcome, RedisStore, Store
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS
from tests.support.stores import ManualClock

pytestmark = pytest.mark.parametrize("store", KINDS, indirect=True)

_RECORD = f"breaker:{{{NAME}}}"
_IDLE = 600  # seconds
_WEEK = 7 * 24 * 3600
_FOR_EVER = math.inf
_RATE = FailureRate(minimum_calls=10)


class Keeping:
    """How long the server will keep each key of the circuit."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def lifetimes(self) -> dict[str, float]:
        """Return seconds by the end of the key's name, rounded up to tens: the servers' own clock goes on meanwhile."""
        keys = [key.decode() for key in await self._client.keys(f"{_RECORD}*")]
        left = {key.removeprefix(_RECORD): await self._client.pttl(key) for key in keys}
        return {key: _FOR_EVER if ms == -1 else math.ceil(ms / 10_000) * 10 for key, ms in sorted(left.items())}

    async def age(self, left_seconds: float) -> None:
        """Let every key have only so much time left."""
        for key in await self._client.keys(f"{_RECORD}*"):
            await self._client.pexpire(key, round(left_seconds * 1000))

    async def lose_the_names(self) -> None:
        """Lose the set of all names."""
        await self._client.delete("breakers")


@pytest.fixture
def keeping(store: Store, circuit: Circuit) -> Keeping:
    """The keys of a circuit that idles out after ten minutes."""
    circuit.configure(idle_seconds=_IDLE)
    assert isinstance(store, RedisStore)
    return Keeping(store._client)


async def test_a_circuit_is_forgotten_when_nobody_uses_it(circuit: Circuit, keeping: Keeping) -> None:
    """A healthy one is one key, which goes after the idle time."""
    await circuit.permit()
    assert await keeping.lifetimes() == {"": _IDLE}


async def test_what_is_counted_goes_with_the_record(circuit: Circuit, keeping: Keeping) -> None:
    """Failures and who saw them are kept for as long as the record."""
    await circuit.permit()
    await keeping.age(50)
    await circuit.fail()
    assert await keeping.lifetimes() == {"": _IDLE, ":reporters": _IDLE, ":window": _IDLE}


async def test_a_rate_goes_with_the_record(circuit: Circuit, keeping: Keeping) -> None:
    """The first success makes a window, and it is not kept for ever."""
    circuit.configure(idle_seconds=_IDLE, policy=_RATE)
    await circuit.succeed()
    assert await keeping.lifetimes() == {"": _IDLE, ":window": _IDLE}


async def test_reports_keep_a_rate_alive_with_few_writes(circuit: Circuit, keeping: Keeping) -> None:
    """A report renews what has less than half of its time left, and everything when it brings a new key."""
    circuit.configure(idle_seconds=_IDLE, policy=_RATE)
    permit = await circuit.permit()
    await circuit.settle(permit, Outcome.SUCCESS)
    await keeping.age(310)
    await circuit.settle(permit, Outcome.SUCCESS)
    assert set((await keeping.lifetimes()).values()) == {310}
    await keeping.age(299)
    await circuit.settle(permit, Outcome.SUCCESS)
    assert set((await keeping.lifetimes()).values()) == {_IDLE}
    await keeping.age(310)
    await circuit.settle(permit, Outcome.FAILURE)
    assert await keeping.lifetimes() == {"": _IDLE, ":reporters": _IDLE, ":window": _IDLE}
    await keeping.age(310)
    await circuit.settle(permit, Outcome.FAILURE)
    assert set((await keeping.lifetimes()).values()) == {310}


async def test_calls_keep_a_circuit_alive_with_few_writes(circuit: Circuit, keeping: Keeping) -> None:
    """A call renews every key that has less than half of its time left, and otherwise writes nothing."""
    await circuit.fail(3)
    await circuit.recover()
    await circuit.fail()
    await keeping.age(310)
    await circuit.permit()
    assert set((await keeping.lifetimes()).values()) == {310}
    await keeping.age(299)
    await circuit.permit()
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events", ":reporters", ":window"], _IDLE)


async def test_an_open_circuit_outlasts_its_cooldown(circuit: Circuit, keeping: Keeping, clock: ManualClock) -> None:
    """The idle time begins when the cooldown is over, also where that is longer, and refused calls do not cut it."""
    circuit.configure(idle_seconds=_IDLE, max_cooldown_seconds=10_000)
    await circuit.fail(open_for_ms=5_000_000)
    assert await keeping.lifetimes() == {"": 5_000 + _IDLE, ":events": 5_000 + _IDLE}
    clock.advance(1_000)
    await keeping.age(100)
    await circuit.refusal()
    assert await keeping.lifetimes() == {"": 4_000 + _IDLE, ":events": 4_000 + _IDLE}
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=3_000)
    assert set((await keeping.lifetimes()).values()) == {4_000 + _WEEK}


async def test_leases_go_with_the_record(circuit: Circuit, keeping: Keeping) -> None:
    """A probe's place is a key of its own while it is held, and gone when it is settled."""
    await circuit.fail(3)
    await circuit.wait_out()
    await keeping.age(100)
    probe = await circuit.permit()
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events", ":probes"], _IDLE)
    await keeping.age(100)
    await circuit.settle(probe, Outcome.IGNORED)
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events"], _IDLE)
    await circuit.permit()
    await keeping.age(100)
    await circuit.ask()
    assert set((await keeping.lifetimes()).values()) == {_IDLE}


async def test_a_closed_circuit_is_kept_for_the_idle_time(circuit: Circuit, keeping: Keeping) -> None:
    """After an outage the record goes as any other."""
    await circuit.fail(3)
    await circuit.wait_out()
    probe = await circuit.permit()
    await keeping.age(100)
    await circuit.settle(probe, Outcome.SUCCESS)
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events"], _IDLE)


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.AUTO])
async def test_a_mode_without_an_end_is_kept_for_ever(circuit: Circuit, keeping: Keeping, mode: Mode) -> None:
    """No key of the circuit expires while an operator has a say in it, whatever calls come, and afterwards all do."""
    await circuit.fail(2)
    await circuit.set_mode(mode)
    assert set((await keeping.lifetimes()).values()) == {_FOR_EVER}
    permit = await circuit.ask()
    await circuit.tell("more", permit.generation, Outcome.FAILURE)
    await circuit.ask()
    assert set((await keeping.lifetimes()).values()) == {_FOR_EVER}
    await circuit.set_mode(Mode.AUTO)
    assert set((await keeping.lifetimes()).values()) <= {_WEEK, _WEEK + 30}


async def test_a_mode_with_an_end_is_kept_until_then(circuit: Circuit, keeping: Keeping, clock: ManualClock) -> None:
    """Its time comes before the idle time; when it has ended, the next call sets the circuit's own."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=100)
    assert await keeping.lifetimes() == {"": _WEEK + 100, ":events": _WEEK + 100}
    await keeping.age(290)
    clock.advance(40)
    await circuit.refusal()
    assert await keeping.lifetimes() == {"": _IDLE + 60, ":events": _IDLE + 60}
    clock.advance(60)
    await circuit.permit()
    assert await keeping.lifetimes() == {"": _IDLE, ":events": _IDLE}


async def test_a_reset_ends_what_kept_a_circuit(circuit: Circuit, keeping: Keeping) -> None:
    """Without a mode there is nothing to keep."""
    await circuit.set_mode(Mode.FORCED_OPEN)
    await circuit.set_mode(None)
    assert await keeping.lifetimes() == {"": _WEEK, ":events": _WEEK}


async def test_settings_are_kept_for_ever(circuit: Circuit, keeping: Keeping) -> None:
    """Trips, closes, modes and resets do not make what an operator set expire; taking it back does."""
    await circuit.adjust(cooldown_ms=5_000)
    await circuit.fail(3)
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events"], _FOR_EVER)
    await circuit.recover()
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=100)
    await circuit.set_mode(None)
    await circuit.fail()
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events", ":reporters", ":window"], _FOR_EVER)
    await circuit.adjust(cooldown_ms=None)
    assert set((await keeping.lifetimes()).values()) == {_WEEK}


async def test_a_rate_with_settings_is_kept_for_ever(circuit: Circuit, keeping: Keeping) -> None:
    """A window that begins while settings are in force does not expire either."""
    circuit.configure(idle_seconds=_IDLE, policy=_RATE)
    await circuit.adjust(minimum_calls=50)
    await circuit.count(5, 1)
    assert await keeping.lifetimes() == dict.fromkeys(["", ":events", ":reporters", ":window"], _FOR_EVER)


async def test_reading_keeps_nothing_alive(circuit: Circuit, keeping: Keeping) -> None:
    """A dashboard that looks at circuits does not keep them."""
    await circuit.permit()
    await keeping.age(100)
    await circuit.view()
    await circuit.log()
    assert await keeping.lifetimes() == {"": 100}


async def test_a_circuit_that_was_forgotten_begins_anew(circuit: Circuit, keeping: Keeping, store: Store) -> None:
    """After its time the name is as if it had never been called, but listed."""
    await circuit.fail(2)
    await keeping.age(0)
    assert await store.snapshot(NAME) is None
    await circuit.permit()
    seen = await circuit.view()
    assert (seen.failures, seen.revision) == (0, 1)
    assert await store.names() == [NAME]


@pytest.mark.parametrize("begin", ["ask", "set_mode"])
async def test_a_circuit_that_was_lost_is_listed_again(
    circuit: Circuit, keeping: Keeping, store: Store, begin: str
) -> None:
    """Who begins a circuit that the server lost lists its name, which may have been lost with it; others need not."""
    await circuit.permit()
    await keeping.lose_the_names()
    await circuit.permit()
    await circuit.set_mode(Mode.AUTO)
    assert await store.names() == []
    await keeping.age(0)
    await (circuit.ask() if begin == "ask" else circuit.set_mode(Mode.FORCED_OPEN))
    assert await store.names() == [NAME]


@pytest.mark.parametrize("consecutive", [None, 3])
async def test_a_slow_call_that_makes_a_witness_goes_with_the_record(
    circuit: Circuit, keeping: Keeping, consecutive: int | None
) -> None:
    """A key that comes into being by a success is forgotten like every other, whatever counts now."""
    circuit.configure(idle_seconds=_IDLE, policy=_RATE, minimum_reporters=2)
    await circuit.succeed()
    if consecutive:
        await circuit.adjust(consecutive=consecutive)
    await circuit.count(1, slow=1)
    expected = _FOR_EVER if consecutive else _IDLE
    assert (await keeping.lifetimes())[":reporters"] == expected


async def test_a_slow_call_is_a_witness_for_no_longer_than_the_record_lasts(circuit: Circuit, keeping: Keeping) -> None:
    """Where failures in a row are counted a slow call changes nothing else, and its key is forgotten all the same."""
    await circuit.permit()
    await circuit.count(1, slow=1)
    assert (await keeping.lifetimes())[":reporters"] == _IDLE

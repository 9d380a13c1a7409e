from __future__ import annotations

import pytest

from breaker import State
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


async def _cooldown_ms(circuit: Circuit) -> int:
    """Return how long the circuit stays open from when it opened."""
    seen = await circuit.view()
    assert seen.state is State.OPEN
    return seen.retry_at_ms - seen.opened_at_ms


async def _reopen(circuit: Circuit) -> int:
    """Let the next probe fail; return how long the circuit stays open then."""
    await circuit.wait_out()
    await circuit.fail()
    return await _cooldown_ms(circuit)


@pytest.mark.parametrize(
    ("options", "cooldowns_seconds"),
    [
        ({}, [30, 30, 30, 30]),
        ({"cooldown_multiplier": 2}, [30, 60, 120, 240, 480, 600, 600]),
        ({"cooldown_multiplier": 1.5}, [30, 45, 67.5, 101.25]),
        ({"cooldown_multiplier": 2, "max_cooldown_seconds": 60}, [30, 60, 60]),
        ({"cooldown_multiplier": 2, "max_cooldown_seconds": 59.999}, [30, 59.999, 59.999]),
        ({"cooldown_multiplier": 2, "max_cooldown_seconds": 1}, [30, 30, 30]),
        ({"cooldown_multiplier": 1.0001, "max_cooldown_seconds": 30}, [30, 30]),
        ({"cooldown_multiplier": 1, "cooldown_jitter": 1}, [30, 30, 30]),
    ],
)
async def test_the_cooldown_grows_with_each_reopening(
    circuit: Circuit, options: dict[str, float], cooldowns_seconds: list[float]
) -> None:
    """The first is as configured, each further one longer by the multiplier, up to the longest and never shorter."""
    circuit.configure(**options)
    await circuit.fail(3)
    seen = [await _cooldown_ms(circuit)]
    seen += [await _reopen(circuit) for _ in cooldowns_seconds[1:]]
    assert seen == [1000 * seconds for seconds in cooldowns_seconds]
    assert (await circuit.view()).reopens == len(cooldowns_seconds) - 1


async def test_a_fraction_of_a_millisecond_is_dropped(circuit: Circuit) -> None:
    """Moments are whole milliseconds."""
    circuit.configure(cooldown_seconds=0.003, cooldown_multiplier=1.5)
    await circuit.fail(3)
    assert [await _reopen(circuit), await _reopen(circuit)] == [4, 6]


@pytest.mark.parametrize(("multiplier", "last_ms"), [(100, 90_000), (1.01, int(30_000 * 1.01**64))])
async def test_growth_has_an_end_whatever_the_multiplier(circuit: Circuit, multiplier: float, last_ms: int) -> None:
    """Sixty-six reopenings by the largest multiplier are no overflow, and by a small one they end at the 64th."""
    circuit.configure(cooldown_multiplier=multiplier, max_cooldown_seconds=90)
    await circuit.fail(3)
    cooldowns = [await _reopen(circuit) for _ in range(66)]
    assert cooldowns[63:] == [last_ms] * 3
    assert cooldowns[62] == min(90_000, int(30_000 * multiplier**63))


async def test_jitter_makes_only_a_grown_cooldown_longer(circuit: Circuit, clock: ManualClock) -> None:
    """The first cooldown is exact; a grown one is longer by up to the share that was asked for, and not alike."""
    circuit.configure(cooldown_multiplier=2, cooldown_jitter=0.5)
    seen = []
    for _ in range(20):
        await circuit.fail(3)
        assert await _cooldown_ms(circuit) == 30_000
        seen.append(await _reopen(circuit))
        await circuit.set_mode(None)
        clock.advance(0.123)
    assert all(60_000 <= cooldown_ms < 90_000 for cooldown_ms in seen)
    assert len(set(seen)) > 10
    assert max(seen) - min(seen) > 15_000


@pytest.mark.parametrize("later_ms", [0, 1, 999, 1_000, 123_456])
async def test_jitter_is_drawn_from_the_generation(circuit: Circuit, clock: ManualClock, later_ms: int) -> None:
    """Whoever computes the cooldown gets the same one, since the moment of reopening decides."""
    circuit.configure(cooldown_seconds=20, cooldown_multiplier=2, cooldown_jitter=0.5)
    await circuit.fail(3)
    await circuit.wait_out()
    clock.advance(later_ms / 1000)
    await circuit.fail()
    chance = (await circuit.view()).generation % 1_000_003 * 7919 % 1000 / 1000
    assert await _cooldown_ms(circuit) == int(40_000 * (1 + 0.5 * chance))


async def test_jitter_may_exceed_the_longest_cooldown(circuit: Circuit, clock: ManualClock) -> None:
    """Circuits that have all grown to the longest cooldown must not probe in step either."""
    circuit.configure(cooldown_multiplier=10, max_cooldown_seconds=100, cooldown_jitter=0.5)
    await circuit.fail(3)
    seen = set()
    for number in range(10):
        await circuit.wait_out()
        clock.advance(0.123 * number)
        seen.add(await _reopen(circuit))
    assert len(seen) > 5
    assert all(100_000 <= cooldown_ms < 150_000 for cooldown_ms in seen)


@pytest.mark.parametrize(("closed_seconds", "cooldown_ms", "reopens"), [(299.999, 120_000, 2), (300, 30_000, 0)])
async def test_flapping_is_remembered_until_the_circuit_was_closed_for_long(
    circuit: Circuit, clock: ManualClock, closed_seconds: float, cooldown_ms: int, reopens: int
) -> None:
    """A trip soon after the close goes on where the cooldown was; one after `stable_after_seconds` begins anew."""
    circuit.configure(cooldown_multiplier=2)
    await circuit.fail(3)
    await _reopen(circuit)
    await circuit.recover()
    assert ((await circuit.view()).reopens, (await circuit.view()).closed_at_ms) == (1, clock.now_ms)
    clock.advance(closed_seconds)
    await circuit.fail(3)
    assert (await _cooldown_ms(circuit), (await circuit.view()).reopens) == (cooldown_ms, reopens)


async def test_the_first_trip_is_no_flapping(circuit: Circuit) -> None:
    """A circuit that never closed by a probe has nothing to remember."""
    circuit.configure(cooldown_multiplier=2)
    await circuit.fail(3)
    assert (await _cooldown_ms(circuit), (await circuit.view()).reopens) == (30_000, 0)


async def test_flapping_grows_without_a_failed_probe(circuit: Circuit) -> None:
    """A circuit that closes and trips again at once stays open for longer each time."""
    circuit.configure(cooldown_multiplier=2)
    seen = []
    for _ in range(3):
        await circuit.fail(3)
        seen.append(await _cooldown_ms(circuit))
        await circuit.recover()
    assert seen == [30_000, 60_000, 120_000]


async def test_without_a_memory_every_trip_begins_anew(circuit: Circuit) -> None:
    """With `stable_after_seconds` of 0 a close forgets."""
    circuit.configure(cooldown_multiplier=2, stable_after_seconds=0)
    for _ in range(2):
        await circuit.fail(3)
        assert await _cooldown_ms(circuit) == 30_000
        await circuit.recover()


async def test_without_a_memory_a_clock_that_was_set_back_remembers_nothing(
    circuit: Circuit, clock: ManualClock
) -> None:
    """A close that seems to lie in the future is forgotten like any other where nothing is to be remembered."""
    circuit.configure(cooldown_multiplier=2, stable_after_seconds=0)
    await circuit.fail(3)
    await circuit.recover()
    clock.advance(-10)
    await circuit.fail(3)
    assert (await _cooldown_ms(circuit), (await circuit.view()).reopens) == (30_000, 0)


async def test_the_memory_counts_from_the_last_close(circuit: Circuit, clock: ManualClock) -> None:
    """Each close begins the time anew in which a trip counts as flapping."""
    circuit.configure(cooldown_multiplier=2)
    for _ in range(3):
        await circuit.fail(3)
        await circuit.recover()
        clock.advance(299.999)
    await circuit.fail(3)
    assert (await circuit.view()).reopens == 3


async def test_a_reset_forgets_flapping(circuit: Circuit) -> None:
    """An operator who says that all is well means it."""
    circuit.configure(cooldown_multiplier=2)
    await circuit.fail(3)
    await _reopen(circuit)
    await circuit.recover()
    seen = await circuit.set_mode(None)
    assert (seen.reopens, seen.closed_at_ms) == (0, 0)
    await circuit.fail(3)
    assert await _cooldown_ms(circuit) == 30_000

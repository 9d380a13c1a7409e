from __future__ import annotations

import pytest

from breaker import Consecutive, Outcome, State, Store
from breaker._draw import drawn
from breaker._types import Report
from tests.contract.circuit import NAME, Circuit
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


async def test_jitter_makes_every_cooldown_longer(circuit: Circuit, clock: ManualClock) -> None:
    """The first as well as one that has grown: by up to the share that was asked for, and not alike."""
    circuit.configure(cooldown_multiplier=2, cooldown_jitter=0.5)
    first, second = [], []
    for _ in range(20):
        await circuit.fail(3)
        first.append(await _cooldown_ms(circuit))
        second.append(await _reopen(circuit))
        await circuit.set_mode(None)
        clock.advance(0.123)
    for seen, cooldown_ms in ((first, 30_000), (second, 60_000)):
        assert all(cooldown_ms <= each < 1.5 * cooldown_ms for each in seen)
        assert len(set(seen)) > 10
        assert max(seen) - min(seen) > cooldown_ms / 4


async def test_jitter_needs_no_growth(circuit: Circuit, clock: ManualClock) -> None:
    """With cooldowns that do not grow, the default, each is longer by a part of its own."""
    circuit.configure(cooldown_jitter=1)
    await circuit.fail(3)
    seen = {await _cooldown_ms(circuit)}
    for _ in range(9):
        clock.advance(0.123)
        seen.add(await _reopen(circuit))
    assert len(seen) > 5
    assert all(30_000 <= cooldown_ms < 60_000 for cooldown_ms in seen)


@pytest.mark.parametrize("later_ms", [0, 1, 999, 1_000, 123_456])
async def test_jitter_is_drawn_from_the_name_and_the_generation(
    circuit: Circuit, clock: ManualClock, later_ms: int
) -> None:
    """Whoever computes the cooldown gets the same one, since the circuit and the moment of opening decide."""
    circuit.configure(cooldown_seconds=20, cooldown_multiplier=2, cooldown_jitter=0.5)
    await circuit.fail(3)
    await circuit.wait_out()
    clock.advance(later_ms / 1000)
    await circuit.fail()
    chance = drawn(f"{NAME} {(await circuit.view()).generation}") / 1000
    assert await _cooldown_ms(circuit) == int(40_000 * (1 + 0.5 * chance))


async def test_circuits_that_trip_together_do_not_probe_in_step(store: Store, circuit: Circuit) -> None:
    """A hundred circuits that open in one millisecond, as when a network breaks, come back one by one."""
    circuit.configure(policy=Consecutive(1), cooldown_jitter=0.5)
    seen = []
    for number in range(100):
        name = f"shop:{number}"
        permit = await store.acquire(name, "p", circuit.limits, "replica-1")
        told = Report(permit_id="p", generation=permit.generation, outcome=Outcome.FAILURE)
        await store.record(name, told, circuit.limits)
        view = await store.snapshot(name)
        assert view is not None
        seen.append(view.retry_at_ms - view.opened_at_ms)
    assert all(30_000 <= cooldown_ms < 45_000 for cooldown_ms in seen)
    assert len(set(seen)) > 80
    assert max(seen) - min(seen) > 12_000


async def test_a_time_that_the_dependency_gave_has_no_jitter(circuit: Circuit) -> None:
    """Who is told when to come back comes back then."""
    circuit.configure(cooldown_jitter=1)
    await circuit.fail(open_for_ms=7_000)
    assert await _cooldown_ms(circuit) == 7_000


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


@pytest.mark.parametrize(("stable_seconds", "cooldown_ms", "reopens"), [(0, 30_000, 0), (0.001, 60_000, 1)])
async def test_a_close_that_seems_to_lie_in_the_future_is_one_of_just_now(
    circuit: Circuit, clock: ManualClock, stable_seconds: float, cooldown_ms: int, reopens: int
) -> None:
    """When the clock was set back the shortest memory remembers the close, and no memory forgets it."""
    circuit.configure(cooldown_multiplier=2, stable_after_seconds=stable_seconds)
    await circuit.fail(3)
    await circuit.recover()
    clock.advance(-10)
    await circuit.fail(3)
    assert (await _cooldown_ms(circuit), (await circuit.view()).reopens) == (cooldown_ms, reopens)


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

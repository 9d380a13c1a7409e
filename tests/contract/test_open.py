from __future__ import annotations

from datetime import datetime

import pytest

from breaker import Consecutive, Outcome, State
from breaker._types import Permitted, Transition
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


async def test_an_open_circuit_refuses_and_says_when_to_come_back(circuit: Circuit, clock: ManualClock) -> None:
    """The rest of the cooldown is what a refused caller is told, with the error that led there."""
    await circuit.fail(3)
    clock.advance(12)
    refused = await circuit.refusal()
    assert (refused.reason, refused.retry_after_ms, refused.last_error) == ("open", 18_000, "ReadTimeout")


async def test_late_results_of_the_closed_era_change_nothing(circuit: Circuit) -> None:
    """A success or a failure of a call from before the trip neither closes the circuit nor prolongs its cooldown."""
    early, later = await circuit.permit(), await circuit.permit()
    await circuit.fail(3)
    before = await circuit.view()
    assert not (await circuit.settle(early, Outcome.SUCCESS)).applied
    assert not (await circuit.settle(later, Outcome.FAILURE)).applied
    assert await circuit.view() == before


async def test_the_cooldown_ends_at_its_millisecond(circuit: Circuit, clock: ManualClock) -> None:
    """One millisecond before the moment is refused, the moment itself is not."""
    await circuit.fail(3)
    clock.advance(29.999)
    assert (await circuit.refusal()).retry_after_ms == 1
    clock.advance(0.001)
    _, permit = await circuit.permit()
    assert (permit.state, permit.transition) == (State.HALF_OPEN, Transition.HALF_OPENED)


async def test_a_refusal_changes_nothing(circuit: Circuit) -> None:
    """Asking an open circuit writes nothing, however often."""
    await circuit.fail(3)
    before = await circuit.view()
    for _ in range(5):
        await circuit.refusal()
    assert await circuit.view() == before


async def test_every_transition_has_a_generation_of_its_own(circuit: Circuit, clock: ManualClock) -> None:
    """Closed, open, half-open and closed again: four generations, each above the one before."""
    generations = [(await circuit.permit())[1].generation]
    generations.append((await circuit.fail(3)).generation)
    clock.advance(30)
    probe = await circuit.permit()
    generations.append(probe[1].generation)
    generations.append((await circuit.settle(probe, Outcome.SUCCESS)).generation)
    assert generations == sorted(set(generations))
    assert isinstance(await circuit.ask(), Permitted)


@pytest.mark.parametrize(
    "moment",
    [
        "1970-01-01T00:00:00.001Z",
        "1970-12-31T23:59:59.999Z",
        "1999-12-31T00:00:00.000Z",
        "2000-01-01T09:08:07.006Z",
        "2000-02-28T10:00:00.000Z",
        "2000-02-29T23:59:00.000Z",
        "2000-03-01T00:00:59.000Z",
        "2026-02-28T01:59:59.099Z",
        "2026-03-01T12:34:56.789Z",
        "2026-03-31T00:00:00.000Z",
        "2026-04-30T00:01:00.000Z",
        "2026-05-31T00:00:00.000Z",
        "2026-06-30T00:00:01.000Z",
        "2026-07-01T00:00:00.000Z",
        "2026-07-31T00:00:00.000Z",
        "2026-08-31T00:00:00.010Z",
        "2026-09-30T00:00:00.100Z",
        "2026-10-31T20:00:00.000Z",
        "2026-11-30T19:19:19.191Z",
        "2026-12-01T00:00:00.000Z",
        "2028-02-29T06:07:08.009Z",
        "2099-12-31T23:59:59.999Z",
        "2100-02-28T00:00:00.000Z",
        "2100-03-01T00:00:00.000Z",
        "2400-02-29T00:00:00.000Z",
        "2400-03-01T00:00:00.000Z",
    ],
)
async def test_the_moment_of_opening_is_also_told_as_text(circuit: Circuit, clock: ManualClock, moment: str) -> None:
    """Who reads the record need not reckon with milliseconds: the date is right on every kind of day."""
    clock.advance(datetime.fromisoformat(moment).timestamp() - clock.seconds)
    circuit.configure(policy=Consecutive(1))
    await circuit.fail()
    seen = await circuit.view()
    assert (seen.opened_at, seen.opened_at_ms) == (moment, clock.now_ms)

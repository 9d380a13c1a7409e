from __future__ import annotations

from breaker import Outcome, State
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

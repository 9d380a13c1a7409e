from __future__ import annotations

import pytest
import pytest_asyncio

from breaker import FailureRate, Mode, Outcome, State
from breaker._draw import drawn
from breaker._types import Permitted, Refused, Reporting
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


@pytest_asyncio.fixture
async def ramping(circuit: Circuit) -> Circuit:
    """A circuit that has just closed and takes a hundred seconds to let all of the traffic back."""
    circuit.configure(ramp_seconds=100)
    await circuit.fail(3)
    await circuit.recover()
    return circuit


async def _let_through(circuit: Circuit, permit_ids: list[str]) -> set[str]:
    """Return whose permits are let through."""
    return {each for each in permit_ids if isinstance(await circuit.ask(each), Permitted)}


def _with_draw(number: int) -> str:
    """Find a permit id that draws a number below 1000."""
    return next(f"call-{each}" for each in range(10**5) if drawn(f"call-{each}") == number)


@pytest.mark.parametrize(("after_seconds", "share"), [(0, 0.1), (30, 0.3), (75, 0.75)])
async def test_a_ramp_lets_a_growing_share_through(
    ramping: Circuit, clock: ManualClock, after_seconds: float, share: float
) -> None:
    """At least a tenth of the calls at once, then as much of them as of the time has passed."""
    clock.advance(after_seconds)
    permit_ids = [f"a{number:x}-{number * 7919}" for number in range(200)]
    permitted = len(await _let_through(ramping, permit_ids)) / len(permit_ids)
    assert abs(permitted - share) <= 0.04


@pytest.mark.parametrize(
    ("after_seconds", "first_refused"), [(0, 100), (10, 100), (10.1, 101), (50, 500), (50.001, 501), (99.9, 999)]
)
async def test_the_share_is_exact(
    ramping: Circuit, clock: ManualClock, after_seconds: float, first_refused: int
) -> None:
    """Each permit draws one of a thousand numbers, and those below the share go through."""
    clock.advance(after_seconds)
    await ramping.permit(_with_draw(first_refused - 1))
    await ramping.permit(_with_draw(0))
    await ramping.refusal(_with_draw(first_refused))
    await ramping.refusal(_with_draw(999))


@pytest.mark.parametrize(
    ("permit_id", "number"),
    [("", 0), ("p", 928), ("2f1c8e1e-7d3b-4c53-a1cb-0d6a2f1d9a77", 418), ("réplique-3", 604), ("x" * 300, 290)],
)
async def test_a_permit_draws_the_same_number_everywhere(
    ramping: Circuit, clock: ManualClock, permit_id: str, number: int
) -> None:
    """Whatever an id is made of, every version draws the same, so that a rolling deploy lets the same calls through."""
    clock.advance(number / 10)
    if number >= 100:
        await ramping.refusal(permit_id)
    clock.advance(0.1)
    await ramping.permit(permit_id)


async def test_a_permit_that_was_let_through_is_let_through_again(ramping: Circuit, clock: ManualClock) -> None:
    """Asking again with one permit gets the same answer, and later nobody is refused who was not before."""
    permit_ids = [f"call-{number}" for number in range(200)]
    first = await _let_through(ramping, permit_ids)
    assert await _let_through(ramping, permit_ids) == first
    clock.advance(40)
    later = await _let_through(ramping, permit_ids)
    assert first < later


async def test_who_is_held_back_learns_when_the_ramp_ends(ramping: Circuit, clock: ManualClock) -> None:
    """The rest of the ramp is what a refused caller is told, down to its last millisecond."""
    refused = await ramping.refusal(_with_draw(999))
    assert (refused.state, refused.mode) == (State.CLOSED, Mode.AUTO)
    assert (refused.reason, refused.retry_after_ms, refused.last_error) == ("ramping", 100_000, "ReadTimeout")
    clock.advance(60)
    assert (await ramping.refusal(_with_draw(999))).retry_after_ms == 40_000
    clock.advance(40)
    await ramping.permit(_with_draw(999))


@pytest.mark.parametrize("ramp_seconds", [0.01, 0.001])
async def test_a_short_ramp_ends_for_everybody(circuit: Circuit, clock: ManualClock, ramp_seconds: float) -> None:
    """However short it was, it holds back to its last millisecond, and when it is over it holds nobody back."""
    circuit.configure(ramp_seconds=ramp_seconds)
    await circuit.fail(3)
    await circuit.recover()
    clock.advance(ramp_seconds - 0.001)
    assert (await circuit.refusal(_with_draw(999))).retry_after_ms == 1
    clock.advance(0.001)
    await circuit.permit(_with_draw(999))


async def test_a_refusal_of_the_ramp_changes_nothing(ramping: Circuit) -> None:
    """Holding calls back writes nothing."""
    before = await ramping.view()
    await ramping.refusal(_with_draw(999))
    assert await ramping.view() == before


async def test_calls_of_the_ramp_count(ramping: Circuit) -> None:
    """What is let through is guarded as ever: three failures trip, and the generation is the closed one."""
    closed = await ramping.view()
    for _ in range(3):
        permit = await ramping.permit(_with_draw(0))
        assert (permit[1].generation, permit[1].state) == (closed.generation, State.CLOSED)
        recorded = await ramping.tell(ramping.new_id(), permit[1].generation, Outcome.FAILURE)
    assert recorded.state is State.OPEN


async def test_an_open_circuit_does_not_ramp(ramping: Circuit, clock: ManualClock) -> None:
    """After a trip during the ramp it is the cooldown that refuses, and the probe is not held back."""
    generation = (await ramping.view()).generation
    for number in range(3):
        await ramping.tell(f"f{number}", generation, Outcome.FAILURE)
    assert (await ramping.refusal(_with_draw(999))).reason == "open"
    clock.advance(30)
    await ramping.permit(_with_draw(999))


@pytest.mark.parametrize("mode", [Mode.METRICS_ONLY, Mode.FORCED_CLOSED])
async def test_a_mode_that_lets_through_lets_all_through(ramping: Circuit, mode: Mode) -> None:
    """An operator's word is over the ramp; back in auto the ramp goes on."""
    await ramping.set_mode(mode)
    _, permit = await ramping.permit(_with_draw(999))
    assert permit.reporting is (Reporting.FAILURES if mode is Mode.METRICS_ONLY else Reporting.NOTHING)
    await ramping.set_mode(Mode.AUTO)
    assert (await ramping.refusal(_with_draw(999))).reason == "ramping"


async def test_forced_open_is_named_before_the_ramp(ramping: Circuit) -> None:
    """Where both refuse, it is the operator who does."""
    await ramping.set_mode(Mode.FORCED_OPEN)
    assert (await ramping.refusal(_with_draw(999))).reason == "forced_open"


async def test_a_reset_does_not_ramp(ramping: Circuit) -> None:
    """An operator who closes the circuit lets all of the traffic back, also in the middle of a ramp."""
    await ramping.set_mode(None)
    await ramping.permit(_with_draw(999))


async def test_a_circuit_that_never_closed_does_not_ramp(circuit: Circuit) -> None:
    """A new circuit is not one that recovers."""
    circuit.configure(ramp_seconds=100)
    await circuit.permit(_with_draw(999))


async def test_without_a_ramp_all_come_back_at_once(circuit: Circuit) -> None:
    """The default: a good probe opens the road to everybody."""
    await circuit.fail(3)
    await circuit.recover()
    await circuit.permit(_with_draw(999))


@pytest.mark.parametrize("back_seconds", [0.001, 5, 3_600])
async def test_without_a_ramp_a_clock_that_was_set_back_holds_nobody_back(
    circuit: Circuit, clock: ManualClock, back_seconds: float
) -> None:
    """A close that seems to lie in the future, as after a failover to a server that is behind, begins no ramp."""
    await circuit.fail(3)
    await circuit.recover()
    clock.advance(-back_seconds)
    await circuit.permit(_with_draw(999))


@pytest.mark.parametrize("back_seconds", [0.1, 5, 3_600])
async def test_a_clock_that_was_set_back_ends_the_ramp(
    ramping: Circuit, clock: ManualClock, back_seconds: float
) -> None:
    """Nobody knows of how much, and a ramp that began anew with each look would never end."""
    clock.advance(-back_seconds)
    await ramping.permit(_with_draw(999))
    clock.advance(back_seconds * 0.9)
    await ramping.permit(_with_draw(998))


async def test_a_ramp_begins_with_each_close(ramping: Circuit, clock: ManualClock) -> None:
    """The ramp counts from the last close."""
    clock.advance(100)
    await ramping.fail(3)
    await ramping.recover()
    reply = await ramping.ask(_with_draw(100))
    assert isinstance(reply, Refused)
    assert reply.retry_after_ms == 100_000


async def test_a_ramp_of_a_rate_wants_to_hear_of_every_call(ramping: Circuit) -> None:
    """What is let through is asked for its outcome as in any closed circuit."""
    ramping.configure(ramp_seconds=100, policy=FailureRate())
    assert (await ramping.permit(_with_draw(0)))[1].reporting is Reporting.COUNTED

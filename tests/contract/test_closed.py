from __future__ import annotations

from breaker import Consecutive, Mode, Outcome, State
from breaker._types import Reporting, Transition
from tests.contract.circuit import NAME, Circuit
from tests.support.stores import ManualClock


async def test_three_consecutive_failures_trip_the_circuit(circuit: Circuit, clock: ManualClock) -> None:
    """The third failure in a row opens the circuit and says why, by whom and until when."""
    assert (await circuit.fail(2)).state is State.CLOSED
    recorded = await circuit.fail()
    assert (recorded.state, recorded.transition) == (State.OPEN, Transition.TRIPPED)
    seen = await circuit.view()
    assert seen.trip_reason == "3 consecutive failures"
    assert (seen.last_error, seen.tripped_by, seen.failures) == ("ReadTimeout", "replica-1", 3)
    assert (seen.opened_at_ms, seen.retry_at_ms) == (clock.now_ms, clock.now_ms + 30_000)
    assert seen.opened_at == "2025-12-17T19:33:20.000Z"


async def test_a_success_in_between_starts_the_count_again(circuit: Circuit) -> None:
    """Two failures, a success and two failures leave the circuit closed."""
    await circuit.fail(2)
    assert (await circuit.succeed()).failures == 0
    assert (await circuit.fail(2)).state is State.CLOSED


async def test_an_ignored_outcome_neither_counts_nor_resets(circuit: Circuit) -> None:
    """A cancelled call between failures changes nothing: the third failure still trips."""
    await circuit.fail(2)
    recorded = await circuit.settle(await circuit.permit(), Outcome.IGNORED)
    assert (recorded.applied, recorded.failures) == (True, 2)
    assert (await circuit.fail()).state is State.OPEN


async def test_a_healthy_circuit_wants_to_hear_of_failures_only(circuit: Circuit) -> None:
    """While nothing is counted, a success is not worth a message; once something is, it is."""
    _, first = await circuit.permit()
    await circuit.fail()
    _, second = await circuit.permit()
    assert (first.reporting, second.reporting) == (Reporting.FAILURES, Reporting.COUNTED)


async def test_a_failure_reported_twice_counts_once(circuit: Circuit) -> None:
    """A report whose answer was lost may be sent again without harm."""
    permit = await circuit.permit()
    await circuit.settle(permit, Outcome.FAILURE)
    before = await circuit.view()
    recorded = await circuit.settle(permit, Outcome.FAILURE)
    assert (recorded.applied, recorded.state, recorded.failures) == (True, State.CLOSED, 1)
    assert await circuit.view() == before


async def test_ids_of_failures_are_kept_no_longer_than_the_run(circuit: Circuit) -> None:
    """A success ends the run and a trip the generation; an id that comes again afterwards is another failure."""
    for _ in range(2):
        generation = (await circuit.permit())[1].generation
        await circuit.tell("same", generation, Outcome.FAILURE)
        await circuit.succeed()
        assert (await circuit.tell("same", generation, Outcome.FAILURE)).failures == 1
        await circuit.fail(2)
        await circuit.recover()


async def test_a_success_of_a_healthy_circuit_changes_nothing(circuit: Circuit) -> None:
    """Where nothing is counted there is nothing to reset, and no revision for it."""
    await circuit.permit()
    before = await circuit.view()
    recorded = await circuit.succeed()
    assert (recorded.applied, recorded.state, recorded.failures) == (True, State.CLOSED, 0)
    assert await circuit.view() == before


async def test_who_leaves_probing_to_others_calls_a_closed_circuit_as_ever(circuit: Circuit) -> None:
    """Only a circuit that is not closed has probes to leave."""
    await circuit.fail()
    circuit.configure(ramp_seconds=10)
    reply = await circuit.ask(may_probe=False)
    assert (reply.state, getattr(reply, "reporting", None)) == (State.CLOSED, Reporting.COUNTED)


async def test_an_earlier_failure_of_a_run_reported_again_counts_once(circuit: Circuit) -> None:
    """Not only the last failure of a run is remembered: any of them may be told again."""
    first = await circuit.permit()
    await circuit.settle(first, Outcome.FAILURE)
    await circuit.fail()
    assert (await circuit.settle(first, Outcome.FAILURE)).failures == 2


async def test_a_report_of_another_generation_is_stale(circuit: Circuit) -> None:
    """A call permitted before a reset reports into nothing."""
    permit = await circuit.permit()
    await circuit.set_mode(None)
    recorded = await circuit.settle(permit, Outcome.FAILURE)
    assert (recorded.applied, recorded.failures) == (False, 0)


async def test_a_report_about_an_unknown_circuit_is_stale(circuit: Circuit) -> None:
    """A record that was lost is not brought back by a straggler."""
    for generation in (5, 0):
        assert not (await circuit.tell("p", generation, Outcome.FAILURE)).applied
    assert await circuit.store.snapshot(NAME) is None


async def test_a_threshold_of_one_trips_at_once(circuit: Circuit) -> None:
    """The smallest policy: one failure opens."""
    circuit.configure(policy=Consecutive(1))
    assert (await circuit.permit())[1].reporting is Reporting.FAILURES
    assert (await circuit.fail()).transition is Transition.TRIPPED


async def test_the_generation_is_never_below_the_clock(circuit: Circuit, clock: ManualClock) -> None:
    """A circuit that begins again after a loss of data cannot repeat a generation."""
    _, permit = await circuit.permit()
    assert (permit.generation, permit.mode) == (clock.now_ms, Mode.AUTO)


async def test_a_lost_answer_of_a_closed_circuit_needs_no_giving_back(circuit: Circuit) -> None:
    """Where no place was taken, giving one back is stale and changes nothing."""
    await circuit.permit("lost")
    assert not (await circuit.tell("lost", 0, Outcome.IGNORED)).applied

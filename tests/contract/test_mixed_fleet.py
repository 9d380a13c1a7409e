"""Replicas whose policies differ share one circuit, as during a rolling deploy: each counts by its own."""

from __future__ import annotations

from typing import Any

import pytest

from breaker import Consecutive, FailureRate, Outcome, State
from breaker._types import Reporting, Transition
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock

RUN: dict[str, Any] = {"policy": Consecutive(5)}


def _rate(**options: Any) -> dict[str, Any]:
    return {"policy": FailureRate(**{"threshold": 0.5, "window_seconds": 60, "minimum_calls": 20, **options})}


async def test_failures_of_a_rate_are_no_failures_in_a_row(circuit: Circuit) -> None:
    """Twelve of a thousand calls are a healthy circuit, and the first failure of a row of five is the first."""
    circuit.configure(**_rate())
    await circuit.count(1000, 12)
    circuit.configure(**RUN)
    assert (await circuit.permit())[1].reporting is Reporting.FAILURES
    recorded = await circuit.fail()
    assert (recorded.state, recorded.failures) == (State.CLOSED, 1)
    assert ((await circuit.view()).run, (await circuit.view()).failures) == (1, 1)
    recorded = await circuit.fail(4)
    assert recorded.transition is Transition.TRIPPED
    assert (await circuit.view()).trip_reason == "5 consecutive failures"


async def test_failures_in_a_row_go_on_beside_the_failures_of_a_rate(circuit: Circuit) -> None:
    """What a rate counts is shown as the last report has it; the row goes on from where it was."""
    circuit.configure(**RUN)
    await circuit.fail(4)
    circuit.configure(**_rate())
    assert (await circuit.count(2, 2)).failures == 2
    assert ((await circuit.view()).run, (await circuit.view()).failures) == (4, 2)
    circuit.configure(**RUN)
    assert (await circuit.permit())[1].reporting is Reporting.COUNTED
    assert (await circuit.fail()).state is State.OPEN


@pytest.mark.parametrize("failures_in_a_row", [0, 1])
async def test_a_success_leaves_the_window_of_a_rate_alone(circuit: Circuit, failures_in_a_row: int) -> None:
    """Where nine of ten calls fail a rate trips, whatever ends a row in between."""
    circuit.configure(**_rate())
    await circuit.count(19, 18)
    circuit.configure(**RUN)
    if failures_in_a_row:
        await circuit.fail(failures_in_a_row)
    await circuit.succeed()
    circuit.configure(**_rate())
    recorded = await circuit.count(1)
    assert recorded.transition is Transition.TRIPPED
    assert (await circuit.view()).trip_reason == "18 of 20 calls failed"


@pytest.mark.parametrize(
    ("calls", "failures", "slow", "run"),
    [(1, 0, 0, 0), (9, 8, 0, 0), (9, 0, 8, 0), (3, 1, 1, 0), (3, 3, 0, 2), (1, 0, 1, 2), (3, 1, 2, 2), (0, 1, 0, 2)],
)
async def test_a_good_call_that_a_rate_counts_ends_a_row(
    circuit: Circuit, calls: int, failures: int, slow: int, run: int
) -> None:
    """In a row means that no call of the fleet was good in between; one that hangs is not known to be."""
    circuit.configure(**RUN)
    await circuit.fail(2)
    before = await circuit.view()
    circuit.configure(**_rate())
    await circuit.count(calls, failures, slow=slow)
    seen = await circuit.view()
    assert (seen.run, seen.failures) == (run, failures)
    assert seen.revision == before.revision + (run == 0)


async def test_a_row_that_a_rate_has_ended_begins_anew(circuit: Circuit) -> None:
    """Nothing of it is left: not its number, and not the ids that were counted in it."""
    circuit.configure(**RUN)
    first = await circuit.permit()
    await circuit.settle(first, Outcome.FAILURE)
    circuit.configure(**_rate())
    await circuit.count(1)
    circuit.configure(**RUN)
    assert (await circuit.settle(first, Outcome.FAILURE)).failures == 1
    assert (await circuit.settle(first, Outcome.FAILURE)).failures == 1


async def test_a_rate_leaves_the_ids_of_a_row_alone(circuit: Circuit) -> None:
    """A failure in a row that is reported again counts once, whatever a rate has counted in between."""
    circuit.configure(**RUN)
    first = await circuit.permit()
    await circuit.settle(first, Outcome.FAILURE)
    circuit.configure(**_rate())
    await circuit.fail()
    circuit.configure(**RUN)
    assert (await circuit.settle(first, Outcome.FAILURE)).failures == 1
    assert (await circuit.view()).run == 1


async def test_an_id_in_a_row_is_never_taken_for_calls_of_a_rate(circuit: Circuit, clock: ManualClock) -> None:
    """Whatever a permit is called, its failure is one in a row and no more."""
    circuit.configure(**RUN)
    began_ms = clock.now_ms - clock.now_ms % 6_000
    await circuit.tell(f"{began_ms}:6000:calls", (await circuit.permit())[1].generation, Outcome.FAILURE)
    circuit.configure(**_rate())
    await circuit.count(2, 1)
    assert ((await circuit.view()).calls, (await circuit.view()).failures) == (2, 1)


async def test_a_rate_that_is_made_a_row_for_a_while_goes_on_afterwards(circuit: Circuit) -> None:
    """An operator's `consecutive` counts from nothing, and taking it back finds the window as it was."""
    circuit.configure(**_rate())
    await circuit.count(19, 18)
    await circuit.adjust(consecutive=3)
    assert (await circuit.fail()).failures == 1
    await circuit.succeed()
    await circuit.adjust(consecutive=None)
    assert (await circuit.count(1)).transition is Transition.TRIPPED


async def test_a_success_of_a_row_leaves_the_witnesses_of_a_rate_alone(circuit: Circuit) -> None:
    """Two replicas saw failures in the window of a rate that asks for two, whatever ends a row in between."""
    circuit.configure(minimum_reporters=2, **_rate(minimum_calls=4))
    await circuit.count(1, 1)
    circuit.configure(minimum_reporters=2, **RUN)
    await circuit.fail()
    await circuit.succeed()
    circuit.configure(minimum_reporters=2, **_rate(minimum_calls=4))
    assert (await circuit.count(3, 3, by="replica-2")).transition is Transition.TRIPPED


@pytest.mark.parametrize("ends", ["trip", "reset"])
async def test_a_new_generation_begins_without_a_row(circuit: Circuit, clock: ManualClock, ends: str) -> None:
    """Who trips and who resets has counted by whatever policy; the row is over."""
    circuit.configure(**RUN)
    await circuit.fail(4)
    circuit.configure(**_rate())
    if ends == "trip":
        await circuit.fail(open_for_ms=1)
        clock.advance(1)
        assert (await circuit.view()).run == 0
        await circuit.recover()
    else:
        await circuit.set_mode(None)
    circuit.configure(**RUN)
    assert (await circuit.permit())[1].reporting is Reporting.FAILURES
    assert (await circuit.fail()).failures == 1


@pytest.mark.parametrize("short_first", [True, False])
async def test_a_short_window_leaves_a_long_one_alone(circuit: Circuit, clock: ManualClock, short_first: bool) -> None:
    """Beside replicas that look back for five seconds, half of a minute's calls trip those that look back for it."""
    short, long = _rate(window_seconds=5, minimum_calls=1000), _rate(minimum_calls=24)
    seen = []
    for _ in range(12):
        for each in (short, long) if short_first else (long, short):
            circuit.configure(**each)
            if State.OPEN not in seen:
                seen.append((await circuit.count(2, 1)).state)
        clock.advance(5)
    assert seen[-1] is State.OPEN
    assert (await circuit.view()).trip_reason == "12 of 24 calls failed"


async def test_every_window_counts_what_all_have_told(circuit: Circuit, clock: ManualClock) -> None:
    """Calls are the circuit's, whoever has told of them: as long as they are in both windows, everybody counts them."""
    clock.advance(-clock.seconds % 60)  # to where buckets of every width begin
    circuit.configure(**_rate(window_seconds=5))
    await circuit.count(4, 1)
    circuit.configure(**_rate(window_seconds=60))
    assert (await circuit.count(3, 1)).failures == 2
    assert (await circuit.view()).calls == 7
    clock.advance(4)
    circuit.configure(**_rate(window_seconds=5))
    assert (await circuit.count(1)).failures == 2
    clock.advance(1)
    assert (await circuit.count(1)).failures == 0
    circuit.configure(**_rate(window_seconds=60))
    assert (await circuit.count(1)).failures == 1


async def test_calls_are_remembered_for_the_window_of_who_told_of_them(circuit: Circuit, clock: ManualClock) -> None:
    """A longer window that comes later finds what is left, and keeps what it is told itself for as long as it looks."""
    circuit.configure(**_rate(window_seconds=5))
    await circuit.count(2, 1)
    circuit.configure(**_rate(window_seconds=60))
    clock.advance(4.999)
    assert (await circuit.count(2, 1)).failures == 2
    clock.advance(0.001)
    assert (await circuit.count(1)).failures == 1
    clock.advance(54.998)
    assert (await circuit.count(1)).failures == 1


async def test_calls_that_are_out_of_every_window_are_no_rate_any_more(circuit: Circuit, clock: ManualClock) -> None:
    """When all replicas count failures in a row again, a success forgets who saw them, as it does without a rate."""
    circuit.configure(minimum_reporters=2, **_rate(window_seconds=5))
    await circuit.count(1, 1, by="replica-2")
    clock.advance(5)
    circuit.configure(minimum_reporters=2, **RUN)
    await circuit.fail()
    await circuit.succeed()
    assert (await circuit.fail(9)).state is State.CLOSED


async def test_a_report_of_no_calls_makes_no_window(circuit: Circuit) -> None:
    """So a row that ends takes its witnesses with it, as where no rate counts."""
    circuit.configure(policy=Consecutive(2), minimum_reporters=2)
    await circuit.fail(by="a")
    circuit.configure(policy=FailureRate(), minimum_reporters=2)
    await circuit.count(0)
    circuit.configure(policy=Consecutive(2), minimum_reporters=2)
    await circuit.succeed()
    assert (await circuit.fail(2, by="b")).state is State.CLOSED

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
import pytest_asyncio

from breaker import FailureRate, MemoryStore, Outcome, State
from breaker._types import Reporting, Transition
from tests.contract.circuit import Circuit
from tests.support.stores import START_SECONDS, ManualClock


def _rate(**options: Any) -> FailureRate:
    """Half of at least four calls in ten seconds, so that a bucket lasts one."""
    return FailureRate(**{"window_seconds": 10.0, "minimum_calls": 4, **options})


@pytest_asyncio.fixture
async def rated(circuit: Circuit) -> Circuit:
    """A circuit that trips at half of at least four calls in ten seconds; it is at the beginning of a bucket."""
    assert START_SECONDS % 1 == 0
    circuit.configure(policy=_rate())
    return circuit


@pytest.mark.parametrize(
    ("threshold", "calls", "failures", "trips"),
    [
        (0.5, 10, 5, True),
        (0.5, 11, 5, False),
        (0.5, 9_999, 4_999, False),
        (1 / 3, 3, 1, True),
        (1 / 3, 4, 1, False),
        (2 / 3, 3, 2, True),
        (2 / 3, 5, 3, False),
        (0.29, 100, 29, True),
        (0.29, 100, 28, False),
        (0.0001, 10_000, 1, True),
        (1.0, 5, 5, True),
        (1.0, 1_000, 999, False),
    ],
)
async def test_a_rate_trips_at_its_threshold_and_not_below(
    circuit: Circuit, threshold: float, calls: int, failures: int, trips: bool
) -> None:
    """The share that was asked for trips, also one that has no finite decimal; one call fewer does not."""
    circuit.configure(policy=FailureRate(threshold=threshold, minimum_calls=1))
    recorded = await circuit.count(calls, failures)
    assert (recorded.state is State.OPEN, recorded.failures) == (trips, failures)


async def test_a_rate_says_why_by_whom_and_until_when(rated: Circuit, clock: ManualClock) -> None:
    """The call that trips leaves the share, the error and its replica behind, and what was counted stays readable."""
    await rated.count(3, 1)
    await rated.fail(by="replica-2", error="ConnectError")
    seen = await rated.view()
    assert (seen.state, seen.trip_reason) == (State.OPEN, "2 of 4 calls failed")
    assert (seen.last_error, seen.tripped_by) == ("ConnectError", "replica-2")
    assert (seen.calls, seen.failures, seen.slow_calls) == (4, 2, 0)
    assert (seen.opened_at_ms, seen.retry_at_ms) == (clock.now_ms, clock.now_ms + 30_000)


async def test_a_share_means_nothing_before_the_minimum_of_calls(rated: Circuit) -> None:
    """Three of three failed calls do not trip where four are asked for; the fourth does."""
    recorded = await rated.fail(3)
    assert (recorded.state, recorded.failures, recorded.transition) == (State.CLOSED, 3, None)
    assert (await rated.fail()).transition is Transition.TRIPPED


async def test_a_success_may_be_the_call_that_trips(rated: Circuit) -> None:
    """The success that completes the minimum trips, and the error that is shown is still that of the last failure."""
    await rated.fail(2)
    await rated.succeed()
    recorded = await rated.succeed(by="replica-2")
    assert (recorded.state, recorded.transition) == (State.OPEN, Transition.TRIPPED)
    seen = await rated.view()
    assert (seen.trip_reason, seen.tripped_by, seen.last_error) == ("2 of 4 calls failed", "replica-2", "ReadTimeout")


async def test_an_ignored_outcome_is_no_call(rated: Circuit) -> None:
    """A cancelled call adds neither to the calls nor to the failures."""
    await rated.fail(3)
    permit = await rated.permit()
    recorded = await rated.settle(permit, Outcome.IGNORED)
    assert (recorded.applied, recorded.state, recorded.failures) == (True, State.CLOSED, 3)
    assert (await rated.view()).calls == 3


async def test_a_rate_wants_to_hear_of_every_call(rated: Circuit) -> None:
    """A share needs the successes too, from the first call on."""
    assert (await rated.permit())[1].reporting is Reporting.COUNTED


@pytest.mark.parametrize(
    ("failed_at", "still_counted_at", "forgotten_at"), [(0, 9.999, 10), (0.999, 9.999, 10), (1, 10.999, 11)]
)
async def test_what_is_out_of_the_window_does_not_count(
    rated: Circuit, clock: ManualClock, failed_at: float, still_counted_at: float, forgotten_at: float
) -> None:
    """Failures leave with their bucket, a window after it began, and to the millisecond."""
    clock.advance(failed_at)
    await rated.fail(2)
    clock.advance(still_counted_at - failed_at)
    assert (await rated.succeed()).failures == 2
    clock.advance(forgotten_at - still_counted_at)
    assert (await rated.succeed()).failures == 0
    seen = await rated.view()
    assert (seen.state, seen.calls, seen.failures) == (State.CLOSED, 2, 0)


async def test_failures_inside_the_window_trip_from_its_two_ends(rated: Circuit, clock: ManualClock) -> None:
    """Calls of the oldest bucket that counts and of the newest are added up."""
    await rated.count(2, 1)
    clock.advance(9.999)
    assert (await rated.count(2, 1)).transition is Transition.TRIPPED


async def test_failures_outside_of_the_window_do_not_trip(rated: Circuit, clock: ManualClock) -> None:
    """The same calls one millisecond further apart do not."""
    await rated.count(2, 1)
    clock.advance(10)
    assert (await rated.count(2, 1)).transition is None


async def test_a_clock_that_was_set_back_does_not_make_old_calls_stay(rated: Circuit, clock: ManualClock) -> None:
    """What is counted in a bucket of the future, as after a failover to a server that is behind, is dropped."""
    await rated.fail(3)
    clock.advance(-60)
    recorded = await rated.fail()
    assert (recorded.state, recorded.failures) == (State.CLOSED, 1)


@pytest.mark.parametrize(("window_seconds", "counted_seconds"), [(100.0, 10), (1.0, 1)])
async def test_another_window_length_counts_what_was_counted_before(
    rated: Circuit, clock: ManualClock, window_seconds: float, counted_seconds: float
) -> None:
    """After a redeploy earlier calls still count: in the new window, and for no longer than the one they came in."""
    await rated.fail(2)
    rated.configure(policy=_rate(window_seconds=window_seconds))
    clock.advance(counted_seconds - 0.001)
    assert (await rated.succeed()).failures == 2
    clock.advance(0.001)
    assert (await rated.succeed()).failures == 0


async def test_a_slow_share_trips_at_its_threshold_and_not_below(circuit: Circuit) -> None:
    """Slow calls count by a share of their own, although none of them failed."""
    circuit.configure(policy=_rate(slow_call_seconds=1.0, slow_rate_threshold=0.75))
    assert (await circuit.count(7, slow=5)).state is State.CLOSED
    recorded = await circuit.count(1, slow=1)
    assert (recorded.state, recorded.failures) == (State.OPEN, 0)
    seen = await circuit.view()
    assert (seen.trip_reason, seen.slow_calls, seen.last_error) == ("6 of 8 calls were slow", 6, "")


async def test_a_slow_share_may_be_small(circuit: Circuit) -> None:
    """One slow call of two hundred is enough where that is what was asked for."""
    circuit.configure(policy=_rate(slow_call_seconds=1.0, slow_rate_threshold=0.005))
    assert (await circuit.count(200, slow=1)).state is State.OPEN


async def test_a_slow_share_waits_for_the_minimum_of_calls(circuit: Circuit) -> None:
    """Three of three slow calls do not trip where four are asked for; the fourth does."""
    circuit.configure(policy=_rate(slow_call_seconds=1.0))
    assert (await circuit.count(3, slow=3)).state is State.CLOSED
    assert (await circuit.count(1, slow=1)).state is State.OPEN


async def test_slow_calls_do_not_trip_where_none_counts_as_slow(rated: Circuit) -> None:
    """Without `slow_call_seconds` the share of slow calls decides nothing, even if all are."""
    assert (await rated.count(8, slow=8)).state is State.CLOSED
    assert (await rated.view()).slow_calls == 8


async def test_failures_are_named_before_slowness(circuit: Circuit) -> None:
    """Where both shares are reached, the failures are the reason."""
    circuit.configure(policy=_rate(slow_call_seconds=1.0, slow_rate_threshold=0.5))
    await circuit.count(4, 2, slow=4)
    assert (await circuit.view()).trip_reason == "2 of 4 calls failed"


async def test_a_slow_call_may_be_counted_before_it_ends(circuit: Circuit) -> None:
    """A call that still hangs is told of as slow, and when it ends its outcome is no second call."""
    circuit.configure(policy=_rate(slow_call_seconds=1.0))
    await circuit.count(1, slow=1)
    permit = await circuit.permit()
    await circuit.settle(permit, Outcome.FAILURE, calls=0, failures=1)
    seen = await circuit.view()
    assert (seen.calls, seen.failures, seen.slow_calls) == (1, 1, 1)


async def test_counting_is_no_change(rated: Circuit) -> None:
    """What a rate counts is shown, but it is no new revision: nobody's answer depends on it."""
    await rated.permit()
    before = await rated.view()
    await rated.fail()
    await rated.count(5, 1, slow=2)
    seen = await rated.view()
    assert (seen.calls, seen.failures, seen.slow_calls) == (6, 2, 2)
    assert (seen.revision, seen.generation) == (before.revision, before.generation)
    assert await rated.happened() == []


async def test_only_a_failure_names_an_error(rated: Circuit) -> None:
    """The last error is that of the last failure, whatever succeeded since."""
    await rated.fail(error="ConnectError")
    await rated.succeed()
    assert (await rated.view()).last_error == "ConnectError"


async def test_closing_begins_the_window_anew(rated: Circuit) -> None:
    """What was counted before the trip is not held against the circuit after it has closed."""
    await rated.fail(4)
    await rated.recover()
    seen = await rated.view()
    assert (seen.state, seen.calls, seen.failures, seen.slow_calls) == (State.CLOSED, 0, 0, 0)
    assert (await rated.fail(3)).failures == 3


async def test_a_reset_begins_the_window_anew(rated: Circuit) -> None:
    """An operator's reset forgets what was counted, slow calls included."""
    await rated.count(3, 2, slow=1)
    seen = await rated.set_mode(None)
    assert (seen.calls, seen.failures, seen.slow_calls) == (0, 0, 0)
    assert (await rated.fail()).failures == 1


async def test_a_report_repeated_after_the_trip_is_stale(rated: Circuit) -> None:
    """The failure that trips ends its generation, so its repetition and every late result change nothing."""
    await rated.fail(3)
    last = await rated.permit()
    await rated.settle(last, Outcome.FAILURE)
    before = await rated.view()
    assert not (await rated.settle(last, Outcome.FAILURE)).applied
    assert await rated.view() == before


def _spread(calls: int) -> Iterable[bool]:
    """Every fifth call fails."""
    return (number % 5 == 0 for number in range(calls))


def _drawn(calls: int) -> Iterable[bool]:
    """One call in five fails, at random but the same ones each time."""
    chance = random.Random(20)
    return (chance.random() < 0.2 for _ in range(calls))


@pytest.mark.parametrize("failing", [_spread, _drawn])
async def test_a_fifth_of_failures_never_trips_a_half(failing: Any) -> None:
    """In 100 000 calls, a hundred a second, one failure in five does not open a circuit that asks for one in two.

    Successes are told of together with the next failure, as replicas do; it is a failure that would trip.
    """
    clock = ManualClock()
    circuit = Circuit(MemoryStore(clock), clock)
    circuit.configure(policy=FailureRate())
    permit = await circuit.permit()
    failures = waiting = 0
    for failed in failing(100_000):
        clock.seconds += 0.01
        waiting += 1
        if failed:
            recorded = await circuit.settle(permit, Outcome.FAILURE, calls=waiting)
            assert recorded.transition is None
            failures, waiting = failures + 1, 0
    assert 19_000 < failures < 21_000
    assert (await circuit.view()).calls > 5_000

from __future__ import annotations

import pytest
import pytest_asyncio

from breaker import FailureRate, Outcome, State
from breaker._types import Transition
from tests.contract.circuit import Circuit
from tests.support.stores import ManualClock


@pytest_asyncio.fixture(params=["run", "rate"])
async def watched(request: pytest.FixtureRequest, circuit: Circuit) -> Circuit:
    """A circuit that trips at three failures, or at three calls of which half fail, if two replicas saw failures."""
    policy = {"policy": FailureRate(window_seconds=10, minimum_calls=3)} if request.param == "rate" else {}
    circuit.configure(minimum_reporters=2, **policy)
    return circuit


async def test_one_replica_never_trips_the_fleet(watched: Circuit) -> None:
    """However often one replica fails, two were asked for."""
    assert (await watched.fail(30)).state is State.CLOSED


async def test_the_failure_of_a_second_replica_trips(watched: Circuit) -> None:
    """As soon as another replica fails too the fleet's count is what counts, and it names who completed it."""
    await watched.fail(4)
    recorded = await watched.fail(by="replica-2")
    assert (recorded.transition, recorded.failures) == (Transition.TRIPPED, 5)
    assert (await watched.view()).tripped_by == "replica-2"


async def test_a_second_replica_does_not_replace_the_threshold(watched: Circuit) -> None:
    """Two replicas with a failure each are two failures, and three are asked for."""
    await watched.fail()
    assert (await watched.fail(by="replica-2")).state is State.CLOSED
    assert (await watched.fail()).state is State.OPEN


async def test_three_replicas_may_be_asked_for(watched: Circuit) -> None:
    """With a minimum of three, the failures of two replicas do not trip and that of the third does."""
    watched.configure(minimum_reporters=3, policy=FailureRate(window_seconds=10, minimum_calls=3))
    await watched.fail(5)
    assert (await watched.fail(5, by="replica-2")).state is State.CLOSED
    assert (await watched.fail(by="replica-3")).state is State.OPEN


async def test_a_quorum_of_one_is_no_quorum(watched: Circuit) -> None:
    """The default: one replica's failures trip, also where it does not say its name."""
    watched.configure()
    assert (await watched.fail(3)).state is State.OPEN
    await watched.recover()
    assert (await watched.fail(3, by="")).state is State.OPEN


async def test_a_success_clears_who_failed_in_a_row(circuit: Circuit) -> None:
    """A run that was broken begins again with nobody in it."""
    circuit.configure(minimum_reporters=2)
    await circuit.fail()
    await circuit.succeed(by="replica-2")
    await circuit.fail(5, by="replica-2")
    assert (await circuit.view()).state is State.CLOSED
    assert (await circuit.fail()).state is State.OPEN


async def test_a_success_does_not_clear_who_failed_in_the_window(circuit: Circuit) -> None:
    """For a rate a replica has failed as long as its failure is in the window."""
    circuit.configure(minimum_reporters=2, policy=FailureRate(window_seconds=10, minimum_calls=4))
    await circuit.fail()
    await circuit.succeed()
    await circuit.fail(by="replica-2")
    assert (await circuit.fail(by="replica-2")).state is State.OPEN


@pytest.mark.parametrize(("apart_seconds", "trips"), [(9.999, True), (10, False)])
async def test_who_failed_before_the_window_does_not_count(
    circuit: Circuit, clock: ManualClock, apart_seconds: float, trips: bool
) -> None:
    """A replica's last failure makes it a reporter for the length of the window, to the millisecond."""
    circuit.configure(minimum_reporters=2, policy=FailureRate(window_seconds=10, minimum_calls=1))
    clock.advance(0.5)
    await circuit.fail()
    clock.advance(apart_seconds)
    recorded = await circuit.fail(by="replica-2")
    assert (recorded.state is State.OPEN) == trips


@pytest.mark.parametrize(("apart_seconds", "trips"), [(3_599.999, True), (3_600, False)])
async def test_who_failed_in_a_row_is_a_witness_for_an_hour(
    circuit: Circuit, clock: ManualClock, apart_seconds: float, trips: bool
) -> None:
    """A run has no window, but a failure of last week, of a replica that is long gone, makes no quorum today."""
    circuit.configure(minimum_reporters=2)
    await circuit.fail()
    clock.advance(apart_seconds)
    recorded = await circuit.fail(2, by="replica-2")
    assert (recorded.state is State.OPEN, recorded.failures) == (trips, 3)


@pytest.mark.parametrize(("window_seconds", "trips"), [(60, False), (7_200, True)])
async def test_who_failed_in_a_long_window_is_a_witness_for_all_of_it(
    circuit: Circuit, clock: ManualClock, window_seconds: float, trips: bool
) -> None:
    """For a rate the window is what counts, also when it is longer than an hour."""
    policy = FailureRate(window_seconds=window_seconds, minimum_calls=1)
    circuit.configure(minimum_reporters=2, policy=policy)
    await circuit.fail()
    clock.advance(7_000)
    assert ((await circuit.fail(by="replica-2")).state is State.OPEN) == trips


async def test_a_later_failure_keeps_a_replica_in_the_window(circuit: Circuit, clock: ManualClock) -> None:
    """What counts is a replica's last failure, not its first."""
    circuit.configure(minimum_reporters=2, policy=FailureRate(window_seconds=10, minimum_calls=5))
    await circuit.fail()
    clock.advance(9)
    await circuit.fail()
    clock.advance(9)
    await circuit.fail(3, by="replica-2")
    assert (await circuit.fail(by="replica-2")).state is State.OPEN


async def test_only_trouble_makes_a_reporter(circuit: Circuit) -> None:
    """Replicas whose calls succeed in time, or that give up, are no witnesses."""
    circuit.configure(minimum_reporters=2, policy=FailureRate(window_seconds=10, minimum_calls=1))
    await circuit.fail()
    await circuit.settle(await circuit.permit(), Outcome.IGNORED, by="replica-2")
    assert (await circuit.succeed(by="replica-2")).state is State.CLOSED
    assert (await circuit.fail(by="replica-2")).state is State.OPEN


async def test_a_slow_call_makes_a_reporter(circuit: Circuit) -> None:
    """Who waits for an answer sees that the dependency is sick as well as who gets an error."""
    policy = FailureRate(window_seconds=10, minimum_calls=2, slow_call_seconds=1.0)
    circuit.configure(minimum_reporters=2, policy=policy)
    assert (await circuit.count(2, slow=2)).state is State.CLOSED
    recorded = await circuit.count(1, slow=1, by="replica-2")
    assert recorded.state is State.OPEN
    assert (await circuit.view()).trip_reason == "3 of 3 calls were slow"


async def test_a_report_of_nobody_is_no_witness(watched: Circuit) -> None:
    """A failure without a replica's name counts, but not as another replica."""
    await watched.fail(3)
    assert (await watched.fail(by="")).failures == 4
    assert (await watched.view()).state is State.CLOSED


async def test_who_failed_is_forgotten_with_the_generation(watched: Circuit) -> None:
    """After a trip and a close, and after a reset, one replica alone does not trip again."""
    await watched.fail(2)
    await watched.fail(by="replica-2")
    await watched.recover()
    await watched.fail(5)
    assert (await watched.view()).state is State.CLOSED
    await watched.set_mode(None)
    assert (await watched.fail(5, by="replica-2")).state is State.CLOSED


async def test_a_replica_that_fails_alone_is_named_once(watched: Circuit) -> None:
    """The record names the outlier, and the events say so when it begins and not with every failure of it."""
    await watched.fail(2)
    before = await watched.view()
    recorded = await watched.fail(alone=True, error="ConnectError")
    assert (recorded.state, recorded.transition) == (State.CLOSED, None)
    seen = await watched.view()
    assert (seen.outlier, seen.failures, seen.last_error) == ("replica-1", 3, "ConnectError")
    assert seen.revision == before.revision + 1
    await watched.fail(3, alone=True)
    (entry,) = await watched.log()
    assert (entry.kind, entry.by, entry.reason) == (Transition.OUTLIER, "replica-1", "ConnectError")
    assert (entry.state, entry.generation) == (State.CLOSED, seen.generation)


async def test_another_outlier_takes_the_place_of_the_first(circuit: Circuit) -> None:
    """The record names who fails alone now."""
    circuit.configure(minimum_reporters=3)
    await circuit.fail(alone=True)
    await circuit.fail(by="replica-2", alone=True)
    assert (await circuit.view()).outlier == "replica-2"
    assert [entry.by for entry in await circuit.log()] == ["replica-1", "replica-2"]


async def test_an_outlier_clears_itself_and_nobody_else_does(watched: Circuit) -> None:
    """Another replica's success says nothing about the outlier; its own says that it is well again."""
    await watched.fail(3, alone=True)
    await watched.succeed(by="replica-2")
    assert (await watched.view()).outlier == "replica-1"
    before = await watched.view()
    await watched.succeed()
    seen = await watched.view()
    assert (seen.outlier, seen.revision) == ("", before.revision + 1)


async def test_the_first_success_of_an_outlier_also_ends_a_run(circuit: Circuit) -> None:
    """One report does both: nothing is counted any more, and nobody is named."""
    circuit.configure(minimum_reporters=2)
    await circuit.fail(3, alone=True)
    assert (await circuit.succeed()).failures == 0
    seen = await circuit.view()
    assert (seen.outlier, seen.failures) == ("", 0)


async def test_a_failure_of_the_outlier_that_is_not_told_alone_keeps_its_name(watched: Circuit) -> None:
    """It takes a success to be well again."""
    await watched.fail(3, alone=True)
    await watched.fail()
    assert (await watched.view()).outlier == "replica-1"


async def test_a_success_of_nobody_names_nobody(watched: Circuit) -> None:
    """A report without a replica's name neither clears an outlier nor counts as a change."""
    await watched.permit()
    before = await watched.view()
    await watched.succeed(by="")
    assert (await watched.view()).revision == before.revision


async def test_a_trip_leaves_no_outlier(watched: Circuit) -> None:
    """When the others fail too, nobody is one; that the report said `alone` does not make one either."""
    await watched.fail(3, alone=True)
    assert (await watched.fail(by="replica-2", alone=True)).state is State.OPEN
    assert (await watched.view()).outlier == ""
    assert await watched.happened() == ["outlier", "tripped"]


async def test_a_reset_leaves_no_outlier(watched: Circuit) -> None:
    """An operator's reset forgets who failed alone, and a new one may be named."""
    await watched.fail(3, alone=True)
    assert (await watched.set_mode(None)).outlier == ""
    await watched.fail(alone=True)
    assert (await watched.view()).outlier == "replica-1"

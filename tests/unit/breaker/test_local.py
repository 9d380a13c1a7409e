from __future__ import annotations

from dataclasses import replace

import pytest

from breaker import BreakerConfig, FailureRate, Mode, OnStoreError, Outcome, Reason, State, View
from breaker._known import Known
from breaker._local import LocalLayer
from breaker._types import Permitted, Recorded, Refused, Report, Reporting
from tests.support.stores import ManualClock

CONFIG = BreakerConfig(cooldown_seconds=30, call_timeout_seconds=4)
CLOSED = Permitted(State.CLOSED, 7, Mode.AUTO, Reporting.FAILURES)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def known(clock: ManualClock) -> Known:
    """What the store said last, which is nothing yet."""
    return Known(clock)


@pytest.fixture
def local(known: Known) -> LocalLayer:
    """A local layer that has counted nothing yet."""
    return LocalLayer(CONFIG, known)


def fail(local: LocalLayer, permit_id: str) -> Recorded:
    """Make one call that fails."""
    permit = local.acquire(permit_id)
    assert isinstance(permit, Permitted)
    told = Report(permit_id=permit_id, generation=permit.generation, outcome=Outcome.FAILURE, calls=1, failures=1)
    return local.record(told)


def test_a_known_open_circuit_stays_refused_until_its_own_deadline(
    known: Known, local: LocalLayer, clock: ManualClock
) -> None:
    """What the store said last is honoured: the rest of the cooldown, then one probe of this replica's own."""
    known.learn(Refused(State.OPEN, 9, Mode.AUTO, Reason.OPEN, 20_000, "ReadTimeout"))
    clock.advance(15)
    refused = local.acquire("p1")
    assert isinstance(refused, Refused)
    assert (refused.retry_after_ms, refused.last_error) == (5_000, "ReadTimeout")
    assert local.refusal() == refused
    clock.advance(5)
    assert isinstance(local.acquire("p2"), Permitted)
    assert isinstance(local.acquire("p3"), Refused)


def test_a_cooldown_that_is_known_to_be_over_is_not_waited_for_again(known: Known, local: LocalLayer) -> None:
    """Who may not probe is told to wait for another's probe: without the store this replica makes it, and at once."""
    known.learn(Refused(State.OPEN, 9, Mode.AUTO, Reason.PROBING, 5_000, "ReadTimeout"))
    assert (known.probe_wait_seconds(), local.probe_wait_seconds()) == (0, 0)
    assert isinstance(local.acquire("p1"), Permitted)


def test_a_trip_that_this_replica_reported_is_known(known: Known, local: LocalLayer, clock: ManualClock) -> None:
    """The answer to the report that opened the circuit is knowledge as well."""
    known.learn(Recorded(applied=True, state=State.OPEN, generation=9, failures=3))
    clock.advance(29.999)
    assert isinstance(local.acquire("p1"), Refused)


def test_a_circuit_known_to_be_half_open_lets_one_probe_through(known: Known, local: LocalLayer) -> None:
    """Nobody can ask who holds the lease, so this replica probes once for itself."""
    known.learn(replace(CLOSED, state=State.HALF_OPEN, reporting=Reporting.ALL))
    assert isinstance(local.acquire("p1"), Permitted)
    assert isinstance(local.acquire("p2"), Refused)


@pytest.mark.parametrize(("mode", "kind"), [(Mode.FORCED_CLOSED, Permitted), (Mode.METRICS_ONLY, Permitted)])
def test_an_operators_mode_is_kept(known: Known, local: LocalLayer, mode: Mode, kind: type) -> None:
    """What an operator let through stays let through."""
    known.learn(replace(CLOSED, state=State.OPEN, mode=mode, reporting=Reporting.NOTHING))
    assert isinstance(local.acquire("p1"), kind)


def test_a_forced_open_circuit_stays_forced_open(known: Known, local: LocalLayer, clock: ManualClock) -> None:
    """What an operator closed off stays closed off, also after the pause that was suggested."""
    known.learn(Refused(State.CLOSED, 9, Mode.FORCED_OPEN, Reason.FORCED_OPEN, 30_000, ""))
    clock.advance(60)
    refused = local.acquire("p1")
    assert isinstance(refused, Refused)
    assert refused.reason == "forced_open"


def test_it_trips_by_the_same_policy(known: Known, local: LocalLayer) -> None:
    """Three failures in this replica open the circuit for this replica."""
    known.learn(CLOSED)
    fail(local, "p1")
    fail(local, "p2")
    assert fail(local, "p3").state is State.OPEN


@pytest.mark.parametrize(("replicas", "minimum"), [(0, 10), (1, 10), (4, 3)])
def test_alone_a_replica_wants_its_share_of_the_minimum_of_calls(known: Known, replicas: int, minimum: int) -> None:
    """Of ten calls of the fleet one of four replicas sees three at most; who knows of no other wants all ten."""
    local = LocalLayer(replace(CONFIG, policy=FailureRate(minimum_calls=10)), known)
    known.learn(View(generation=9, replicas=replicas))
    states = [fail(local, f"p{number}").state for number in range(minimum)]
    assert states == [State.CLOSED] * (minimum - 1) + [State.OPEN]


def test_an_operators_settings_are_kept(known: Known, local: LocalLayer) -> None:
    """Thresholds that were changed live are in force while nobody can be asked about them."""
    known.learn(View(generation=9, settings="consecutive=2 cooldown_ms=7000"))
    assert [fail(local, f"p{number}").state for number in range(2)] == [State.CLOSED, State.OPEN]
    refused = local.refusal()
    assert refused is not None
    assert refused.retry_after_ms == 7_000


def test_alone_a_replica_needs_no_other_to_trip_and_holds_nobody_back_once_closed(
    known: Known, clock: ManualClock
) -> None:
    """A quorum and a ramp are the fleet's: one replica never reaches the one, and sees too few calls for the other."""
    local = LocalLayer(replace(CONFIG, minimum_reporters=2, ramp_seconds=60), known)
    known.learn(CLOSED)
    assert [fail(local, f"p{number}").state for number in range(3)][-1] is State.OPEN
    clock.advance(30)
    probe = local.acquire("probe")
    told = Report(permit_id="probe", generation=probe.generation, outcome=Outcome.SUCCESS)
    assert local.record(told).state is State.CLOSED
    assert all(isinstance(local.acquire(f"later-{number}"), Permitted) for number in range(50))


def test_the_stores_permits_settle_nothing_here(known: Known, local: LocalLayer) -> None:
    """Generations of the store and of this layer cannot be mistaken for each other."""
    known.learn(CLOSED)
    local.acquire("p1")
    told = Report(permit_id="p0", generation=CLOSED.generation, outcome=Outcome.FAILURE)
    assert not local.record(told).applied


def test_a_view_that_came_before_the_answer_is_kept(known: Known, local: LocalLayer) -> None:
    """The message about a trip may overtake the answer to the report; what it says more is not lost."""
    known.learn(View(state=State.OPEN, generation=9, now_ms=1_000, retry_at_ms=21_000, last_error="ReadTimeout"))
    known.learn(Recorded(applied=True, state=State.OPEN, generation=9, failures=3))
    refused = local.acquire("p1")
    assert isinstance(refused, Refused)
    assert (refused.last_error, refused.retry_after_ms) == ("ReadTimeout", 20_000)


def test_an_answer_of_the_store_ends_it(known: Known, local: LocalLayer) -> None:
    """What was counted here is dropped as soon as the shared record can be asked again."""
    for number in range(3):
        fail(local, f"p{number}")
    assert local.refusal() is not None
    known.learn(CLOSED)
    local.drop()
    assert local.refusal() is None


def test_permit_lets_everything_through(known: Known) -> None:
    """With `permit`, no failure ever refuses while the store is away."""
    local = LocalLayer(replace(CONFIG, on_store_error=OnStoreError.PERMIT), known)
    reply = local.acquire("p1")
    assert isinstance(reply, Permitted)
    assert reply.reporting is Reporting.NOTHING
    assert local.refusal() is None


def test_refuse_lets_nothing_through(known: Known) -> None:
    """With `refuse`, every call is refused while the store is away, and the reason says so."""
    local = LocalLayer(replace(CONFIG, on_store_error=OnStoreError.REFUSE), known)
    reply = local.acquire("p1")
    assert isinstance(reply, Refused)
    assert reply.reason == "store_unavailable"


def test_a_mode_with_an_end_ends(known: Known, local: LocalLayer, clock: ManualClock) -> None:
    """Nobody can be asked whether an operator has extended it, so its own end counts."""
    known.learn(Refused(State.CLOSED, 9, Mode.FORCED_OPEN, Reason.FORCED_OPEN, 20_000, "", mode_rest_ms=20_000))
    clock.advance(19)
    refused = local.acquire("p1")
    assert isinstance(refused, Refused)
    assert refused.retry_after_ms == 1_000
    clock.advance(1)
    assert isinstance(local.acquire("p2"), Permitted)


def test_a_mode_that_ended_before_the_store_went_away_is_over(
    known: Known, local: LocalLayer, clock: ManualClock
) -> None:
    """What is left of it counts, and nothing is left."""
    known.learn(View(generation=9, mode=Mode.FORCED_OPEN, now_ms=1_000, mode_until_ms=21_000))
    clock.advance(20)
    assert known.mode is Mode.AUTO
    assert isinstance(local.acquire("p1"), Permitted)


def test_the_answer_to_a_report_takes_no_mode_back(known: Known, local: LocalLayer) -> None:
    """A trip beneath an operator's mode refuses nobody, here as in the store."""
    known.learn(replace(CLOSED, mode=Mode.METRICS_ONLY))
    known.learn(Recorded(applied=True, state=State.OPEN, generation=9, failures=3))
    assert isinstance(local.acquire("p1"), Permitted)


def test_a_success_ends_a_run_that_began_after_its_permit(known: Known, local: LocalLayer) -> None:
    """Failures are in a row here too, whenever the calls began."""
    known.learn(CLOSED)
    long = local.acquire("long")
    assert isinstance(long, Permitted)
    fail(local, "p1")
    fail(local, "p2")
    local.record(Report(permit_id="long", generation=long.generation, outcome=Outcome.SUCCESS))
    assert fail(local, "p3").state is State.CLOSED


def test_a_background_probe_waits_where_an_operator_has_forced_the_circuit_open(
    known: Known, local: LocalLayer
) -> None:
    """The mode has no end and nobody can be asked, so it is looked at again after a cooldown, and not all the time."""
    known.learn(View(state=State.OPEN, generation=9, now_ms=1_000, retry_at_ms=1_000, mode=Mode.FORCED_OPEN))
    assert local.probe_wait_seconds() == 30


def test_a_background_probe_waits_for_the_lease_of_another(known: Known, local: LocalLayer, clock: ManualClock) -> None:
    """The one place of this replica is taken until the lease lapses."""
    known.learn(Refused(State.OPEN, 9, Mode.AUTO, Reason.OPEN, 20_000, "ReadTimeout"))
    assert local.probe_wait_seconds() == 20
    clock.advance(20)
    assert local.probe_wait_seconds() == 0
    assert isinstance(local.acquire("p1"), Permitted)
    assert local.probe_wait_seconds() == 5

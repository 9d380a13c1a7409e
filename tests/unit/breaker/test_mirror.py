from __future__ import annotations

import pytest

from breaker import BreakerConfig, CallNotPermittedError, Mode, Reason, State, View
from breaker._mirror import MirroredCircuit
from breaker._types import Permitted, Recorded, Refused, Reporting
from tests.support.stores import ManualClock

CLOSED = View(state=State.CLOSED, generation=100, revision=1, now_ms=1_000)
OPEN = View(state=State.OPEN, generation=200, revision=4, now_ms=1_000, retry_at_ms=21_000, last_error="ReadTimeout")
PROBING = View(state=State.HALF_OPEN, generation=300, revision=6, now_ms=1_000, probes_out=1, probe_until_ms=6_000)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves; the store's clock in the views is another one."""
    return ManualClock()


@pytest.fixture
def mirror(clock: ManualClock) -> MirroredCircuit:
    """A copy that has seen nothing yet."""
    return MirroredCircuit(BreakerConfig(cooldown_seconds=30).limits(), clock)


def test_a_closed_view_permits_without_asking(mirror: MirroredCircuit) -> None:
    """The permit carries the generation that the view has, and asks for failures only."""
    assert mirror.permit is None
    mirror.see(CLOSED)
    assert mirror.permit == Permitted(State.CLOSED, 100, Mode.AUTO, Reporting.FAILURES)
    assert mirror.refusing_seconds() == 0


def test_a_circuit_whose_ramp_is_over_permits_without_asking(mirror: MirroredCircuit) -> None:
    """That it closed some time ago holds nobody back, and needs no second look."""
    mirror.see(CLOSED._replace(closed_at_ms=1))
    assert mirror.permit is not None


def test_counted_failures_make_a_success_worth_a_message(mirror: MirroredCircuit) -> None:
    """While the view shows failures in a row, successes are to be reported."""
    mirror.see(CLOSED._replace(failures=2, run=2, revision=3))
    assert mirror.permit is not None
    assert mirror.permit.reporting is Reporting.COUNTED


def test_failures_that_a_rate_counted_make_no_success_worth_a_message(mirror: MirroredCircuit) -> None:
    """Beside replicas that count a rate, a success ends failures in a row and nothing else."""
    mirror.see(CLOSED._replace(failures=2, revision=3))
    assert mirror.permit is not None
    assert mirror.permit.reporting is Reporting.FAILURES


def test_an_open_view_refuses_until_its_moment(mirror: MirroredCircuit, clock: ManualClock) -> None:
    """The rest of the cooldown runs on this replica's own clock; then the store is asked."""
    mirror.see(CLOSED)
    mirror.see(OPEN)
    assert mirror.permit is None
    clock.advance(5)
    assert mirror.refusing_seconds() == pytest.approx(15)
    assert mirror.refused == Refused(State.OPEN, 200, Mode.AUTO, Reason.OPEN, 20_000, "ReadTimeout")
    clock.advance(15)
    assert mirror.refusing_seconds() == 0
    assert mirror.permit is None


def test_a_probe_that_is_out_refuses_until_its_lease_lapses(mirror: MirroredCircuit, clock: ManualClock) -> None:
    """Another replica's probe is waited for, unless its place becomes free before."""
    mirror.see(PROBING)
    clock.advance(4)
    assert mirror.refusing_seconds() == pytest.approx(1)
    assert mirror.refused is not None
    assert mirror.refused.reason == "probing"
    mirror.see(PROBING._replace(revision=7, probes_out=0, probe_until_ms=0))
    assert mirror.refusing_seconds() == 0


def test_older_views_are_passed_over(mirror: MirroredCircuit) -> None:
    """What arrives late or twice replaces nothing newer."""
    mirror.see(OPEN)
    mirror.see(CLOSED)
    mirror.see(OPEN._replace(retry_at_ms=0))
    assert mirror.refusing_seconds() > 0


def test_after_a_loss_any_view_is_taken(mirror: MirroredCircuit) -> None:
    """A failover may have rolled the circuit back, so after a resubscribe an older view counts."""
    mirror.see(OPEN)
    mirror.see(None)
    assert mirror.refusing_seconds() == 0
    mirror.see(CLOSED)
    assert mirror.permit is not None


def test_without_a_fresh_view_nothing_is_remembered(mirror: MirroredCircuit) -> None:
    """While no messages arrive every call asks, so an operator's reset is not missed."""
    mirror.note(Refused(State.OPEN, 200, Mode.AUTO, Reason.OPEN, 30_000, ""), mirror.newest)
    assert mirror.refusing_seconds() == 0


def test_a_refusal_by_the_store_is_remembered(mirror: MirroredCircuit, clock: ManualClock) -> None:
    """One caller finds out that the probe's place is taken; the others need not ask until the lease lapses."""
    mirror.see(OPEN)
    clock.advance(20)
    mirror.note(Refused(State.HALF_OPEN, 300, Mode.AUTO, Reason.PROBING, 5_000, "ReadTimeout"), mirror.newest)
    assert mirror.refusing_seconds() > 0
    clock.advance(5)
    assert mirror.refusing_seconds() == 0


def test_an_answer_may_be_ahead_of_the_messages(mirror: MirroredCircuit) -> None:
    """Once the store has told of a newer generation, this replica permits nothing in the old one."""
    mirror.see(CLOSED)
    mirror.note(Recorded(applied=True, state=State.OPEN, generation=200, failures=3), mirror.newest)
    assert mirror.permit is None
    mirror.see(CLOSED._replace(revision=2, failures=2))
    assert mirror.permit is None
    mirror.see(OPEN)
    assert mirror.refusing_seconds() > 0


def test_forced_open_without_an_end_holds_until_a_message(mirror: MirroredCircuit, clock: ManualClock) -> None:
    """The pause that callers are told is a cooldown; the mode itself ends when an operator says so."""
    mirror.see(CLOSED._replace(mode=Mode.FORCED_OPEN))
    clock.advance(3600)
    rest_seconds = mirror.refusing_seconds()
    assert mirror.refused is not None
    assert CallNotPermittedError("c", mirror.refused, rest_seconds).retry_after_seconds == 30
    assert mirror.refused.reason == "forced_open"
    mirror.see(CLOSED._replace(revision=2))
    assert mirror.permit is not None


def test_forced_open_with_an_end_holds_until_then(mirror: MirroredCircuit, clock: ManualClock) -> None:
    """A mode that ends by itself is not kept beyond its end."""
    mirror.see(CLOSED._replace(mode=Mode.FORCED_OPEN, mode_until_ms=11_000))
    clock.advance(9)
    assert mirror.refusing_seconds() == pytest.approx(1)
    clock.advance(1)
    assert mirror.refusing_seconds() == 0


def test_forced_closed_permits_without_asking_and_without_counting(mirror: MirroredCircuit) -> None:
    """What an operator lets through costs nothing."""
    mirror.see(OPEN._replace(mode=Mode.FORCED_CLOSED))
    assert mirror.permit == Permitted(State.OPEN, 200, Mode.FORCED_CLOSED, Reporting.NOTHING)


def test_metrics_only_permits_a_closed_circuit_and_asks_about_an_open_one(mirror: MirroredCircuit) -> None:
    """The machine beneath still needs its probes, and only the store can give them out."""
    mirror.see(CLOSED._replace(mode=Mode.METRICS_ONLY))
    assert mirror.permit == Permitted(State.CLOSED, 100, Mode.METRICS_ONLY, Reporting.FAILURES)
    mirror.see(OPEN._replace(mode=Mode.METRICS_ONLY))
    assert mirror.permit is None
    assert mirror.refusing_seconds() == 0


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
def test_a_mode_that_ends_by_itself_is_asked_about(mirror: MirroredCircuit, mode: Mode) -> None:
    """No message says that its time is over, so every call asks."""
    mirror.see(CLOSED._replace(mode=mode, mode_until_ms=9_000))
    assert mirror.permit is None


def test_an_answer_that_a_message_has_overtaken_is_not_remembered(mirror: MirroredCircuit) -> None:
    """The place for a probe was taken when the store answered, and free again when that was read."""
    mirror.see(PROBING)
    asked_at = mirror.newest
    mirror.see(PROBING._replace(revision=7, probes_out=0, probe_until_ms=0))
    refused = Refused(State.HALF_OPEN, 300, Mode.AUTO, Reason.PROBING, 60_000, "")
    assert not mirror.note(refused, asked_at)
    assert mirror.refusing_seconds() == 0


def test_an_answer_from_before_what_was_known_says_that_the_store_has_gone_back(mirror: MirroredCircuit) -> None:
    """Nothing else makes a generation smaller; an answer that was only late is told apart by the message before it."""
    mirror.see(CLOSED)
    asked_at = mirror.newest
    mirror.see(OPEN)
    late = Recorded(applied=False, state=State.CLOSED, generation=100, failures=0)
    assert not mirror.note(late, asked_at)
    assert mirror.note(late, mirror.newest)

"""Probes of threads in the background."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from breaker import (
    CallNotPermittedError,
    Mode,
    Outcome,
    Override,
    State,
)
from breaker.sync import CircuitBreaker
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import (
    CONFIG,
    NAME,
    TellingStore,
    fail,
    fails,
    state_of,
    works,
)


def _ignored(error: Exception, kind: type[Exception]) -> Outcome:
    """Ignore one kind of failures."""
    return Outcome.IGNORED if isinstance(error, kind) else Outcome.FAILURE


def probing(store: TellingStore, probe: Callable[[], object], **options: Any) -> CircuitBreaker:
    """Make a breaker with a background probe, on the time of the timers that it waits for."""
    breaker = CircuitBreaker(NAME, store, CONFIG, probe=probe, **options)
    breaker._circuit.known.clock = store.planted.now
    return breaker


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a probe run in the thread that would start one for it."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda run, _: run() or True)


def test_a_background_probe_closes_the_circuit_and_no_caller_is_the_probe(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails once, is made again after another cooldown, and closes the circuit."""
    at_once(monkeypatch)
    answers: list[Callable[[], str]] = [works, fails]

    def probe() -> str:
        """Answer."""
        return answers.pop()()

    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    with pytest.raises(CallNotPermittedError):
        breaker.call(works)
    store.planted.advance(30)
    assert state_of(store) is State.OPEN
    clock.advance(31)
    store.planted.advance(30)
    assert state_of(store) is State.CLOSED
    assert breaker.call(works) == "charged"
    assert not answers


def test_a_background_probe_waits_while_another_replica_probes(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, it comes back when the other's lease has lapsed."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    other = store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    assert other.state is State.HALF_OPEN
    store.planted.advance(30)
    assert state_of(store) is State.HALF_OPEN
    clock.advance(6)
    store.planted.advance(36)
    assert state_of(store) is State.CLOSED
    assert breaker.call(works) == "charged"


def test_a_background_probe_without_a_thread_gives_its_place_back(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that can start no thread tries again a little later."""
    monkeypatch.setattr("breaker.sync._prober.started", lambda *_: None)
    probing(store, works).call(works)
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)
    at_once(monkeypatch)
    store.planted.advance(2)
    assert state_of(store) is State.CLOSED


@pytest.mark.parametrize("is_closed_before_it_runs", [True, False])
def test_closing_gives_the_place_of_a_background_probe_back(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, is_closed_before_it_runs: bool
) -> None:
    """Of one that is on its way as well; whatever comes of it later is not reported."""
    probed: list[bool] = []

    def probe() -> None:
        """Have the breaker closed meanwhile."""
        probed.append(True)
        breaker.close()

    def start(run: Callable[[], None], _: str) -> bool:
        """Start the probe's thread, or have the breaker closed before it runs."""
        if is_closed_before_it_runs:
            breaker.close()
        run()
        return True

    monkeypatch.setattr("breaker.sync._prober.started", start)
    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)
    assert [report.outcome for report in store.reports[3:]] == [Outcome.IGNORED]
    assert bool(probed) is not is_closed_before_it_runs


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_closed_breaker_probes_no_more(store: TellingStore, clock: ManualClock, *, closed_first: bool) -> None:
    """Neither a probe that is due nor one that was refused is tried again."""
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    if not closed_first:
        store.planted.advance(30)
    breaker.close()
    asked = len(store.asked)
    clock.advance(31)
    store.planted.advance(60)
    assert len(store.asked) == asked


def test_a_background_probe_does_not_sleep_through_an_operators_change_of_mind(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced open for an hour and released at once: the probe is made when the cooldown is over."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    hour = Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna", duration_ms=3_600_000)
    store.control(NAME, hour)
    store.tell(NAME)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    store.tell(NAME)
    clock.advance(31)
    store.planted.advance(31)
    assert state_of(store) is State.CLOSED


def test_a_background_probe_asks_once_a_minute_though_nobody_tells_it_anything(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may tell nothing of what an operator changes."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    hour = Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna", duration_ms=3_600_000)
    store.control(NAME, hour)
    store.tell(NAME)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    clock.advance(61)
    store.planted.advance(61)
    assert state_of(store) is State.CLOSED


def test_where_everything_goes_through_a_background_probe_finds_nothing_out(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit that is no probe's starts no probe, and asking is repeated seldom."""
    at_once(monkeypatch)
    probes: list[None] = []
    breaker = probing(store, lambda: probes.append(None))
    fail(breaker, 3)
    clock.advance(31)
    store.acquire(NAME, "of another", CONFIG.limits(), "api-2")
    store.control(NAME, Override(mode=Mode.FORCED_CLOSED, reason="it works", actor="anna"))
    store.lose_messages()
    breaker.call(works)
    asked = len(store.asked)
    store.planted.advance(100)
    assert probes == []
    assert 2 <= len(store.asked) - asked <= 4


def test_a_background_probe_that_decides_nothing_is_made_again_after_a_pause(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is given back, and what would come out at once is not tried at once."""
    at_once(monkeypatch)
    probes: list[float] = []

    def probe() -> None:
        probes.append(store.planted.now())
        raise LookupError

    breaker = probing(store, probe, classify_error=lambda error: _ignored(error, LookupError))
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(33)
    assert probes == pytest.approx([30, 31, 32, 33], abs=0.1)


def test_a_breaker_that_is_closed_while_its_background_probe_asks_makes_no_probe(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place that it is given is given back."""
    at_once(monkeypatch)
    probes: list[None] = []
    breaker = probing(store, lambda: probes.append(None))
    fail(breaker, 3)
    clock.advance(31)
    really = store.acquire

    def closes(*args: Any, **options: Any) -> Any:
        breaker.close()
        return really(*args, **options)

    monkeypatch.setattr(store, "acquire", closes)
    store.planted.advance(31)
    view = store.snapshot(NAME)
    assert view is not None
    assert (view.state, view.probes_out, probes) == (State.HALF_OPEN, 0, [])


def test_a_background_probe_is_made_as_soon_as_a_mode_ends(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While everything goes through it asks seldom; the end of that is news, and nobody waits for a whole cooldown."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    store.control(NAME, Override(mode=Mode.FORCED_CLOSED, reason="it works", actor="anna"))
    store.tell(NAME)
    clock.advance(31)
    store.planted.advance(31)
    store.control(NAME, Override(mode=Mode.AUTO, reason="done", actor="anna"))
    store.tell(NAME)
    store.planted.advance(0.1)
    assert state_of(store) is State.CLOSED


def test_a_classifier_that_ends_threads_does_not_end_the_probing(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is given back, and the next probe follows after a pause."""

    def start(run: Callable[[], None], _: str) -> bool:
        """Run it, and let it end as a thread does."""
        with contextlib.suppress(SystemExit):
            run()
        return True

    monkeypatch.setattr("breaker.sync._prober.started", start)
    answers: list[Callable[[], str]] = [works, fails]

    def classify(_: Exception) -> Outcome:
        """End the thread, once a probe has failed."""
        if len(answers) == 1:
            raise SystemExit
        return Outcome.FAILURE

    def probe() -> str:
        return answers.pop()()

    breaker = probing(store, probe, classify_error=classify)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    assert state_of(store) is State.HALF_OPEN
    store.planted.advance(2)
    assert state_of(store) is State.CLOSED


def test_a_background_probe_that_raises_what_ends_threads_has_failed(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in asyncio: the circuit opens for another cooldown."""
    at_once(monkeypatch)

    def probe() -> None:
        raise SystemExit

    breaker = probing(store, probe)
    fail(breaker, 3)
    clock.advance(31)
    store.planted.advance(30)
    assert state_of(store) is State.OPEN


def test_a_store_that_ends_threads_does_not_end_the_probing(
    store: TellingStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again after a pause."""
    at_once(monkeypatch)
    breaker = probing(store, works)
    fail(breaker, 3)
    clock.advance(31)
    store.fails_with = SystemExit()
    with pytest.raises(SystemExit):
        store.planted.advance(30)
    store.fails_with = None
    store.planted.advance(2)
    assert state_of(store) is State.CLOSED


def test_a_probe_for_tasks_is_refused(store: TellingStore) -> None:
    """Called by a thread it would find nothing out, and what it gives back would look like a success."""

    async def ping() -> None:
        """Answer."""

    with pytest.raises(TypeError, match=r"breaker\.CircuitBreaker"):
        probing(store, ping)

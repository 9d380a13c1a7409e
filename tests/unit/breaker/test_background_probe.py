"""A probe in the background: no caller is the canary, and one replica at a time finds out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CircuitBreaker,
    Consecutive,
    Consistency,
    EventKind,
    Mode,
    OnStoreError,
    OpenFor,
    Outcome,
    Override,
    Reason,
    ScriptError,
    State,
    View,
)
from breaker._circuit import Circuit
from breaker._limits import Limits
from breaker._types import Permitted, Report
from tests.support.replica import ProviderDownError, fails, until, works
from tests.support.telling_store import TellingStore

COOLDOWN_SECONDS = 0.02


class Provider:
    """A dependency that a test heals."""

    def __init__(self) -> None:
        self.is_well = False
        self.probes = 0
        self.held: asyncio.Event | None = None

    async def probe(self) -> str:
        """Find out whether the dependency is back."""
        self.probes += 1
        if self.held is not None:
            await self.held.wait()
        if not self.is_well:
            raise ProviderDownError
        return "well"


@pytest.fixture
def store() -> TellingStore:
    """An empty store, on the clock of the machine: probes wait for real, if only for moments."""
    return TellingStore(time.time)


def breaker_on(store: TellingStore, provider: Provider, **options: Any) -> CircuitBreaker:
    """Make a breaker that trips at the first failure and probes in the background."""
    options = {"policy": Consecutive(1), "cooldown_seconds": COOLDOWN_SECONDS, **options}
    return CircuitBreaker("c", store, BreakerConfig(**options), probe=provider.probe)


async def trip(breaker: CircuitBreaker) -> None:
    """Let a call fail."""
    with pytest.raises(ProviderDownError):
        await breaker.call(fails)


@pytest.mark.parametrize("consistency", Consistency)
async def test_the_background_probe_closes_the_circuit(store: TellingStore, consistency: Consistency) -> None:
    """It is made again and again until the dependency is back; then calls go through."""
    provider = Provider()
    breaker = breaker_on(store, provider, consistency=consistency)
    await trip(breaker)
    await until(lambda: provider.probes >= 2)
    provider.is_well = True
    await until(lambda: breaker.status.state is State.CLOSED)
    assert await breaker.call(works) == "charged"
    probes = provider.probes
    await breaker.aclose()
    assert provider.probes == probes


async def test_no_caller_is_the_probe(store: TellingStore) -> None:
    """While the background probe is out, and before, callers are refused."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider, consistency=Consistency.STRICT)
    await trip(breaker)
    await until(lambda: provider.probes == 1)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.reason is Reason.PROBING
    provider.is_well = True
    provider.held.set()
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_of_many_replicas_one_probes_at_a_time(store: TellingStore) -> None:
    """They compete for the one place; who does not get it waits for the one who did."""
    provider = Provider()
    provider.held = asyncio.Event()
    replicas = [breaker_on(store, provider) for _ in range(5)]
    for replica in replicas:
        await replica.call(works)
    await trip(replicas[0])
    # Without messages of the first probe each of the others has to ask, unless it was told before they ended here.
    followers, store.followers = store.followers, []
    await until(lambda: all(replica.status.state is State.HALF_OPEN for replica in replicas))
    assert provider.probes == 1
    store.followers = followers
    provider.is_well = True
    provider.held.set()
    await until(lambda: all(replica.status.state is State.CLOSED for replica in replicas))
    for replica in replicas:
        await replica.aclose()
    assert provider.probes == 1


async def test_closing_a_breaker_ends_its_probe_and_gives_the_place_back(store: TellingStore) -> None:
    """A probe in flight is cancelled, which decides nothing."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider)
    await trip(breaker)
    await until(lambda: provider.probes == 1)
    await breaker.aclose()
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)


async def test_a_probe_waits_for_an_operator(store: TellingStore) -> None:
    """While the circuit is forced open nothing is called; when that ends, the probe goes on."""
    provider = Provider()
    breaker = breaker_on(store, provider)
    await breaker.call(works)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna"))
    await store.control("c", Override(mode=Mode.AUTO, reason="done", actor="anna"))
    await trip(breaker)
    provider.is_well = True
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_a_probe_that_hangs_is_ended_by_the_call_timeout(store: TellingStore) -> None:
    """It counts as a failure, and the next one follows."""
    provider = Provider()
    provider.held = asyncio.Event()
    breaker = breaker_on(store, provider, call_timeout_seconds=0.02)
    await trip(breaker)
    await until(lambda: provider.probes == 2)
    await breaker.aclose()


async def test_a_probe_that_finds_the_place_taken_waits_for_it(store: TellingStore) -> None:
    """Another's lease is out: the background probe comes back when it lapses."""
    provider = Provider()
    provider.is_well = True
    breaker = breaker_on(store, provider, call_timeout_seconds=None, lease_seconds=0.05)
    really_acquire = store.acquire

    async def too_late(name: str, permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool) -> Any:
        if may_probe and not provider.probes:
            store.acquire = really_acquire  # type: ignore[method-assign]
            await really_acquire(name, "another's", limits, "another")
        return await really_acquire(name, permit_id, limits, replica_id, may_probe=may_probe)

    await trip(breaker)
    store.acquire = too_late  # type: ignore[method-assign, assignment]
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


def is_resting(breaker: CircuitBreaker) -> bool:
    """Tell whether nobody waits for the moment of the next probe."""
    prober = breaker._link._prober
    assert prober is not None
    return prober._task is None or prober._task.done()


async def test_a_probe_whose_report_is_lost_is_not_made_again_and_again(store: TellingStore) -> None:
    """The store went away while the probe was out: this replica decides by itself, and one more probe closes that."""
    provider = Provider()
    provider.is_well, provider.held = True, asyncio.Event()
    breaker = breaker_on(store, provider)
    await trip(breaker)
    await until(lambda: provider.probes == 1)
    store.is_away = True
    provider.held.set()
    await until(lambda: is_resting(breaker))
    assert provider.probes == 2
    assert await breaker.call(works) == "charged"


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
async def test_where_everything_goes_through_there_is_nothing_to_find_out(store: TellingStore, mode: Mode) -> None:
    """Another's probe is out and an operator lets all calls through: asking starts no probe, and is repeated seldom."""
    provider = Provider()
    breaker = breaker_on(store, provider, consistency=Consistency.STRICT)
    limits = breaker.config.limits()
    tripping = await store.acquire("c", "p1", limits, "another")
    await store.record(
        "c", Report(permit_id="p1", generation=tripping.generation, outcome=Outcome.FAILURE, failures=1), limits
    )
    await asyncio.sleep(COOLDOWN_SECONDS)
    probe = await store.acquire("c", "p2", limits, "another")
    assert isinstance(probe, Permitted)
    await store.control("c", Override(mode=mode, reason="it works", actor="anna"))
    assert await breaker.call(works) == "charged"
    await until(lambda: store.asked.count(True) >= 5)
    assert provider.probes == 0
    await store.record("c", Report(permit_id="p2", generation=probe.generation, outcome=Outcome.SUCCESS), limits)
    await until(lambda: is_resting(breaker))
    assert provider.probes == 0


async def test_a_probe_that_decided_nothing_is_followed_by_another(
    store: TellingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is given back, and after a pause the next probe finds out."""
    monkeypatch.setattr("breaker._prober._PAUSE_SECONDS", 0.01)
    provider = Provider()
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=COOLDOWN_SECONDS)
    breaker = CircuitBreaker("c", store, config, probe=provider.probe, classify_error=lambda _: Outcome.IGNORED)
    await breaker.call(works)
    permit = await breaker.admit()
    await permit.settle(Outcome.FAILURE)
    await until(lambda: provider.probes >= 2)
    provider.is_well = True
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_a_probe_that_waits_for_something_cancelled_has_failed(store: TellingStore) -> None:
    """The cancellation is none of the replica's, so the probing goes on."""
    probes = []

    async def probe() -> None:
        probes.append(asyncio.get_running_loop().create_future())
        if len(probes) == 1:
            probes[0].cancel()
            await probes[0]

    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=COOLDOWN_SECONDS)
    breaker = CircuitBreaker("c", store, config, probe=probe)
    await trip(breaker)
    await until(lambda: breaker.status.state is State.CLOSED)
    assert len(probes) == 2
    await breaker.aclose()


async def test_a_breaker_that_is_closed_probes_no_more(store: TellingStore) -> None:
    """What the store tells afterwards, such as that it tells no more, starts nothing."""
    provider = Provider()
    breaker = breaker_on(store, provider)
    await trip(breaker)
    await breaker.aclose()
    probes = provider.probes
    breaker._link._see(None)
    await store.tell("c")
    assert is_resting(breaker)
    assert provider.probes == probes


async def test_no_caller_is_the_probe_while_the_store_is_away(store: TellingStore) -> None:
    """This replica's own circuit is open: callers are refused, and the background probe closes it."""
    provider = Provider()
    breaker = breaker_on(store, provider)
    store.is_away = True
    await trip(breaker)
    await until(lambda: provider.probes >= 2)
    with pytest.raises(CallNotPermittedError):
        await breaker.call(works)
    peeked = await breaker.peek()
    assert peeked is not None
    provider.is_well = True
    await until(lambda: is_resting(breaker))
    assert await breaker.call(works) == "charged"


@pytest.mark.parametrize("on_store_error", [OnStoreError.PERMIT, OnStoreError.REFUSE])
async def test_without_a_local_layer_there_is_nothing_to_probe(
    store: TellingStore, on_store_error: OnStoreError
) -> None:
    """The store is away: as long as that lasts everything goes through or nothing, whatever a probe would find."""
    provider = Provider()
    breaker = breaker_on(store, provider, on_store_error=on_store_error)
    await trip(breaker)
    store.is_away = True
    await until(lambda: is_resting(breaker))
    probes = provider.probes
    assert probes <= 1
    await breaker.aclose()


async def test_a_replica_that_fails_alone_is_led_back_by_its_background_probe(store: TellingStore) -> None:
    """While it stays away by itself its callers are refused, and none of them is the probe."""
    provider = Provider()
    breaker = breaker_on(store, provider, minimum_reporters=2)
    await trip(breaker)
    assert breaker.status.isolated
    await until(lambda: provider.probes >= 2)
    with pytest.raises(CallNotPermittedError) as refused:
        await breaker.call(works)
    assert refused.value.reason is Reason.OUTLIER
    provider.is_well = True
    await until(lambda: not breaker.status.isolated)
    assert await breaker.call(works) == "charged"
    await breaker.aclose()


async def test_an_operators_word_of_an_hour_that_is_taken_back_is_not_waited_for(store: TellingStore) -> None:
    """Forced open for an hour and released at once: the probe is made when the cooldown is over."""
    provider = Provider()
    provider.is_well = True
    breaker = breaker_on(store, provider, cooldown_seconds=0.2)
    await trip(breaker)
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna", duration_ms=3_600_000))
    await asyncio.sleep(0)
    await store.control("c", Override(mode=Mode.AUTO, reason="done", actor="anna"))
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


@pytest.mark.parametrize("mode", list(Mode))
def test_an_operator_who_lets_calls_through_hurries_no_probe(mode: Mode) -> None:
    """The probe waits for the end of the cooldown, whatever the callers may do meanwhile."""
    circuit = Circuit("c", BreakerConfig(), replica_id="api-1", leaves_probing=True)
    circuit.see(View(state=State.OPEN, generation=1, revision=1, now_ms=1_000, retry_at_ms=21_000, mode=mode))
    assert circuit.probe_wait_seconds() == pytest.approx(20, abs=1)


@pytest.mark.parametrize("consistency", Consistency)
@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.METRICS_ONLY])
async def test_traffic_that_an_operator_lets_through_hurries_no_question(
    store: TellingStore, consistency: Consistency, mode: Mode
) -> None:
    """Calls end all the time, and that is no news: the background probe asks once in a cooldown."""
    provider = Provider()
    breaker = breaker_on(store, provider, consistency=consistency, cooldown_seconds=0.1)
    limits = breaker.config.limits()
    tripping = await store.acquire("c", "p1", limits, "another")
    failure = Report(permit_id="p1", generation=tripping.generation, outcome=Outcome.FAILURE, failures=1)
    await store.record("c", failure, limits)
    await asyncio.sleep(0.1)
    await store.acquire("c", "p2", limits, "another")
    await store.control("c", Override(mode=mode, reason="it works", actor="anna"))
    asked_before, began_at = store.asked.count(True), time.monotonic()
    for _ in range(60):
        with contextlib.suppress(ProviderDownError):
            await breaker.call(fails)
        await asyncio.sleep(0.005)
    cooldowns = (time.monotonic() - began_at) / 0.1
    assert store.asked.count(True) - asked_before <= cooldowns + 1
    await until(lambda: store.asked.count(True) >= asked_before + 4)
    assert provider.probes == 0
    await breaker.aclose()


async def test_a_cooldown_that_is_shorter_than_configured_is_not_overslept(store: TellingStore) -> None:
    """The answer to the report of a failure does not say for how long the circuit is open; the probe asks."""
    provider = Provider()
    provider.is_well = True
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=3600, consistency=Consistency.STRICT)
    breaker = CircuitBreaker("c", store, config, classify_error=lambda _: OpenFor(0.02), probe=provider.probe)
    await trip(breaker)
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_a_probe_may_close_its_own_breaker(store: TellingStore) -> None:
    """It does not wait for itself."""
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=COOLDOWN_SECONDS)

    async def probe() -> None:
        await breaker.aclose()

    breaker = CircuitBreaker("c", store, config, probe=probe)
    await trip(breaker)
    await until(lambda: is_resting(breaker))
    assert breaker.status.state is State.CLOSED


def test_a_breaker_can_be_closed_in_another_event_loop(store: TellingStore) -> None:
    """What waited in the one before is gone with it."""
    breaker = breaker_on(store, Provider(), cooldown_seconds=60)
    asyncio.run(trip(breaker))
    asyncio.run(breaker.aclose())


def test_a_call_that_is_closed_after_its_event_loop_starts_nothing(store: TellingStore) -> None:
    """As the collector does with what nobody awaits any more; there is no loop for a background probe, and no error."""
    breaker = breaker_on(store, Provider())

    async def begins() -> Coroutine[Any, Any, object]:
        await breaker.call(works)
        calling = breaker.call(asyncio.Event().wait)
        calling.send(None)
        return calling

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        calling = loop.run_until_complete(begins())
    calling.close()
    assert is_resting(breaker)


async def test_a_probe_that_wants_to_end_the_program_gives_its_place_back(store: TellingStore) -> None:
    """Such an error ends the task, as it would end any."""

    async def probe() -> None:
        raise SystemExit

    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=3600)
    breaker = CircuitBreaker("c", store, config, probe=probe)
    await breaker.call(works)
    prober = breaker._link._prober
    assert prober is not None
    store._clock = lambda: time.time() + 3600
    permit = await breaker.admit()
    await permit.settle(Outcome.FAILURE)
    store._clock = lambda: time.time() + 7201
    with pytest.raises(SystemExit):
        await prober._find_out()
    view = await store.snapshot("c")
    assert view is not None
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)
    await breaker.aclose()


async def test_a_probe_that_fails_in_a_way_of_its_own_has_failed(store: TellingStore) -> None:
    """Whatever it raises, the probing goes on."""
    probes = 0

    class OddError(BaseException):
        """None of the usual."""

    async def probe() -> None:
        nonlocal probes
        probes += 1
        if probes == 1:
            raise OddError

    breaker = CircuitBreaker(
        "c", store, BreakerConfig(policy=Consecutive(1), cooldown_seconds=COOLDOWN_SECONDS), probe=probe
    )
    await trip(breaker)
    await until(lambda: breaker.status.state is State.CLOSED)
    await breaker.aclose()


async def test_a_probe_that_gives_nothing_to_await_is_named_in_the_log(
    store: TellingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It would fail each time, and nobody would find out why the circuit never closes."""

    def well() -> bool:
        return True

    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=COOLDOWN_SECONDS)
    breaker = CircuitBreaker("c", store, config, probe=well)  # type: ignore[arg-type]
    await trip(breaker)
    await until(lambda: "c: the background probe finds nothing out" in caplog.text)
    assert "well" in caplog.text
    await breaker.aclose()


async def test_what_the_store_refuses_is_not_asked_for_again_and_again(store: TellingStore) -> None:
    """Reports are of no use and have opened the circuit here; then an operator forces it open for everybody."""

    async def nonsense(*_: Any, **__: Any) -> Any:
        raise ScriptError("record answered 'what?'")

    provider = Provider()
    breaker = breaker_on(store, provider, consistency=Consistency.STRICT, cooldown_seconds=60)
    await breaker.call(works)
    store.record = nonsense  # type: ignore[method-assign]
    await trip(breaker)
    assert breaker._circuit._is_decided_here
    await store.control("c", Override(mode=Mode.FORCED_OPEN, reason="works on it", actor="anna"))
    with pytest.raises(CallNotPermittedError):
        await breaker._link.ask(in_background=True)
    assert breaker._circuit.probe_wait_seconds() is None


async def test_a_background_probe_that_is_told_to_wait_is_no_refused_call(store: TellingStore) -> None:
    """It asks for how long the circuit is open; nobody called, so nothing is counted or told."""
    heard: list[BreakerEvent] = []
    config = BreakerConfig(policy=Consecutive(1), cooldown_seconds=60, consistency=Consistency.STRICT)
    breaker = CircuitBreaker("c", store, config, probe=works, listeners=[heard.append])
    await trip(breaker)
    with pytest.raises(CallNotPermittedError):
        await breaker._link.ask(in_background=True)
    assert [event.kind for event in heard] == [EventKind.TRIPPED]
    assert breaker.status.refused == {}
    await breaker.aclose()

"""What a scrape shows of this replica's circuits, and what it costs."""

from __future__ import annotations

from typing import NoReturn

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from breaker import (
    BreakerConfig,
    CallNotPermittedError,
    CircuitBreaker,
    MemoryStore,
    Mode,
    Override,
    ScriptError,
    State,
    StoreUnavailableError,
    sync,
)
from breaker.integrations.httpx import PerHost
from breaker.integrations.prometheus import BreakerCollector
from tests.support.stores import ManualClock

NAME = "stripe:create_intent"
CONFIG = BreakerConfig(cooldown_seconds=30)


async def fails() -> None:
    """Fail as a sick dependency does."""
    raise ConnectionError


async def works() -> None:
    """Succeed."""


def fails_in_a_thread() -> None:
    """Fail likewise."""
    raise ConnectionError


def works_in_a_thread() -> None:
    """Succeed likewise."""


def exposed(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return what a scrape exposes, which a parser understands and in which every family and series is there once."""
    text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    assert list(parse_openmetrics(text.decode()))  # type: ignore[no-untyped-call]
    families = list(parse(generate_latest(registry).decode()))
    assert len({family.name for family in families}) == len(families)
    samples = [sample for family in families for sample in family.samples]
    shown = {
        (sample.name.removeprefix("switchgear_breaker_"), *sample.labels.values()): sample.value for sample in samples
    }
    assert len(shown) == len(samples)
    return shown


class _Scraped:
    """One breaker, and what a scrape says of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.breaker = CircuitBreaker(NAME, self.store, CONFIG)
        self.collector = BreakerCollector(self.store, [self.breaker])
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def value(self, metric: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"switchgear_breaker_{metric}", {"circuit": NAME, **labels})

    def those_of(self, metric: str) -> dict[str, float]:
        """Return the values of a metric by its other label."""
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        return {
            next(value for label, value in sample.labels.items() if label != "circuit"): sample.value
            for sample in samples
            if sample.name == f"switchgear_breaker_{metric}"
        }

    async def trip(self) -> None:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await self.breaker.call(fails)


@pytest.fixture
def scraped() -> _Scraped:
    """A registry that shows one breaker."""
    return _Scraped()


async def test_every_series_is_there_before_anything_happens(scraped: _Scraped) -> None:
    """Counters begin with 0, so that the first refusal and the first trip are increases."""
    assert scraped.those_of("state") == {"closed": 1, "open": 0, "half_open": 0}
    assert scraped.those_of("mode") == {"auto": 1, "forced_open": 0, "forced_closed": 0, "metrics_only": 0}
    reasons = ["open", "probing", "ramping", "forced_open", "outlier", "store_unavailable"]
    assert scraped.those_of("refusals_total") == dict.fromkeys(reasons, 0)
    kinds = ["tripped", "half_opened", "reopened", "closed", "outlier", "config_differs"]
    assert scraped.those_of("transitions_total") == dict.fromkeys(kinds, 0)
    assert (scraped.value("isolated"), scraped.registry.get_sample_value("switchgear_breaker_degraded")) == (0, 0)


async def test_an_outage_and_its_end_can_be_followed(scraped: _Scraped) -> None:
    """State, refusals by reason and transitions, as they happen."""
    await scraped.trip()
    for _ in range(2):
        with pytest.raises(CallNotPermittedError):
            await scraped.breaker.call(works)
    assert scraped.those_of("state") == {"closed": 0, "open": 1, "half_open": 0}
    assert (scraped.value("refusals_total", reason="open"), scraped.value("refusals_total", reason="probing")) == (2, 0)
    scraped.clock.advance(30)
    permit = await scraped.breaker.admit()
    assert scraped.those_of("state") == {"closed": 0, "open": 0, "half_open": 1}
    with pytest.raises(CallNotPermittedError):
        await scraped.breaker.call(works)
    assert scraped.value("refusals_total", reason="probing") == 1
    await permit.returned(None)
    counted = {kind: count for kind, count in scraped.those_of("transitions_total").items() if count}
    assert counted == {"tripped": 1, "half_opened": 1, "closed": 1}
    assert scraped.value("state", state="closed") == 1


async def test_an_operators_mode_shows(scraped: _Scraped) -> None:
    """As soon as this replica has heard of it."""
    await scraped.store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="maintenance", actor="ada"))
    with pytest.raises(CallNotPermittedError):
        await scraped.breaker.call(works)
    assert (scraped.value("mode", mode="forced_open"), scraped.value("mode", mode="auto")) == (1, 0)
    assert scraped.value("refusals_total", reason="forced_open") == 1


async def test_a_replica_that_fails_alone_shows_itself() -> None:
    """It stays away by itself while the fleet's circuit is closed."""
    scraped = _Scraped()
    quorum = BreakerConfig(cooldown_seconds=30, minimum_reporters=2)
    scraped.breaker = CircuitBreaker(NAME, scraped.store, quorum)
    registry = scraped.registry = CollectorRegistry()
    registry.register(BreakerCollector(scraped.store, [scraped.breaker]))
    await scraped.trip()
    assert (scraped.value("isolated"), scraped.value("state", state="closed")) == (1, 1)
    assert scraped.value("transitions_total", transition="outlier") == 1


async def test_calls_given_up_after_a_look_count_as_refusals(scraped: _Scraped) -> None:
    """Looking counts nothing; whoever turns a call away because of it says so."""
    await scraped.trip()
    refusal = await scraped.breaker.peek()
    assert refusal is not None
    assert scraped.value("refusals_total", reason="open") == 0
    scraped.collector.count_refusal(refusal.breaker, refusal.reason)
    with pytest.raises(CallNotPermittedError):
        await scraped.breaker.call(works)
    assert scraped.value("refusals_total", reason="open") == 2


async def test_a_store_that_is_away_shows() -> None:
    """`degraded` is the store's own word, read at the scrape."""

    class Away(MemoryStore):
        degraded = False

    store, registry = Away(), CollectorRegistry()
    registry.register(BreakerCollector(store))
    values = [registry.get_sample_value("switchgear_breaker_degraded")]
    store.degraded = True
    values.append(registry.get_sample_value("switchgear_breaker_degraded"))
    assert values == [0, 1]


async def test_a_store_that_is_of_no_use_for_a_circuit_shows() -> None:
    """It is there, but under one circuit's keys lies something else: that circuit is guarded by this replica alone."""

    class Spoiled(MemoryStore):
        async def acquire(self, *_: object, **__: object) -> NoReturn:
            raise ScriptError("WRONGTYPE")

    store, registry = Spoiled(), CollectorRegistry()
    breaker = CircuitBreaker(NAME, store)
    registry.register(BreakerCollector(store, [breaker]))
    assert registry.get_sample_value("switchgear_breaker_degraded") == 0
    await breaker.call(works)
    assert not store.degraded
    assert registry.get_sample_value("switchgear_breaker_degraded") == 1


async def test_breakers_made_later_are_scraped_too() -> None:
    """A list that grows and the circuits of an HTTP client show what they hold at the moment."""
    store, registry = MemoryStore(), CollectorRegistry()
    own, per_host = list[CircuitBreaker](), PerHost(store, CONFIG)
    registry.register(BreakerCollector(store, own, per_host))
    own.append(CircuitBreaker("own", store))
    per_host(httpx.Request("GET", "https://api.example.com"))
    for circuit in ("own", "api.example.com:443"):
        labels = {"circuit": circuit, "state": "closed"}
        assert registry.get_sample_value("switchgear_breaker_state", labels) == 1


async def test_a_scrape_asks_nobody() -> None:
    """It is answered from memory, so it neither waits for Redis nor changes a circuit."""

    class Silent(MemoryStore):
        async def snapshot(self, name: str) -> None:
            raise StoreUnavailableError(name)

    store, registry = Silent(), CollectorRegistry()
    breaker = CircuitBreaker(NAME, store, CONFIG)
    registry.register(BreakerCollector(store, [breaker]))
    generate_latest(registry)
    assert await store.names() == []
    assert breaker.status.state is State.CLOSED


def test_breakers_of_threads_are_scraped_as_well() -> None:
    """They are shown like those of tasks."""
    store, registry = sync.MemoryStore(), CollectorRegistry()
    guarded = sync.CircuitBreaker(NAME, store, CONFIG)
    registry.register(BreakerCollector(store, [guarded]))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            guarded.call(fails_in_a_thread)
    assert exposed(registry)["state", NAME, "open"] == 1
    store.close()


async def test_one_collector_shows_several_stores(scraped: _Scraped) -> None:
    """A process with tasks and threads shows the circuits of both, and whether any of its stores is away."""

    class Away(sync.MemoryStore):
        degraded = False

    store = Away()
    own = sync.CircuitBreaker("own", store, CONFIG)
    scraped.collector.add(store, [own])
    await scraped.trip()
    shown = exposed(scraped.registry)
    assert (shown["state", NAME, "open"], shown["state", "own", "closed"], shown["degraded",]) == (1, 1, 0)
    store.degraded = True
    assert exposed(scraped.registry)["degraded",] == 1
    store.close()


async def test_a_circuit_that_tasks_and_threads_share_is_shown_once(scraped: _Scraped) -> None:
    """As the one that heard of it last knows it, with what both have counted."""
    store = sync.MemoryStore(scraped.clock)
    store._circuits = scraped.store
    in_threads = sync.CircuitBreaker(NAME, store, CONFIG)
    scraped.collector.add(store, [in_threads])
    in_threads.call(works_in_a_thread)
    await scraped.trip()
    shown = exposed(scraped.registry)
    assert (shown["state", NAME, "open"], shown["state", NAME, "closed"], shown["isolated", NAME]) == (1, 0, 0)
    with pytest.raises(CallNotPermittedError):
        await scraped.breaker.call(works)
    for _ in range(2):
        with pytest.raises(CallNotPermittedError):
            in_threads.call(works_in_a_thread)
    scraped.collector.count_refusal(NAME, "open")
    scraped.clock.advance(30)
    in_threads.call(works_in_a_thread)
    shown = exposed(scraped.registry)
    assert (shown["state", NAME, "open"], shown["state", NAME, "closed"]) == (0, 1)
    assert shown["refusals_total", NAME, "open"] == 4
    assert [shown["transitions_total", NAME, kind] for kind in ("tripped", "half_opened", "closed")] == [1, 1, 1]
    store.close()


def test_a_second_collector_is_refused_by_the_registry(scraped: _Scraped) -> None:
    """Its series would be those of the first, which no scrape can take: a mistake to be seen when it is made."""
    with pytest.raises(ValueError, match="switchgear_breaker_state"):
        scraped.registry.register(BreakerCollector(scraped.store))
    assert exposed(scraped.registry)["state", NAME, "closed"] == 1

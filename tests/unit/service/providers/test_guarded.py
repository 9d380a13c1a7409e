from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from breaker import BreakerConfig, BreakerEvent, Consecutive, EventKind, MemoryStore, State
from service.providers.base import (
    CallRefusedError,
    Declined,
    Executed,
    FailureKind,
    Health,
    ProviderError,
    ProviderOperation,
)
from service.providers.guarded import GuardedProvider
from tests.unit.service.providers.scripted import INTENT, REQUEST, Act, ScriptedProvider

CIRCUIT = "scripted:create_intent"
CREATE = ProviderOperation.CREATE_INTENT
NO, UNKNOWN = Executed.NO, Executed.UNKNOWN


def failing(
    kind: FailureKind = FailureKind.SERVER_ERROR,
    executed: Executed = UNKNOWN,
    health: Health = Health.SICK,
    **more: Any,
) -> Callable[[], ProviderError]:
    """Fail so at each call."""
    return lambda: ProviderError(kind, executed=executed, health=health, **more)


SICK = failing()
LOST = failing(FailureKind.CONNECTION_LOST, retry_same_key=True)
UNREACHABLE = failing(FailureKind.UNREACHABLE, NO, retry_same_key=True)
LIMITED = failing(FailureKind.RATE_LIMITED, NO, Health.SAYS_NOTHING, retry_after_seconds=1.5, retry_same_key=True)
REFUSED = failing(FailureKind.REQUEST_REFUSED, NO, Health.HEALTHY)
CREDENTIALS = failing(FailureKind.CREDENTIALS_REFUSED, NO, Health.SAYS_NOTHING)
OVERLOADED = failing(FailureKind.OVERLOADED, NO, Health.SAYS_NOTHING)
DECLINED = Declined(code="card_declined")


@dataclass
class Bench:
    """A guarded provider and what can be seen of it."""

    guarded: GuardedProvider
    provider: ScriptedProvider
    store: MemoryStore
    events: list[BreakerEvent]

    async def failures(self) -> int:
        """Tell how many failures the circuit counts."""
        seen = await self.store.snapshot(CIRCUIT)
        assert seen is not None
        return seen.failures

    async def state(self) -> State:
        """Tell the circuit's state."""
        seen = await self.store.snapshot(CIRCUIT)
        assert seen is not None
        return seen.state

    async def fail(self) -> ProviderError:
        """Create an intent and give the failure."""
        with pytest.raises(ProviderError) as failed:
            await self.guarded.create_intent(REQUEST)
        return failed.value


def bench(*acts: Act, call_timeout_seconds: float = 4.0, **options: Any) -> Bench:
    """Guard a provider that plays these acts."""
    provider, store = ScriptedProvider(*acts), MemoryStore()
    events: list[BreakerEvent] = []
    config = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30.0, call_timeout_seconds=call_timeout_seconds)
    guarded = GuardedProvider(provider, store, config, listeners=[events.append], **options)
    return Bench(guarded, provider, store, events)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note every wait instead of waiting."""
    noted: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        noted.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return noted


async def test_three_sick_failures_open_the_circuit_and_the_fourth_call_is_not_made() -> None:
    """After three failures in a row the provider is left alone, and the refusal says for how long."""
    b = bench(SICK)
    for _ in range(3):
        assert (await b.fail()).kind is FailureKind.SERVER_ERROR
    with pytest.raises(CallRefusedError) as refused:
        await b.guarded.create_intent(REQUEST)
    assert len(b.provider.calls) == 3
    assert refused.value.circuit == CIRCUIT
    assert 0 < refused.value.retry_after_seconds <= 30.0


async def test_repeat_carries_the_same_request() -> None:
    """A repeat asks for the same with the same key, and its answer is the answer."""
    b = bench(LOST, INTENT)
    assert await b.guarded.create_intent(REQUEST) is INTENT
    assert b.provider.calls == [REQUEST, REQUEST]


async def test_attempts_are_bounded() -> None:
    """A failure that a repeat could help with is repeated as often as configured and not once more."""
    b = bench(UNREACHABLE, attempts=2)
    await b.fail()
    assert len(b.provider.calls) == 2
    assert await b.failures() == 2


async def test_failure_that_a_repeat_cannot_help_with_is_not_repeated() -> None:
    """A stored 500 would only come back."""
    b = bench(SICK, attempts=5)
    await b.fail()
    assert len(b.provider.calls) == 1


async def test_repeat_that_is_refused_leaves_the_failure_before_it() -> None:
    """When the first attempt trips the circuit, the caller hears of that attempt, not of the refusal."""
    b = bench(LOST, attempts=2)
    await b.fail()
    assert (await b.fail()).kind is FailureKind.CONNECTION_LOST
    assert len(b.provider.calls) == 3
    assert await b.state() is State.OPEN


async def test_refusal_is_never_repeated() -> None:
    """A call that the circuit refuses is refused once and waits for nothing."""
    b = bench(SICK, attempts=5)
    for _ in range(3):
        await b.fail()
    with pytest.raises(CallRefusedError):
        await b.guarded.create_intent(REQUEST)
    assert [event.kind for event in b.events] == [EventKind.TRIPPED, EventKind.REFUSED]


async def test_declines_never_open_the_circuit() -> None:
    """A refused card is a result: ten in a row say that the provider works."""
    b = bench(DECLINED)
    for _ in range(10):
        assert await b.guarded.create_intent(REQUEST) is DECLINED
    assert await b.state() is State.CLOSED
    assert len(b.provider.calls) == 10


@pytest.mark.parametrize("failure", [LIMITED, CREDENTIALS, OVERLOADED, REFUSED])
async def test_failures_that_do_not_mean_sickness_never_open_the_circuit(failure: Act) -> None:
    """A rate limit, our credentials, our pool and our mistakes are not held against the provider."""
    b = bench(failure, attempts=1)
    for _ in range(10):
        await b.fail()
    assert len(b.provider.calls) == 10
    assert await b.failures() == 0


async def test_rate_limit_carries_the_wait_outward() -> None:
    """The caller hears how long the provider asked to wait."""
    b = bench(LIMITED, attempts=1)
    assert (await b.fail()).retry_after_seconds == 1.5


async def test_answer_that_shows_health_ends_a_run_of_failures() -> None:
    """A refused request is an answer, so the failures before it are no longer in a row."""
    b = bench(SICK, SICK, REFUSED, SICK, SICK, INTENT)
    for _ in range(5):
        await b.fail()
    assert await b.guarded.create_intent(REQUEST) is INTENT


async def test_answer_that_says_nothing_leaves_a_run_of_failures() -> None:
    """A rate limit between them does not interrupt failures in a row."""
    b = bench(SICK, SICK, LIMITED, SICK, attempts=1)
    for _ in range(4):
        await b.fail()
    assert await b.state() is State.OPEN


async def test_attempt_that_takes_too_long_is_an_unknown_failure_and_not_repeated() -> None:
    """The attempt's whole time is limited: afterwards nobody knows, the provider counts as sick, the time is gone."""
    b = bench(None, call_timeout_seconds=0.05, attempts=3)
    failure = await b.fail()
    assert (failure.kind, failure.executed, failure.health) == (FailureKind.TIMED_OUT, UNKNOWN, Health.SICK)
    assert not failure.retry_same_key
    assert len(b.provider.calls) == 1
    assert await b.failures() == 1


async def test_cancelled_call_is_not_a_failure() -> None:
    """Callers that go away do not open the circuit."""
    b = bench(None)
    for _ in range(5):
        b.provider.called.clear()
        call = asyncio.create_task(b.guarded.create_intent(REQUEST))
        await b.provider.called.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(b.provider.calls) == 5
    assert await b.failures() == 0


async def test_our_own_bug_is_neither_counted_nor_repeated() -> None:
    """An error that is not the provider's comes through as it is."""
    b = bench(TypeError, attempts=3)
    for _ in range(5):
        with pytest.raises(TypeError):
            await b.guarded.create_intent(REQUEST)
    assert len(b.provider.calls) == 5
    assert await b.failures() == 0


@pytest.mark.parametrize(
    ("earlier", "later", "kind", "executed"),
    [
        (LOST, UNREACHABLE, FailureKind.CONNECTION_LOST, UNKNOWN),
        (LOST, CREDENTIALS, FailureKind.CONNECTION_LOST, UNKNOWN),
        (LOST, OVERLOADED, FailureKind.CONNECTION_LOST, UNKNOWN),
        (LOST, LIMITED, FailureKind.CONNECTION_LOST, UNKNOWN),
        (LOST, SICK, FailureKind.SERVER_ERROR, UNKNOWN),
        (LOST, REFUSED, FailureKind.REQUEST_REFUSED, NO),
        (UNREACHABLE, LOST, FailureKind.CONNECTION_LOST, UNKNOWN),
        (UNREACHABLE, CREDENTIALS, FailureKind.CREDENTIALS_REFUSED, NO),
        (UNREACHABLE, REFUSED, FailureKind.REQUEST_REFUSED, NO),
    ],
)
async def test_unknown_stays_unknown_unless_a_later_answer_proves_otherwise(
    earlier: Act, later: Act, kind: FailureKind, executed: Executed
) -> None:
    """That a repeat was not executed says nothing about the attempt before it, save when the request itself is bad."""
    failure = await bench(earlier, later, attempts=2).fail()
    assert (failure.kind, failure.executed) == (kind, executed)


async def test_unknown_survives_several_repeats() -> None:
    """One attempt of unknown outcome is not forgotten over two that reached nobody."""
    failure = await bench(LOST, UNREACHABLE, UNREACHABLE, attempts=3).fail()
    assert failure.executed is UNKNOWN


async def test_wait_that_a_repeat_was_asked_for_goes_with_the_unknown() -> None:
    """When the repeat hits a rate limit, the caller hears of the unknown and of the wait."""
    failure = await bench(LOST, LIMITED, attempts=2).fail()
    assert failure.retry_after_seconds == 1.5


async def test_decline_after_an_unknown_is_definite() -> None:
    """With the same key a decline speaks for every attempt."""
    assert await bench(LOST, DECLINED).guarded.create_intent(REQUEST) is DECLINED


async def test_wait_before_a_repeat_is_random_and_grows(waits: list[float]) -> None:
    """Waits lie between nothing and a bound that doubles up to its limit."""
    b = bench(
        failing(FailureKind.RATE_LIMITED, NO, Health.SAYS_NOTHING, retry_same_key=True),
        attempts=6,
        backoff_seconds=0.1,
        backoff_max_seconds=0.4,
    )
    await b.fail()
    assert len(waits) == 5
    assert all(0 <= wait <= bound for wait, bound in zip(waits, [0.1, 0.2, 0.4, 0.4, 0.4], strict=True))


async def test_asked_wait_is_honoured_when_it_fits(waits: list[float]) -> None:
    """A Retry-After within the time of the request is waited for before the repeat."""
    b = bench(LIMITED, INTENT, deadline_seconds=6.0)
    assert await b.guarded.create_intent(REQUEST) is INTENT
    assert waits == [1.5]


async def test_repeat_that_would_not_fit_into_the_time_is_not_made(waits: list[float]) -> None:
    """A Retry-After that leaves no room for a whole attempt ends the request at once."""
    b = bench(LIMITED, INTENT, deadline_seconds=5.0)
    assert (await b.fail()).kind is FailureKind.RATE_LIMITED
    assert len(b.provider.calls) == 1
    assert waits == []


async def test_each_operation_has_a_circuit_of_its_own() -> None:
    """Creating may be refused while reading still works."""
    b = bench(SICK, SICK, SICK, INTENT)
    for _ in range(3):
        await b.fail()
    assert await b.guarded.retrieve_intent("pi_1") is INTENT
    created_after = datetime(2026, 1, 1, tzinfo=UTC)
    assert await b.guarded.find_intent("op_1", created_after=created_after) is INTENT
    assert b.provider.calls[3:] == ["pi_1", ("op_1", created_after)]
    assert await b.store.names() == ["scripted:create_intent", "scripted:find_intent", "scripted:retrieve_intent"]


async def test_peek_tells_a_refusal_beforehand_and_calls_nothing() -> None:
    """Peeking names the circuit and the wait while it is open, and nothing while it is closed."""
    b = bench(SICK)
    assert await b.guarded.peek(CREATE) is None
    for _ in range(3):
        await b.fail()
    refusal = await b.guarded.peek(CREATE)
    assert refusal is not None
    assert refusal.circuit == CIRCUIT
    assert 0 < refusal.retry_after_seconds <= 30.0
    assert await b.guarded.peek(ProviderOperation.RETRIEVE_INTENT) is None
    assert len(b.provider.calls) == 3


async def test_closing_closes_the_provider() -> None:
    """The guard owns what it guards, and has its name."""
    b = bench(INTENT)
    assert b.guarded.name == "scripted"
    await b.guarded.aclose()
    assert b.provider.closed


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (BreakerConfig(call_timeout_seconds=4.0), {"attempts": 0}),
        (BreakerConfig(call_timeout_seconds=4.0), {"deadline_seconds": 3.0}),
        (BreakerConfig(call_timeout_seconds=None, lease_seconds=5.0), {}),
    ],
)
def test_nonsense_is_refused_at_construction(config: BreakerConfig, options: dict[str, Any]) -> None:
    """No attempts, an attempt longer than the request, and attempts without end make no guard."""
    with pytest.raises(ValueError, match=r"attempts|call_timeout_seconds"):
        GuardedProvider(ScriptedProvider(INTENT), MemoryStore(), config, **options)

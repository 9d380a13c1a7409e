"""What a request costs the database, and that it holds nothing of it while the provider is slow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import event

from service.database import Database
from service.payments.attempts import NewIntent
from service.payments.errors import PaymentRetryError, ServiceUnavailableError
from service.payments.idempotency import KeyClaim
from service.payments.use_cases import Payments
from service.providers.base import CallRefusedError, ProviderStatus
from tests.support.fake_provider import TIMED_OUT, UNREACHABLE, FakeProvider

NEW = NewIntent(
    payer_id="payer_1",
    project_id="proj_1",
    milestone_id="ms_1",
    amount=12_500,
    currency="EUR",
    return_url="https://shop.example/return",
)
KEY = KeyClaim("payer_1", "POST /payments/intents", "key-1", "fingerprint-1")


class Bill:
    """Counts statements by transaction: `[4, 3]` is one of four and one of three."""

    def __init__(self) -> None:
        self.transactions: list[int] = []

    def take(self) -> list[int]:
        """Give the bill, and begin a new one."""
        taken, self.transactions = self.transactions, []
        return taken


@pytest_asyncio.fixture
async def bill(database: Database) -> Bill:
    """Counts from here on, on a connection that is open already."""
    await database.ping()
    bill = Bill()
    engine = database.engine.sync_engine
    event.listen(engine, "begin", lambda _: bill.transactions.append(0))

    @event.listens_for(engine, "before_cursor_execute")
    def count(*_: object) -> None:
        bill.transactions[-1] += 1

    return bill


async def test_fresh_request(payments: Payments, bill: Bill) -> None:
    """Two transactions: four statements before the call, three without a key, and three after it."""
    await payments.create(NEW, KEY)
    assert bill.take() == [4, 3]
    await payments.create(replace(NEW, milestone_id="ms_2"), None)
    assert bill.take() == [3, 3]


async def test_repeat_of_a_success(payments: Payments, bill: Bill) -> None:
    """A repeat is found out by one claim that fails and one read."""
    await payments.create(NEW, KEY)
    bill.take()
    await payments.create(NEW, KEY)
    assert bill.take() == [1, 1]


async def test_open_circuit(payments: Payments, provider: FakeProvider, bill: Bill) -> None:
    """While the provider is not called, a request without a key costs nothing here, and one with a key a read."""
    provider.refusal = CallRefusedError("stripe:create_intent", 1)
    for key, cost in ((None, []), (KEY, [1])):
        with pytest.raises(ServiceUnavailableError):
            await payments.create(NEW, key)
        assert bill.take() == cost


async def test_resumed_requests(payments: Payments, provider: FakeProvider, bill: Bill) -> None:
    """Going on with what is unknown: claim, read, lease, note the send, settle. With what was rejected: one less."""
    provider.fail_next(*TIMED_OUT)
    provider.fail_next(*UNREACHABLE)
    with pytest.raises(PaymentRetryError):
        await payments.create(NEW, KEY)
    bill.take()
    provider.faults.clear()
    await payments.create(NEW, KEY)
    assert bill.take() == [1, 1, 1, 1, 3]
    other = replace(NEW, milestone_id="ms_2")
    key = replace(KEY, key="key-2")
    provider.fail_next(*UNREACHABLE)
    with pytest.raises(PaymentRetryError):
        await payments.create(other, key)
    bill.take()
    await payments.create(other, key)
    assert bill.take() == [1, 1, 3, 3]


async def test_reading(payments: Payments, provider: FakeProvider, bill: Bill) -> None:
    """One read; a refresh that brings news adds one transaction of two statements, and one without adds nothing."""
    intent = (await payments.create(NEW, KEY)).intent
    bill.take()
    await payments.read("payer_1", intent.public_id, refresh=False)
    assert bill.take() == [1]
    await payments.read("payer_1", intent.public_id, refresh=True)
    assert bill.take() == [1]
    provider.put(str(intent.provider_intent_id), status=ProviderStatus.AUTHORIZED)
    await payments.read("payer_1", intent.public_id, refresh=True)
    assert bill.take() == [1, 2]


async def test_nothing_is_held_while_the_provider_is_called(
    database: Database, payments: Payments, provider: FakeProvider
) -> None:
    """During every kind of call, no connection is out of the pool: a slow provider cannot use up the database."""
    seen: list[int] = []
    provider.during_call = lambda: seen.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
    provider.fail_next(*TIMED_OUT)
    with pytest.raises(PaymentRetryError):
        await payments.create(NEW, KEY)
    intent = (await payments.create(NEW, KEY)).intent
    await payments.read("payer_1", intent.public_id, refresh=True)
    assert [method for method, _ in provider.calls] == ["create", "find", "create", "retrieve"]
    assert seen == [0, 0, 0, 0]


async def test_more_slow_payments_than_connections(
    database: Database, payments: Payments, provider: FakeProvider
) -> None:
    """Fifty payments wait for the provider at once over a pool of twenty connections."""
    provider.hold = asyncio.Event()
    wishes = [replace(NEW, milestone_id=f"ms_{number}") for number in range(50)]
    asked = [asyncio.create_task(payments.create(wish, None)) for wish in wishes]
    await provider.wait_for_calls(len(wishes))
    await database.ping()
    provider.hold.set()
    await asyncio.gather(*asked)
    assert len(provider.intents) == 50

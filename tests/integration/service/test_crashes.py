"""A replica dies at any point of a request: the next request with the same key puts it right, and money moves once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from service.payments.attempts import NewIntent
from service.payments.errors import PaymentRetryError
from service.payments.idempotency import KeyClaim
from service.payments.submission import Created
from service.payments.use_cases import Payments
from tests.support.crash import CancelledAt, KilledAt, KilledError
from tests.support.fake_provider import TIMED_OUT, UNREACHABLE, FakeProvider
from tests.support.service import open_database

# More than any flow here has; the sweep ends by itself when the victim reaches its end alive.
MOST_SUSPENSIONS = 150
DEADLINE_SECONDS = 5.0

Begin = Callable[[FakeProvider], None]
Stop = Callable[[Coroutine[Any, Any, Any], int], Awaitable[Any]]


def wish(number: int) -> tuple[NewIntent, KeyClaim]:
    """Give the request of one victim; its amount is what it is known by at the provider."""
    new = NewIntent(
        payer_id="payer_1",
        project_id="proj_1",
        milestone_id=f"ms_{number}",
        amount=1000 + number,
        currency="EUR",
        return_url="https://shop.example/return",
    )
    return new, KeyClaim("payer_1", "POST /payments/intents", f"key-{number}", f"fingerprint-{number}")


@pytest_asyncio.fixture
async def witness(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of nobody's, to bury victims and to look at what they left."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def fresh(_: FakeProvider) -> None:
    """Nothing was asked before."""


def lost_answer(provider: FakeProvider) -> None:
    """An earlier request had its effect and lost the answer."""
    provider.fail_next(*TIMED_OUT, after_effect=True)


def lost_request(provider: FakeProvider) -> None:
    """An earlier request was lost on its way."""
    provider.fail_next(*TIMED_OUT)


def unreachable(provider: FakeProvider) -> None:
    """An earlier request could not connect."""
    provider.fail_next(*UNREACHABLE)


async def bury(witness: asyncpg.Connection) -> None:
    """End the sessions of a dead replica, as its host's end would, and let its leases lapse."""
    await witness.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'victim' AND datname = current_database()"
    )
    await witness.execute(
        "UPDATE psp_operations SET lease_until = now() - interval '1 second' WHERE lease_until > now()"
    )


async def check(witness: asyncpg.Connection, provider: FakeProvider, new: NewIntent, created: Created) -> None:
    """Look that there is one intent here and one there, and a whole history."""
    made = [intent for intent in provider.intents.values() if intent.amount == new.amount]
    assert [intent.provider_intent_id for intent in made] == [created.intent.provider_intent_id]
    (row,) = await witness.fetch(
        "SELECT version, (SELECT array_agg(seq ORDER BY seq) FROM intent_events WHERE intent_id = i.id) AS events,"
        " (SELECT count(*) FROM psp_operations WHERE intent_id = i.id AND status = 'succeeded') AS succeeded"
        " FROM payment_intents i WHERE milestone_id = $1",
        new.milestone_id,
    )
    assert row["events"] == list(range(1, row["version"] + 1))
    assert row["succeeded"] == 1


@pytest.fixture
def sweep(
    database_url: str, payments: Payments, provider: FakeProvider, witness: asyncpg.Connection
) -> Callable[[Begin, Stop], Awaitable[int]]:
    """Stop one victim at each of its awaits, repeat its request, and check; gives the number of awaits."""

    async def run(begin: Begin, stop: Stop) -> int:
        for suspension in range(1, MOST_SUSPENSIONS):
            new, key = wish(suspension)
            begin(provider)
            if provider.faults:
                with pytest.raises(PaymentRetryError):
                    await payments.create(new, key)
            replica = open_database(database_url, name="victim")
            await replica.ping()  # connected, as a replica under load is
            victim = Payments(replica, provider, deadline_seconds=DEADLINE_SECONDS)
            task = asyncio.create_task(_stopped(stop(victim.create(new, key), suspension)))
            await asyncio.wait({task})
            end = asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
            assert isinstance(end, (Created, KilledError, asyncio.CancelledError)), end
            await bury(witness)
            await check(witness, provider, new, await payments.create(new, key))
            await replica.aclose()
            if isinstance(end, Created):  # it lived to tell
                return suspension - 1
        raise AssertionError("the victim never reached its end")

    return run


async def _stopped(victim: Awaitable[Any]) -> Any:
    return await victim


@pytest.mark.parametrize("begin", [fresh, lost_answer, lost_request, unreachable])
async def test_killed_at_any_await(sweep: Callable[[Begin, Stop], Awaitable[int]], begin: Begin) -> None:
    """Wherever a replica is killed, the repeat ends with one intent here and one at the provider."""
    assert await sweep(begin, KilledAt) > 10


@pytest.mark.parametrize("begin", [fresh, lost_answer])
async def test_cancelled_at_any_await(sweep: Callable[[Begin, Stop], Awaitable[int]], begin: Begin) -> None:
    """The same when the task is cancelled there and its handlers run."""
    assert await sweep(begin, CancelledAt) > 10


async def test_the_harness_really_kills() -> None:
    """A killed coroutine does not run what stands after the await, not even in `finally`."""
    reached = []

    async def victim() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            reached.append("finally")

    with pytest.raises(KilledError):
        await KilledAt(victim(), 1)
    assert reached == []

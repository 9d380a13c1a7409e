"""Many requests at once, on several replicas: one operation, one call, one intent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx

from service.payments.attempts import NewIntent
from service.payments.errors import EscrowExistsError, IdempotencyInProgressError, PaymentRetryError
from service.payments.idempotency import KeyClaim
from service.payments.submission import Created
from service.payments.use_cases import Payments
from tests.support.fake_provider import TIMED_OUT, UNREACHABLE, FakeProvider
from tests.support.service import body, open_database, serving, settings_for

NEW = NewIntent(
    payer_id="payer_1",
    project_id="proj_1",
    milestone_id="ms_1",
    amount=12_500,
    currency="EUR",
    return_url="https://shop.example/return",
)
KEY = KeyClaim("payer_1", "POST /payments/intents", "key-1", "fingerprint-1")


async def test_ten_with_one_key_are_one_operation(database_url: str, provider: FakeProvider, sql: Any) -> None:
    """Ten requests with one key, spread over three replicas: one is served, the others are told to wait."""
    provider.hold = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients: list[httpx.AsyncClient] = []
        for replica in ("r1", "r2", "r3"):
            settings = settings_for(database_url, replica_id=replica)
            clients.append((await stack.enter_async_context(serving(settings, provider)))[0])
        headers = {"Idempotency-Key": "key-1"}
        asked = [
            asyncio.create_task(clients[number % 3].post("/payments/intents", json=body(), headers=headers))
            for number in range(10)
        ]
        # Nine can be answered while the first is held at the provider.
        while sum(task.done() for task in asked) < 9:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        provider.hold.set()
        answers = [await task for task in asked]
        winner = next(answer for answer in answers if answer.status_code == 201)
        waiting = [answer for answer in answers if answer is not winner]
        assert {(answer.status_code, answer.json()["code"]) for answer in waiting} == {(409, "idempotency_in_progress")}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in waiting)
        replays = [await client.post("/payments/intents", json=body(), headers=headers) for client in clients]
        assert {replay.content for replay in replays} == {winner.content}
    assert len(provider.calls) == 1
    assert sql("SELECT count(*) FROM psp_operations") == ["1"]


async def test_two_tabs_make_one_intent(database_url: str, provider: FakeProvider, sql: Any) -> None:
    """The same milestone from two tabs, with a key each and without: one intent, and nobody gets an error of ours."""
    async with serving(settings_for(database_url), provider) as (api, _):
        answers = await asyncio.gather(
            *(
                api.post("/payments/intents", json=body(), headers={"Idempotency-Key": f"tab-{tab}"})
                for tab in range(4)
            ),
            *(api.post("/payments/intents", json=body()) for _ in range(4)),
        )
    told = sorted((answer.status_code, answer.json().get("code")) for answer in answers)
    assert told[0][0] == 201
    assert {code for _, code in told[1:]} <= {"escrow_exists", "idempotency_in_progress"}
    assert len(provider.intents) == len(provider.calls) == 1
    assert sql("SELECT count(*) FROM payment_intents") == ["1"]
    assert sql("SELECT count(*) FROM idempotency_keys") in (["0"], ["1"])


async def race(database_url: str, provider: FakeProvider) -> list[Any]:
    """Let six replicas resume one operation at once."""
    async with AsyncExitStack() as stack:
        replicas = []
        for _ in range(6):
            database = open_database(database_url)
            stack.push_async_callback(database.aclose)
            await database.ping()
            replicas.append(Payments(database, provider, deadline_seconds=5.0))
        return await asyncio.gather(*(replica.create(NEW, KEY) for replica in replicas), return_exceptions=True)


async def test_one_of_many_takes_over_what_is_unknown(
    database_url: str, payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """Six repeats find an operation without a known end: one asks the provider, and nothing is created twice."""
    provider.fail_next(*TIMED_OUT, after_effect=True)
    (first,) = await asyncio.gather(payments.create(NEW, KEY), return_exceptions=True)
    assert isinstance(first, PaymentRetryError)
    ends = await race(database_url, provider)
    assert {type(end) for end in ends} <= {Created, IdempotencyInProgressError}
    assert any(isinstance(end, Created) for end in ends)
    assert (provider.count("create"), provider.count("find"), len(provider.intents)) == (1, 1, 1)
    assert sql("SELECT status FROM psp_operations") == ["succeeded"]


async def test_one_of_many_begins_the_next_operation(
    database_url: str, payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """Six repeats find a rejected operation: one next operation, one call."""
    provider.fail_next(*UNREACHABLE)
    (first,) = await asyncio.gather(payments.create(NEW, KEY), return_exceptions=True)
    assert isinstance(first, PaymentRetryError)
    ends = await race(database_url, provider)
    assert {type(end) for end in ends} <= {Created, IdempotencyInProgressError}
    assert (provider.count("create"), len(provider.intents)) == (2, 1)
    assert sql("SELECT seq, status FROM psp_operations ORDER BY seq") == ["1|rejected", "2|succeeded"]


async def test_who_lost_the_lease_answers_what_the_other_stored(
    database_url: str, payments: Payments, provider: FakeProvider, sql: Any
) -> None:
    """A call that outlives its lease stores nothing: the one who took over has the say, and both tell the same."""
    provider.hold = asyncio.Event()
    slow = asyncio.create_task(payments.create(NEW, KEY))
    await provider.wait_for_calls(1)
    sql("UPDATE psp_operations SET lease_until = now() - interval '1 second'")
    database = open_database(database_url)
    other = asyncio.create_task(Payments(database, provider, deadline_seconds=5.0).create(NEW, KEY))
    await provider.wait_for_calls(3)  # the held one, the search, the repeat
    provider.hold.set()
    ends = await asyncio.gather(slow, other, return_exceptions=True)
    await database.aclose()
    created = [end for end in ends if isinstance(end, Created)]
    assert {type(end) for end in ends} <= {Created, IdempotencyInProgressError}
    assert {end.intent.provider_intent_id for end in created} == {
        intent.provider_intent_id for intent in provider.intents.values()
    }
    assert sql("SELECT attempts, status FROM psp_operations") == ["2|succeeded"]
    assert sql("SELECT type FROM intent_events ORDER BY seq") == ["created", "operation_succeeded"]


async def test_different_milestones_do_not_wait_for_each_other(payments: Payments, provider: FakeProvider) -> None:
    """While one payment is held at the provider, another goes through."""
    provider.hold = asyncio.Event()
    held = asyncio.create_task(payments.create(NEW, KEY))
    await provider.wait_for_calls(1)
    hold, provider.hold = provider.hold, None
    other = NewIntent(
        payer_id="payer_2",
        project_id="proj_1",
        milestone_id="ms_2",
        amount=1,
        currency="EUR",
        return_url="https://shop.example/return",
    )
    await payments.create(other, None)
    hold.set()
    await held
    assert len(provider.intents) == 2


async def test_live_milestone_check_holds_against_a_wrong_key(payments: Payments, provider: FakeProvider) -> None:
    """Whoever comes with another key for the same milestone at the same time is refused, not served."""
    other = KeyClaim("payer_1", KEY.route, "key-2", KEY.fingerprint)
    ends = await asyncio.gather(payments.create(NEW, KEY), payments.create(NEW, other), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == sorted([Created.__name__, EscrowExistsError.__name__])
    assert len(provider.calls) == 1

"""What the scripts publish, and when; copies of circuits live from it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from breaker import FailureRate, Mode, Outcome, Override, RedisStore, State, Store, View, _wire
from breaker._wire import view_of
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)
_CHANNEL = f"breaker:{{{NAME}}}:changes"


class Listener:
    """Somebody who follows the circuit beside its replicas."""

    def __init__(self, client: Any, pubsub: Any) -> None:
        self._client, self._pubsub = client, pubsub
        self.fields: set[str] = set()

    async def heard(self) -> list[View]:
        """Return every message since the last time."""
        await self._client.publish(_CHANNEL, "that is all")
        views: list[View] = []
        while True:
            message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is None:
                continue
            if message["data"] == b"that is all":
                return views
            fields = json.loads(message["data"])
            self.fields |= set(fields)
            views.append(view_of(fields))


@pytest_asyncio.fixture
async def listener(store: Store) -> AsyncIterator[Listener]:
    """A listener that subscribed before anything happened."""
    assert isinstance(store, RedisStore)
    async with store._client.pubsub() as pubsub:
        await pubsub.subscribe(_CHANNEL)
        yield Listener(store._client, pubsub)


async def test_a_message_is_the_record_and_what_the_clock_makes_of_it(circuit: Circuit, listener: Listener) -> None:
    """Nothing else is in it, nor what is empty or zero: every replica reads it, and no longer than it has to."""
    await circuit.permit()
    assert len(await listener.heard()) == 1
    assert isinstance(circuit.store, RedisStore)
    record = await circuit.store._client.hgetall(f"breaker:{{{NAME}}}")
    told = {_wire.text(field) for field, text in record.items() if _wire.text(text) not in {"", "0"}}
    assert listener.fields == told | {"now_ms", "replicas"}
    assert {"state", "generation", "config"} <= told


async def test_whoever_hears_all_circuits_is_no_replica(circuit: Circuit) -> None:
    """A subscription to a pattern counts as none, and no replica is no word of the message."""
    assert isinstance(circuit.store, RedisStore)
    client = circuit.store._client
    async with client.pubsub() as pubsub:
        await pubsub.psubscribe("breaker:*")
        listener = Listener(client, pubsub)
        await circuit.permit()
        assert [seen.replicas for seen in await listener.heard()] == [0]
        assert "replicas" not in listener.fields


async def test_every_change_is_told_once_and_whole(circuit: Circuit, listener: Listener) -> None:
    """From creation through an outage to the reset: one message for each revision, and the last one is the circuit."""
    await circuit.fail(2)
    await circuit.succeed()
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.settle(await circuit.permit(), Outcome.IGNORED)
    await circuit.fail()
    await circuit.recover()
    await circuit.set_mode(Mode.METRICS_ONLY)
    await circuit.adjust(consecutive=5)
    await circuit.set_mode(None)
    heard = await listener.heard()
    assert [seen.revision for seen in heard] == list(range(1, len(heard) + 1))
    assert heard[-1] == await circuit.view()
    assert len({seen.generation for seen in heard}) == 7


async def test_a_message_tells_of_the_probes_that_are_out(circuit: Circuit, listener: Listener) -> None:
    """Taking a place and giving it back are both told of, with the end of the lease; no probe is no word."""
    await circuit.fail(3)
    await circuit.wait_out()
    probe = await circuit.permit()
    out = (await listener.heard())[-1]
    assert (out.probes_out, out.probe_until_ms, out.replicas) == (1, circuit.clock.now_ms + 5_000, 1)
    listener.fields.clear()
    await circuit.settle(probe, Outcome.IGNORED)
    back = (await listener.heard())[-1]
    assert (back.probes_out, back.probe_until_ms) == (0, 0)
    assert not {"probes_out", "probe_until_ms"} & listener.fields


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILURE])
async def test_the_end_of_a_recovery_tells_of_no_probes(circuit: Circuit, listener: Listener, outcome: Outcome) -> None:
    """Those that are still out belong to the generation that has ended."""
    circuit.configure(probe_limit=2)
    await circuit.fail(3)
    await circuit.wait_out()
    probe = await circuit.permit()
    await circuit.permit()
    await circuit.settle(probe, outcome)
    *_, last = await listener.heard()
    assert (last.state is State.OPEN) == (outcome is Outcome.FAILURE)
    assert (last.probes_out, last.probe_until_ms) == (0, 0)
    assert last._replace(replicas=0) == (await circuit.view())._replace(replicas=0)


async def test_a_mode_that_ended_is_told_of_by_the_call_that_found_out(circuit: Circuit, listener: Listener) -> None:
    """The message shows the circuit without the mode."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10)
    circuit.clock.advance(70)
    await listener.heard()
    await circuit.permit()
    assert [seen.mode for seen in await listener.heard()] == [Mode.AUTO, Mode.AUTO]
    await circuit.permit()
    assert await listener.heard() == []


async def test_what_changes_nothing_is_not_told(circuit: Circuit, listener: Listener) -> None:
    """Permits, refusals, stale reports, ignored outcomes, repeated failures and reads are no messages."""
    await circuit.succeed(3)
    stale = await circuit.permit()
    await circuit.fail()
    await circuit.settle(await circuit.permit(), Outcome.IGNORED)
    twice = await circuit.permit()
    await circuit.settle(twice, Outcome.FAILURE)
    assert len(await listener.heard()) == 3
    await circuit.settle(twice, Outcome.FAILURE)
    await circuit.view()
    assert await listener.heard() == []
    await circuit.fail()
    await listener.heard()
    await circuit.refusal()
    await circuit.settle(stale, Outcome.SUCCESS)
    assert await listener.heard() == []


async def test_what_a_rate_counts_is_not_told(circuit: Circuit, listener: Listener) -> None:
    """A message for every call would cost more than the calls; only the trip is told of, with the counts."""
    circuit.configure(policy=FailureRate(minimum_calls=10))
    await circuit.permit()
    assert len(await listener.heard()) == 1
    await circuit.fail(4)
    await circuit.count(5, slow=2)
    assert await listener.heard() == []
    await circuit.fail()
    (tripped,) = await listener.heard()
    assert (tripped.calls, tripped.failures, tripped.slow_calls) == (10, 5, 2)


async def test_an_outlier_is_told_of_when_it_begins_and_when_it_ends(circuit: Circuit, listener: Listener) -> None:
    """Everybody learns who fails alone, and that it is well again."""
    circuit.configure(policy=FailureRate(minimum_calls=2), minimum_reporters=2)
    await circuit.fail(2)
    await listener.heard()
    await circuit.fail(3, alone=True)
    await circuit.succeed(2, by="replica-2")
    assert [seen.outlier for seen in await listener.heard()] == ["replica-1"]
    await circuit.succeed(2)
    assert [seen.outlier for seen in await listener.heard()] == [""]


async def test_a_text_that_reads_like_nothing_is_told(circuit: Circuit, listener: Listener) -> None:
    """An operator or a replica may be called 0."""
    await circuit.store.control(NAME, Override(mode=Mode.FORCED_OPEN, reason="0", actor="0"))
    told = (await listener.heard())[-1]
    assert (told.mode_actor, told.mode_reason) == ("0", "0")

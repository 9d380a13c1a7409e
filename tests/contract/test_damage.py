"""What becomes of a circuit of which a part was lost, or that a hand has damaged."""

from __future__ import annotations

from typing import Any

import pytest

from breaker import Consecutive, FailureRate, Outcome, RedisStore, State, Store
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)
_RECORD = f"breaker:{{{NAME}}}"


@pytest.fixture
def client(store: Store) -> Any:
    """What the store talks to its server with; here it is the hand."""
    assert isinstance(store, RedisStore)
    return store._client


@pytest.mark.parametrize("operator", [True, False])
async def test_a_circuit_that_begins_anew_has_counted_nothing(circuit: Circuit, client: Any, operator: bool) -> None:
    """The record alone was evicted: what an earlier life has counted trips no later one, whoever begins it."""
    circuit.configure(policy=FailureRate(minimum_calls=20))
    await circuit.count(19, 19)
    await client.delete(_RECORD)
    if operator:
        await circuit.adjust(cooldown_ms=5)
    assert (await circuit.count(1)).state is State.CLOSED
    assert ((await circuit.view()).calls, (await circuit.view()).failures) == (1, 0)


async def test_a_circuit_that_begins_anew_knows_no_failures_in_a_row(circuit: Circuit, client: Any) -> None:
    """A failure that an earlier life has counted is another one here."""
    permit_id = circuit.new_id()
    for _ in range(2):
        assert (await circuit.tell(permit_id, (await circuit.permit())[1].generation, Outcome.FAILURE)).failures == 1
        await client.delete(_RECORD)


async def test_a_circuit_that_begins_anew_has_no_witnesses(circuit: Circuit, client: Any) -> None:
    """Who saw failures of an earlier life does not make a quorum."""
    circuit.configure(policy=Consecutive(1), minimum_reporters=2)
    await circuit.fail()
    await client.delete(_RECORD)
    assert (await circuit.fail(by="replica-2")).state is State.CLOSED


async def test_a_circuit_that_begins_anew_has_no_probes(circuit: Circuit, client: Any) -> None:
    """A place that was given in an earlier life is none."""
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit()
    await client.delete(_RECORD)
    await circuit.permit()
    assert ((await circuit.view()).state, (await circuit.view()).probes_out) == (State.CLOSED, 0)

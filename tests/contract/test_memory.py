from __future__ import annotations

from typing import Any

import pytest

from breaker import Consecutive, FailureRate, Mode, RedisStore, Store, View, _wire
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS
from tests.support.stores import ManualClock

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)

_RECORD = f"breaker:{{{NAME}}}"


@pytest.fixture
def client(store: Store) -> Any:
    """What the store talks to its server with."""
    assert isinstance(store, RedisStore)
    return store._client


async def test_a_rate_is_at_most_thirty_numbers(circuit: Circuit, clock: ManualClock, client: Any) -> None:
    """Whatever the traffic, a window is ten buckets of calls, failures and slow calls."""
    circuit.configure(policy=FailureRate(window_seconds=10, slow_call_seconds=1.0, minimum_calls=10**6))
    sizes = []
    for _ in range(80):
        await circuit.count(7, 3, slow=2)
        sizes.append(await client.hlen(f"breaker:{{{NAME}}}:window"))
        clock.advance(0.25)
    assert (sizes[0], max(sizes), sizes[-1]) == (3, 30, 30)


async def test_each_window_length_in_use_is_thirty_numbers(circuit: Circuit, clock: ManualClock, client: Any) -> None:
    """Replicas that look back for different spans keep ten buckets each, and those of a span that is gone go too."""
    sizes = []
    for turn in range(200):
        window_seconds = (10, 20)[turn % 2] if turn < 100 else 20
        circuit.configure(policy=FailureRate(window_seconds=window_seconds, slow_call_seconds=1.0, minimum_calls=10**6))
        await circuit.count(7, 3, slow=2)
        sizes.append(await client.hlen(f"breaker:{{{NAME}}}:window"))
        clock.advance(0.25)
    assert (max(sizes[:100]), sizes[-1]) == (60, 30)


async def test_nothing_is_written_of_what_did_not_happen(circuit: Circuit, client: Any) -> None:
    """A bucket without failures or slow calls has no number for them."""
    circuit.configure(policy=FailureRate(window_seconds=10))
    await circuit.count(7)
    assert await client.hvals(f"breaker:{{{NAME}}}:window") == [b"7"]


async def test_a_run_keeps_fewer_ids_than_its_threshold(circuit: Circuit, client: Any) -> None:
    """A replica that fails alone for long, where two are asked for, fills nothing."""
    circuit.configure(policy=Consecutive(3), minimum_reporters=2)
    await circuit.fail(20)
    assert await client.hlen(f"breaker:{{{NAME}}}:window") == 2
    assert await client.zcard(f"breaker:{{{NAME}}}:reporters") == 1


@pytest.mark.parametrize("policy", [Consecutive(1000), FailureRate(window_seconds=60, minimum_calls=10**6)])
async def test_replicas_that_are_gone_are_forgotten(
    circuit: Circuit, clock: ManualClock, client: Any, policy: Consecutive | FailureRate
) -> None:
    """Each deploy brings new replicas; of those before, who failed last more than an hour ago is not kept."""
    circuit.configure(policy=policy, minimum_reporters=1000)
    for number in range(20):
        await circuit.fail(by=f"replica-{number}")
        clock.advance(1000)
    assert await client.zcard(f"breaker:{{{NAME}}}:reporters") == 4


async def test_a_success_leaves_no_id_and_no_witness_of_a_row(circuit: Circuit, client: Any) -> None:
    """Where nothing but failures in a row is counted, nothing is left when they end."""
    circuit.configure(policy=Consecutive(3), minimum_reporters=2)
    await circuit.fail(20)
    await circuit.succeed()
    assert await client.exists(f"breaker:{{{NAME}}}:window", f"breaker:{{{NAME}}}:reporters") == 0


async def test_lapsed_leases_are_cleared_away(circuit: Circuit, clock: ManualClock, client: Any) -> None:
    """Probes of which nobody ever heard again leave nothing behind."""
    circuit.configure(probe_limit=2)
    await circuit.fail(3)
    await circuit.wait_out()
    for _ in range(5):
        await circuit.permit()
        await circuit.permit()
        clock.advance(5)
    await circuit.permit()
    assert await client.zcard(f"breaker:{{{NAME}}}:probes") == 1


@pytest.mark.parametrize("options", [{}, {"policy": FailureRate(minimum_calls=3)}])
async def test_a_trip_and_a_close_leave_the_record_and_its_events(
    circuit: Circuit, client: Any, options: dict[str, Any]
) -> None:
    """What belongs to a generation goes with it: leases, counts and reporters."""
    circuit.configure(**options)
    await circuit.fail(3)
    kept = {f"breaker:{{{NAME}}}".encode(), f"breaker:{{{NAME}}}:events".encode()}
    assert set(await client.keys("breaker:*")) == kept
    await circuit.recover()
    assert set(await client.keys("breaker:*")) == kept
    await circuit.fail()
    await circuit.set_mode(None)
    assert set(await client.keys("breaker:*")) == kept


async def _look(client: Any) -> dict[str, str]:
    """Return the hash; see that it has every field, and nothing but words and natural numbers."""
    made_by_the_clock = {"now_ms", "probes_out", "probe_until_ms", "replicas"}
    blank = {field: value for field, value in View()._asdict().items() if field not in made_by_the_clock}
    record = {_wire.text(name): _wire.text(text) for name, text in (await client.hgetall(_RECORD)).items()}
    assert set(record) == {*blank, "v"}
    assert all(record[name].isdecimal() for name, value in blank.items() if value == 0)
    return record


async def test_the_record_shows_every_field_from_the_start(circuit: Circuit, client: Any) -> None:
    """Who looks with redis-cli need not know which fields there are."""
    await circuit.permit()
    assert (await _look(client))["v"] == "1"
    await circuit.fail(3)
    await _look(client)
    await circuit.recover()
    await _look(client)
    await circuit.fail()
    await circuit.succeed()
    await _look(client)
    await circuit.fail()
    circuit.configure(policy=FailureRate())
    await circuit.count(1)
    await _look(client)


async def test_the_record_shows_every_field_while_an_operator_has_a_say(
    circuit: Circuit, clock: ManualClock, client: Any
) -> None:
    """Also where nobody has called yet, and when a mode ends by itself or by the operator's word."""
    await circuit.adjust(consecutive=2)
    await _look(client)
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=1)
    await circuit.set_mode(Mode.AUTO)
    await _look(client)
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=1)
    clock.advance(1)
    await circuit.permit()
    await _look(client)
    await circuit.set_mode(None)
    await _look(client)

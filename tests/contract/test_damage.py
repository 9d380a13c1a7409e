"""What becomes of a circuit of which a part was lost, or that a hand has damaged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from breaker import (
    Adjust,
    Consecutive,
    FailureRate,
    Mode,
    Outcome,
    RedisStore,
    ScriptError,
    State,
    Store,
    StoreUnavailableError,
    View,
    _wire,
)
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)
_RECORD = f"breaker:{{{NAME}}}"


@pytest.fixture
def client(store: Store) -> Any:
    """What the store talks to its server with; here it is the hand."""
    assert isinstance(store, RedisStore)
    return store._client


_MADE_BY_THE_CLOCK = {"now_ms", "probes_out", "probe_until_ms", "replicas"}


async def _damage(client: Any, field: str, text: str | bytes | None) -> None:
    """Write a field of the record by hand, or take it out."""
    if text is None:
        await client.hdel(_RECORD, field)
    else:
        await client.hset(_RECORD, field, text)


async def _redeploy(circuit: Circuit) -> None:
    circuit.configure(cooldown_seconds=9)
    circuit.clock.advance(60)
    await circuit.permit()


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


_EVENTFUL: dict[str, Callable[[Circuit], Awaitable[object]]] = {
    "a trip": Circuit.fail,
    "another configuration": _redeploy,
    "a mode": lambda circuit: circuit.set_mode(Mode.FORCED_OPEN),
    "settings": lambda circuit: circuit.adjust(cooldown_ms=5),
    "a reset": lambda circuit: circuit.set_mode(None),
}


@pytest.mark.parametrize("what", _EVENTFUL)
async def test_what_cannot_be_noted_does_not_happen(circuit: Circuit, client: Any, what: str) -> None:
    """With something else in the place of the events no change is made by halves: none is written and none is told."""
    await circuit.fail(2)
    await client.set(f"{_RECORD}:events", "no stream")
    before = await client.hgetall(_RECORD)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"{_RECORD}:changes")
        with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
            await _EVENTFUL[what](circuit)
        await client.publish(f"{_RECORD}:changes", "that is all")
        while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
    assert message["data"] == b"that is all"
    assert await client.hgetall(_RECORD) == before


async def test_what_cannot_be_listed_takes_no_store_away(circuit: Circuit, client: Any) -> None:
    """Something else lies in the place of the events or of the names: whoever wants to see them harms nobody."""
    await circuit.permit()
    await client.set(f"{_RECORD}:events", "no stream")
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        await circuit.store.events(NAME)
    await client.delete("breakers")
    await client.set("breakers", "no set")
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        await circuit.store.names()


async def test_a_list_of_names_that_is_spoilt_takes_no_store_away(circuit: Circuit, client: Any) -> None:
    """Something else lies in the place of the set: circuits that are new to a replica cannot be listed, that is all."""
    await client.set("breakers", "no set")
    await circuit.permit()
    assert not circuit.store.degraded


@pytest.mark.parametrize(
    ("action", "duration_ms"),
    [
        ("explode", 0),
        ("", 0),
        ("forced_open", "60000.5"),
        ("forced_open", "-1"),
        ("forced_open", "nan"),
        ("forced_open", "inf"),
        ("forced_open", "soon"),
        ("forced_open", ""),
        ("forced_open", 10 * 365 * 24 * 3_600_000 + 1),
    ],
)
async def test_an_action_that_makes_no_sense_is_refused_by_the_script(
    circuit: Circuit, action: str, duration_ms: str | int
) -> None:
    """Whoever calls the script without the library is told what is wrong, and neither makes nor changes a circuit."""
    store = circuit.store
    assert isinstance(store, RedisStore)
    for _ in range(2):
        before = await store.snapshot(NAME)
        with pytest.raises(ScriptError, match=r"BREAKER there is no action|BREAKER a duration is"):
            await store._run_registered(NAME, store._scripts.control, (action, "because", "anna", duration_ms, ""))
        assert await store.snapshot(NAME) == before
        await circuit.permit()


async def test_the_longest_mode_lasts_ten_years(circuit: Circuit) -> None:
    """The bound itself is allowed, and the record with it."""
    seen = await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10 * 365 * 24 * 3600)
    assert (await circuit.refusal()).mode_rest_ms == seen.mode_until_ms - circuit.clock.now_ms


async def test_the_longest_times_are_carried_out(circuit: Circuit) -> None:
    """Every time of a configuration at its upper bound, from the first call to the close."""
    ten_years = 10 * 365 * 24 * 3600
    circuit.configure(
        policy=FailureRate(window_seconds=ten_years, minimum_calls=1),
        cooldown_seconds=ten_years / 2,
        max_cooldown_seconds=ten_years,
        stable_after_seconds=ten_years,
        ramp_seconds=ten_years,
        idle_seconds=ten_years,
    )
    assert (await circuit.fail()).state is State.OPEN
    await circuit.recover()
    assert (await circuit.view()).state is State.CLOSED


_NUMBERS = [field for field, blank in View()._asdict().items() if blank == 0 and field not in _MADE_BY_THE_CLOCK]


async def _goes_on(circuit: Circuit) -> None:
    """See that the circuit is closed, trips and recovers, and can be read all the while."""
    for _ in range(2):
        await circuit.permit()
        assert (await circuit.view()).state is State.CLOSED
        assert (await circuit.fail(3)).state is State.OPEN
        assert (await circuit.refusal()).retry_after_ms == 30_000
        await circuit.recover()


@pytest.mark.parametrize("word", [None, "", "opened", "CLOSED", "\udcff".encode(errors="surrogateescape")])
async def test_a_state_that_is_none_is_closed(circuit: Circuit, client: Any, word: str | bytes | None) -> None:
    """Whatever a hand has left of it: calls go on, and the next transition writes a state again."""
    await circuit.fail(3)
    circuit.clock.advance(30)
    await _damage(client, "state", word)
    await circuit.store.control(NAME, Adjust(settings={"cooldown_ms": None}, reason="", actor=""))
    await _goes_on(circuit)


@pytest.mark.parametrize("word", [None, "", "forced", "FORCED_OPEN"])
async def test_a_mode_that_is_none_is_auto(circuit: Circuit, client: Any, word: str | None) -> None:
    """Nobody can tell what was meant, so the machine decides; a mode that is set again is in force."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=600)
    await _damage(client, "mode", word)
    assert ((await circuit.ask()).mode, (await circuit.ask()).mode_rest_ms) == (Mode.AUTO, 0)
    assert (await circuit.view()).mode is Mode.AUTO
    await _goes_on(circuit)
    await circuit.set_mode(Mode.FORCED_OPEN)
    assert (await circuit.refusal()).reason == "forced_open"


@pytest.mark.parametrize("text", ["1766000030000.5", "1766000030000.999"])
async def test_a_fraction_of_a_millisecond_is_passed_over(circuit: Circuit, client: Any, text: str) -> None:
    """A moment that a hand has written is read as the whole number below it, by callers as by readers."""
    await circuit.fail(3)
    await client.hset(_RECORD, "retry_at_ms", text)
    assert (await circuit.refusal()).retry_after_ms == 30_000
    assert (await circuit.view()).retry_at_ms == 1_766_000_030_000
    await circuit.recover()


@pytest.mark.parametrize("text", [None, "", "soon", "-1", "nan", "inf", "1e300", "0x", "12.5"])
@pytest.mark.parametrize("field", _NUMBERS)
async def test_a_number_that_is_none_is_zero(circuit: Circuit, client: Any, field: str, text: str | None) -> None:
    """Calls go on, and whoever reads the circuit reads numbers."""
    await circuit.permit()
    await _damage(client, field, text)
    expected = 12 if text == "12.5" else 0
    if field == "generation":
        await circuit.permit()
    elif field != "mode_until_ms":
        assert getattr(await circuit.view(), field) == expected
    if field == "run":
        await circuit.succeed()
    await _goes_on(circuit)


async def _last_told(client: Any, pubsub: Any) -> View:
    """Return the circuit as the last message shows it."""
    await client.publish(f"{_RECORD}:changes", "that is all")
    heard: list[str] = []
    while "that is all" not in heard:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
        heard += [] if message is None else [_wire.text(message["data"])]
    return _wire.told(heard[-2])


async def test_every_damage_can_be_told_of(circuit: Circuit, client: Any) -> None:
    """The message of the next change is one that every replica can read."""
    await circuit.permit()
    await client.hset(_RECORD, mapping=dict.fromkeys(_NUMBERS, "12.5") | {"state": "x", "mode": "x", "generation": "5"})
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"{_RECORD}:changes")
        seen = await circuit.set_mode(Mode.METRICS_ONLY)
        assert await _last_told(client, pubsub) == seen._replace(replicas=1)


@pytest.mark.parametrize(
    ("text", "number", "following"),
    [
        ("89999999999998", 9 * 10**13 - 2, 9 * 10**13 - 1),
        ("89999999999999", 9 * 10**13 - 1, 0),
        ("90000000000000", 0, 1),
        ("9007199254740992", 0, 1),
    ],
)
async def test_a_large_number_is_told_to_its_last_digit(
    circuit: Circuit, client: Any, text: str, number: int, following: int
) -> None:
    """Numbers that Lua writes in full are read by whoever reads the circuit or hears of it; beyond they are zero."""
    await circuit.permit()
    await client.hset(_RECORD, "revision", text)
    assert (await circuit.view()).revision == number
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(f"{_RECORD}:changes")
        seen = await circuit.set_mode(Mode.METRICS_ONLY)
        assert await _last_told(client, pubsub) == seen._replace(replicas=1)
    assert seen.revision == following


@pytest.mark.parametrize(
    "settings",
    [
        "nonsense",
        "=",
        "consecutive",
        "consecutive=",
        "consecutive=many",
        "consecutive=0",
        "consecutive=0.9",
        "consecutive=-1",
        "consecutive=1.2.3",
        "consecutive=.",
        "consecutive=" + "9" * 400,
        "cooldown_ms=0",
        "max_cooldown_ms=99999999999",
        "probe_limit=0 multiplier=0.5 multiplier=101 jitter_percent=101",
        "lease_ms=1 idle_ms=1 patience=1",
        "window_ms=1",
    ],
)
async def test_settings_that_cannot_be_read_are_passed_over(circuit: Circuit, client: Any, settings: str) -> None:
    """What a hand has written beside `set` is held to the same ranges; the configuration stays in force."""
    await circuit.permit()
    await client.hset(_RECORD, "settings", settings)
    await _goes_on(circuit)
    circuit.configure(policy=FailureRate(minimum_calls=3))
    if "consecutive" not in settings:
        await _goes_on(circuit)


async def test_settings_that_can_be_read_are_in_force_beside_others(circuit: Circuit, client: Any) -> None:
    """A whole number is the one below what was written; what is nonsense beside it takes nothing away."""
    await circuit.permit()
    await client.hset(_RECORD, "settings", "nonsense cooldown_ms=5000.7 consecutive=many probe_limit=2.9")
    await circuit.fail(3)
    assert (await circuit.refusal()).retry_after_ms == 5_000
    await circuit.wait_out()
    await circuit.permit()
    await circuit.permit()
    await circuit.refusal()
    assert (await circuit.adjust(ramp_ms=7)).settings == "cooldown_ms=5000.7 probe_limit=2.9 ramp_ms=7"


@pytest.mark.parametrize("for_seconds", [0, 600])
async def test_an_operators_word_survives_the_loss_of_a_generation(
    circuit: Circuit, client: Any, for_seconds: float
) -> None:
    """A circuit that begins anew in its old place stays forced open, with who said so, why and until when."""
    await circuit.adjust(consecutive=2)
    await circuit.fail(2)
    before = await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=for_seconds)
    await client.hdel(_RECORD, "generation")
    assert not (await circuit.tell("p", before.generation, Outcome.FAILURE)).applied
    circuit.clock.advance(1)
    assert (await circuit.refusal()).reason == "forced_open"
    seen = await circuit.view()
    assert seen.mode is Mode.FORCED_OPEN
    assert (seen.mode_reason, seen.mode_actor, seen.mode_until_ms) == ("because", "anna", before.mode_until_ms)
    assert (seen.settings, seen.state, seen.generation) == ("consecutive=2", State.CLOSED, circuit.clock.now_ms)
    assert seen.revision == before.revision + 1


async def test_a_mode_survives_without_its_reason_and_its_actor(circuit: Circuit, client: Any) -> None:
    """Where they were lost with the generation nobody is made up who said so, and the circuit stays forced open."""
    await circuit.set_mode(Mode.FORCED_OPEN)
    await client.hdel(_RECORD, "generation", "mode_reason", "mode_actor")
    assert (await circuit.refusal()).reason == "forced_open"
    assert ((await circuit.view()).mode_reason, (await circuit.view()).mode_actor) == ("", "")


async def test_a_mode_that_was_over_does_not_come_back(circuit: Circuit, client: Any) -> None:
    """A circuit that begins anew keeps a mode for no longer than it was to last, and none that was not there."""
    await circuit.set_mode(Mode.FORCED_OPEN, for_seconds=10)
    await client.hdel(_RECORD, "generation")
    circuit.clock.advance(10)
    await circuit.permit()
    assert ((await circuit.view()).mode, await client.hget(_RECORD, "mode_reason")) == (Mode.AUTO, b"")
    await client.hset(_RECORD, mapping={"mode": "x", "mode_reason": "x", "mode_actor": "x", "mode_until_ms": "1" * 14})
    await client.hdel(_RECORD, "generation")
    await circuit.permit()
    assert (await circuit.view()).mode_until_ms == 0
    assert await client.hmget(_RECORD, "mode", "mode_reason", "mode_actor") == [b"auto", b"", b""]


async def test_a_bucket_that_holds_no_number_counts_for_nothing(circuit: Circuit, client: Any) -> None:
    """Nor does a part that there is not; reports go on."""
    circuit.configure(policy=FailureRate())
    await circuit.count(2, 1)
    began = circuit.clock.now_ms - circuit.clock.now_ms % 6000 - 6000
    await client.hset(
        f"{_RECORD}:window", mapping={f"{began}:6000:calls": "x", f"{began}:6000:late": 3, "5:0:calls": 7}
    )
    assert (await circuit.count(2, 1)).failures == 2
    assert (await circuit.view()).calls == 4


@pytest.mark.parametrize("field", ["generation", "revision", "failures", "run", "calls", "closed_at_ms"])
async def test_a_number_too_large_to_be_written_is_none(circuit: Circuit, client: Any, field: str) -> None:
    """Microseconds for milliseconds, say: the circuit can be read, goes on and can be reset."""
    await circuit.fail()
    await _damage(client, field, "1766000000000000")
    await circuit.permit()
    await circuit.view()
    seen = await circuit.set_mode(None)
    assert seen.generation < 10**14


@pytest.mark.parametrize("score", ["inf", "1766000005000.5"])
async def test_a_lease_that_is_no_moment_can_be_shown(circuit: Circuit, client: Any, score: str) -> None:
    """A hand has put a token among the probes."""
    await circuit.fail(3)
    await client.zadd(f"{_RECORD}:probes", {"by hand": score})
    assert (await circuit.view()).probes_out == 1
    assert (await circuit.set_mode(Mode.FORCED_OPEN)).mode is Mode.FORCED_OPEN


@pytest.mark.parametrize("text", ["x", "1.5", "1e3", "9223372036854775807"])
async def test_a_bucket_of_now_that_holds_no_number_is_counted_in_anew(
    circuit: Circuit, client: Any, text: str
) -> None:
    """What a hand has made of it stops no report."""
    circuit.configure(policy=FailureRate(window_seconds=60, minimum_calls=100))
    await circuit.count(4, 2)
    (bucket,) = {field.rpartition(b":")[0] for field in await client.hkeys(f"{_RECORD}:window")}
    await client.hset(f"{_RECORD}:window", bucket + b":calls", text)
    before = (await circuit.view()).failures
    await circuit.count(3, 1)
    assert (await circuit.view()).failures == before + 1
    await circuit.count(3, 1)

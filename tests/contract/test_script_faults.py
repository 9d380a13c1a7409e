from __future__ import annotations

import re

import pytest

from breaker import Mode, Outcome, Override, RedisStore, ScriptError, _wire
from tests.contract.circuit import NAME, Circuit
from tests.support.redis_servers import KINDS

pytestmark = pytest.mark.parametrize("store", ["fake", *KINDS], indirect=True)


@pytest.mark.parametrize("lacking", ["cooldown_ms", "lease_ms"])
async def test_limits_that_lack_a_number_are_refused_by_name(circuit: Circuit, lacking: str) -> None:
    """A script that is sent less than it needs says what is missing, and neither creates nor changes a circuit."""
    whole = circuit.limits
    circuit.configure()
    object.__setattr__(circuit.limits, "text", re.sub(rf"\b{lacking}=\S+", "", whole.text))
    with pytest.raises(ScriptError, match=rf"the limits lack {lacking}$"):
        await circuit.ask()
    assert await circuit.store.snapshot(NAME) is None
    broken, circuit.limits = circuit.limits, whole
    permit = await circuit.permit()
    before = await circuit.view()
    circuit.limits = broken
    with pytest.raises(ScriptError, match=rf"the limits lack {lacking}$"):
        await circuit.settle(permit, Outcome.FAILURE)
    assert await circuit.view() == before


@pytest.mark.parametrize("asks", [True, False])
async def test_a_reply_says_whether_it_created_the_record(circuit: Circuit, asks: bool) -> None:
    """The name of a circuit that is new, or was lost, has to be registered again; every other time is spared."""
    store = circuit.store
    assert isinstance(store, RedisStore)
    if asks:
        script, arguments = store._scripts.acquire, _wire.acquire_arguments("p", circuit.limits, "r", may_probe=True)
    else:
        script = store._scripts.control
        arguments = _wire.control_arguments(Override(mode=None, reason="a test", actor="it"))
    assert [(await store._run_registered(NAME, script, arguments))[-1] for _ in range(2)] == [1, 0]


async def test_a_record_that_lacks_a_field_is_read_all_the_same(circuit: Circuit) -> None:
    """A hand that took one out of the hash must not make the circuit unreadable: a mode without an end goes on."""
    await circuit.set_mode(Mode.FORCED_OPEN)
    assert isinstance(circuit.store, RedisStore)
    await circuit.store._client.hdel(f"breaker:{{{NAME}}}", "mode_until_ms")
    assert (await circuit.view()).mode is Mode.FORCED_OPEN
    assert (await circuit.refusal()).reason == "forced_open"


async def test_what_an_operator_set_may_fill_the_gap(circuit: Circuit) -> None:
    """The limits in force are what counts, wherever each of them comes from."""
    await circuit.adjust(cooldown_ms=5_000)
    object.__setattr__(circuit.limits, "text", re.sub(r"\bcooldown_ms=\S+", "", circuit.limits.text))
    await circuit.fail(3)
    assert (await circuit.refusal()).retry_after_ms == 5_000


async def test_what_a_newer_version_says_is_passed_over(circuit: Circuit) -> None:
    """During a rolling deploy a text may hold names that this version does not know."""
    object.__setattr__(circuit.limits, "text", circuit.limits.text + " patience=12.5")
    await circuit.fail(3)
    assert (await circuit.refusal()).reason == "open"

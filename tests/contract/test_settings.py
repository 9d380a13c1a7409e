from __future__ import annotations

from typing import Any

import pytest

from breaker import Adjust, ConfigError, Consecutive, FailureRate, Mode, State
from breaker._types import Transition
from tests.contract.circuit import NAME, Circuit
from tests.support.stores import ManualClock


async def test_a_setting_wins_over_every_configuration(circuit: Circuit) -> None:
    """Whoever calls with whatever configuration, the operator's threshold is in force."""
    await circuit.adjust(consecutive=2)
    circuit.configure(policy=Consecutive(5))
    assert (await circuit.fail()).state is State.CLOSED
    circuit.configure(policy=Consecutive(1), cooldown_seconds=7)
    assert (await circuit.fail()).state is State.OPEN


async def test_a_setting_leaves_the_other_thresholds_alone(circuit: Circuit, clock: ManualClock) -> None:
    """What was not set is as each caller has it."""
    await circuit.adjust(consecutive=2)
    circuit.configure(cooldown_seconds=7)
    await circuit.fail(2)
    assert (await circuit.view()).retry_at_ms == clock.now_ms + 7_000


async def test_a_setting_keeps_what_was_counted(circuit: Circuit) -> None:
    """A lower threshold counts the failures before it, and setting it is no failure itself."""
    await circuit.fail(2)
    before = await circuit.view()
    seen = await circuit.adjust(consecutive=2)
    assert (seen.state, seen.failures, seen.generation) == (State.CLOSED, 2, before.generation)
    assert (await circuit.fail()).state is State.OPEN


async def test_a_rate_may_become_a_run(circuit: Circuit) -> None:
    """In an emergency any failure rate can be made to trip at the next failure."""
    circuit.configure(policy=FailureRate())
    await circuit.permit()
    await circuit.adjust(consecutive=1)
    await circuit.fail()
    assert (await circuit.view()).trip_reason == "1 consecutive failures"


@pytest.mark.parametrize(
    ("settings", "trips"),
    [({"minimum_calls": 2}, True), ({"minimum_calls": 3}, False), ({"failure_percent": 50.1}, False)],
)
async def test_the_numbers_of_a_rate_may_be_set(circuit: Circuit, settings: dict[str, float], trips: bool) -> None:
    """One of two calls fails: whether that trips is what the settings say."""
    circuit.configure(policy=FailureRate(minimum_calls=2))
    await circuit.permit()
    await circuit.adjust(**settings)
    assert ((await circuit.count(2, 1)).state is State.OPEN) == trips


async def test_a_share_of_zero_is_no_share(circuit: Circuit) -> None:
    """Zero turns the share of failures off; with slow calls off too, nothing trips."""
    circuit.configure(policy=FailureRate(minimum_calls=2))
    await circuit.permit()
    await circuit.adjust(failure_percent=0)
    assert (await circuit.count(2, 2)).state is State.CLOSED


async def test_the_window_of_a_rate_may_be_set(circuit: Circuit, clock: ManualClock) -> None:
    """A longer window counts what the configured one would have forgotten."""
    circuit.configure(policy=FailureRate(window_seconds=10, minimum_calls=2))
    await circuit.adjust(window_ms=100_000)
    await circuit.fail()
    clock.advance(50)
    assert (await circuit.fail()).state is State.OPEN


async def test_what_is_slow_enough_to_trip_may_be_set(circuit: Circuit) -> None:
    """Zero turns the share of slow calls off."""
    circuit.configure(policy=FailureRate(minimum_calls=2, slow_call_seconds=1.0))
    await circuit.permit()
    await circuit.adjust(slow_percent=0)
    assert (await circuit.count(2, slow=2)).state is State.CLOSED
    await circuit.adjust(slow_percent=75.5)
    assert (await circuit.count(2, slow=1)).state is State.CLOSED
    assert (await circuit.count(2, slow=2)).state is State.OPEN


async def test_the_quorum_may_be_set(circuit: Circuit) -> None:
    """From now on one replica is not enough."""
    await circuit.permit()
    await circuit.adjust(minimum_reporters=2)
    assert (await circuit.fail(3)).state is State.CLOSED
    assert (await circuit.fail(by="replica-2")).state is State.OPEN


async def test_the_cooldowns_may_be_set(circuit: Circuit, clock: ManualClock) -> None:
    """The cooldown, its growth and its limit are those that were set."""
    await circuit.permit()
    await circuit.adjust(cooldown_ms=10_000, multiplier=2.5, max_cooldown_ms=26_000)
    await circuit.fail(3)
    cooldowns = []
    for _ in range(3):
        cooldowns.append((await circuit.view()).retry_at_ms - clock.now_ms)
        await circuit.wait_out()
        await circuit.fail()
    assert cooldowns == [10_000, 25_000, 26_000]


async def test_the_memory_of_flapping_may_be_set(circuit: Circuit) -> None:
    """With no memory a trip right after a close begins anew, for the settings as for the configuration."""
    circuit.configure(cooldown_multiplier=2)
    await circuit.fail(3)
    await circuit.recover()
    await circuit.adjust(stable_ms=0)
    await circuit.fail(3)
    assert (await circuit.view()).reopens == 0


async def test_the_places_for_probes_may_be_set(circuit: Circuit) -> None:
    """Two probes at once, and both have to succeed."""
    await circuit.permit()
    await circuit.adjust(probe_limit=2, probe_successes=2)
    await circuit.fail(3)
    await circuit.wait_out()
    await circuit.permit()
    assert (await circuit.succeed()).state is State.HALF_OPEN
    assert (await circuit.succeed()).state is State.CLOSED


async def test_the_ramp_may_be_set(circuit: Circuit) -> None:
    """A ramp that was set while the circuit was closed holds for the last close."""
    await circuit.fail(3)
    await circuit.recover()
    await circuit.adjust(ramp_ms=100_000)
    refused = [reply for reply in [await circuit.ask() for _ in range(50)] if getattr(reply, "reason", "") == "ramping"]
    assert len(refused) > 25


async def test_a_setting_survives_trips_and_resets(circuit: Circuit) -> None:
    """Only taking it back ends a setting."""
    await circuit.adjust(consecutive=2)
    for _ in range(2):
        await circuit.fail(2)
        await circuit.recover()
    assert (await circuit.set_mode(None)).settings == "consecutive=2"
    assert (await circuit.fail(2)).state is State.OPEN


async def test_none_takes_a_setting_back(circuit: Circuit) -> None:
    """What was taken back is again as the callers have it, and the rest stays set."""
    await circuit.adjust(consecutive=2, cooldown_ms=5_000)
    assert (await circuit.adjust(consecutive=None)).settings == "cooldown_ms=5000"
    assert (await circuit.fail(2)).state is State.CLOSED
    assert (await circuit.fail()).state is State.OPEN
    assert (await circuit.adjust(cooldown_ms=None)).settings == ""


async def test_taking_back_what_was_not_set_is_no_harm(circuit: Circuit) -> None:
    """The circuit is created, since an operator had a word, and nothing is set."""
    assert (await circuit.adjust(cooldown_ms=None)).settings == ""


async def test_settings_are_shown_sorted_and_plain(circuit: Circuit) -> None:
    """Equal settings are equal texts, in whatever order they came, without exponents or trailing zeros."""
    await circuit.adjust(probe_limit=10, multiplier=1.5)
    seen = await circuit.adjust(cooldown_ms=10**9, jitter_percent=12.0, multiplier=2.25)
    assert seen.settings == "cooldown_ms=1000000000 jitter_percent=12 multiplier=2.25 probe_limit=10"


async def test_a_change_of_settings_is_an_event(circuit: Circuit, clock: ManualClock) -> None:
    """Who changed thresholds, why and when stays in the stream, and everybody sees a new revision."""
    await circuit.permit()
    before = await circuit.view()
    seen = await circuit.adjust(consecutive=2)
    assert seen.revision == before.revision + 1
    (entry,) = await circuit.log()
    assert (entry.kind, entry.by, entry.reason) == (Transition.SETTINGS_CHANGED, "anna", "tuning")
    assert (entry.state, entry.mode, entry.at_ms) == (State.CLOSED, Mode.AUTO, clock.now_ms)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cooldown": 5},
        {"lease_ms": 5},
        {"idle_ms": 5},
        {"text": 5},
        {"consecutive": 0},
        {"consecutive": 1.5},
        {"window_ms": 999},
        {"minimum_calls": 0},
        {"minimum_reporters": 0},
        {"cooldown_ms": 0},
        {"cooldown_ms": 10**10 + 1},
        {"cooldown_ms": float("nan")},
        {"cooldown_ms": float("inf")},
        {"multiplier": 0.99},
        {"multiplier": 100.01},
        {"max_cooldown_ms": 0},
        {"probe_limit": 0},
        {"probe_successes": 0},
        {"failure_percent": -1},
        {"failure_percent": 100.1},
        {"slow_percent": 101},
        {"jitter_percent": 101},
        {"stable_ms": -1},
        {"ramp_ms": -1},
        {"consecutive": 2, "no such thing": None},
        {"cooldown_ms": "5"},
        {"failure_percent": 0.00001},
    ],
)
async def test_nonsense_is_refused_and_changes_nothing(circuit: Circuit, settings: dict[str, Any]) -> None:
    """A name that does not exist or a value that makes no sense is refused whole, and no circuit is made for it."""
    with pytest.raises(ConfigError):
        await circuit.adjust(**settings)
    assert await circuit.store.snapshot(NAME) is None
    await circuit.adjust(cooldown_ms=5)
    before = await circuit.view()
    with pytest.raises(ConfigError):
        await circuit.adjust(**settings)
    assert await circuit.view() == before


@pytest.mark.parametrize(
    "settings",
    [
        {"consecutive": 1, "minimum_calls": 1, "minimum_reporters": 1, "window_ms": 1000},
        {"cooldown_ms": 1, "max_cooldown_ms": 1, "multiplier": 1, "stable_ms": 0, "ramp_ms": 0},
        {"probe_limit": 1, "probe_successes": 1, "failure_percent": 0, "slow_percent": 0, "jitter_percent": 0},
        {"failure_percent": 100, "slow_percent": 100, "jitter_percent": 100, "multiplier": 100},
        {"cooldown_ms": 10**10, "consecutive": 2.0},
    ],
)
async def test_the_least_and_the_most_may_be_set(circuit: Circuit, settings: dict[str, float]) -> None:
    """The bounds themselves are allowed."""
    seen = await circuit.adjust(**settings)
    assert seen.settings == " ".join(f"{name}={int(value)}" for name, value in sorted(settings.items()))


async def test_settings_of_one_circuit_are_of_that_circuit(circuit: Circuit) -> None:
    """Another circuit is not changed."""
    await circuit.store.control("other", Adjust(settings={"consecutive": 1}, reason="", actor=""))
    assert (await circuit.fail()).state is State.CLOSED


async def test_the_first_call_brings_its_configuration(circuit: Circuit, clock: ManualClock) -> None:
    """The record shows what it was created with; that is no event."""
    await circuit.permit()
    seen = await circuit.view()
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms)
    clock.advance(3_600)
    await circuit.permit()
    assert await circuit.view() == seen._replace(now_ms=clock.now_ms)
    assert await circuit.happened() == []


@pytest.mark.parametrize(("after_seconds", "changes"), [(59.999, False), (60, True)])
async def test_another_configuration_takes_over_after_a_minute(
    circuit: Circuit, clock: ManualClock, after_seconds: float, changes: bool
) -> None:
    """During a rolling deploy two configurations take turns, at most once a minute, and the stream tells of it."""
    await circuit.permit()
    before, old = await circuit.view(), circuit.limits.text
    circuit.configure(cooldown_seconds=9)
    clock.advance(after_seconds)
    await circuit.permit(by="replica-2")
    seen = await circuit.view()
    if not changes:
        assert (seen.config, seen.revision, await circuit.happened()) == (old, before.revision, [])
        return
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms)
    assert seen.revision == before.revision + 1
    (entry,) = await circuit.log()
    assert (entry.kind, entry.by, entry.reason) == (Transition.CONFIG_CHANGED, "replica-2", old)
    assert seen.config_before == old
    circuit.configure(cooldown_seconds=11)
    clock.advance(59.999)
    await circuit.permit()
    assert await circuit.happened() == ["config_changed"]
    clock.advance(0.001)
    await circuit.permit()
    assert await circuit.happened() == ["config_changed", "config_changed"]


async def test_two_configurations_that_take_turns_are_one_event(circuit: Circuit, clock: ManualClock) -> None:
    """A deploy that is stuck for hours must not flush the stream: the record goes on taking turns, silently."""
    turns = {"cooldown_seconds": 30}, {"cooldown_seconds": 9}
    for number in range(180):
        circuit.configure(**turns[number % 2])
        await circuit.permit()
        clock.advance(60)
    seen = await circuit.view()
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms - 60_000)
    assert seen.config_before != seen.config
    assert await circuit.happened() == ["config_changed"]


async def test_a_third_configuration_is_an_event(circuit: Circuit, clock: ManualClock) -> None:
    """What was in use before the last two has been replaced: if it comes again, somebody went back to it."""
    for cooldown_seconds in (30, 9, 30, 11, 30, 11, 9):
        circuit.configure(cooldown_seconds=cooldown_seconds)
        await circuit.permit()
        clock.advance(60)
    assert [entry.reason.split()[1] for entry in await circuit.log()] == [
        *("cooldown_ms=30000", "cooldown_ms=30000", "cooldown_ms=11000")
    ]


async def test_a_trip_is_a_turn_like_others(circuit: Circuit, clock: ManualClock) -> None:
    """The configuration that tripped takes the place of the one before, which comes back without an event."""
    await circuit.permit()
    old = circuit.limits
    for _ in range(3):
        circuit.configure(policy=Consecutive(1))
        await circuit.fail()
        assert (await circuit.view()).config_before == old.text
        await circuit.recover()
        assert (await circuit.view()).config_before == old.text
        await circuit.fail()
        assert (await circuit.view()).config_before == old.text
        circuit.limits = old
        await circuit.set_mode(None)
        clock.advance(60)
        await circuit.permit()
        assert (await circuit.view()).config == old.text
    assert "config_changed" not in await circuit.happened()


async def test_each_caller_is_judged_by_its_own_configuration(circuit: Circuit) -> None:
    """What the record shows is information: a caller with another threshold uses that."""
    await circuit.fail()
    circuit.configure(policy=Consecutive(2))
    assert (await circuit.fail()).state is State.OPEN


async def test_a_trip_shows_the_configuration_that_tripped(circuit: Circuit, clock: ManualClock) -> None:
    """Whoever looks at an open circuit sees what opened it, and the next turn is a minute away."""
    await circuit.permit()
    old = circuit.limits
    circuit.configure(policy=Consecutive(1))
    clock.advance(30)
    await circuit.fail()
    seen = await circuit.view()
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms)
    circuit.limits = old
    clock.advance(59.999)
    await circuit.ask()
    assert (await circuit.view()).config == seen.config
    assert await circuit.happened() == ["tripped", "half_opened"]


async def test_a_reopening_shows_the_configuration_that_reopened(circuit: Circuit, clock: ManualClock) -> None:
    """A failed probe brings its configuration as well."""
    await circuit.fail(3)
    await circuit.wait_out()
    circuit.configure(cooldown_seconds=9)
    await circuit.fail()
    seen = await circuit.view()
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms)
    assert seen.retry_at_ms == clock.now_ms + 9_000


async def test_settings_are_not_shown_as_configuration(circuit: Circuit) -> None:
    """The record tells apart what the replicas brought and what the operator set."""
    await circuit.permit()
    await circuit.adjust(consecutive=1)
    await circuit.fail()
    seen = await circuit.view()
    assert (seen.config, seen.settings) == (circuit.limits.text, "consecutive=1")


async def test_a_circuit_that_an_operator_made_learns_its_configuration(circuit: Circuit, clock: ManualClock) -> None:
    """Until the first call nobody has brought one."""
    seen = await circuit.adjust(consecutive=2)
    assert (seen.config, seen.config_at_ms) == ("", 0)
    await circuit.permit()
    seen = await circuit.view()
    assert (seen.config, seen.config_at_ms) == (circuit.limits.text, clock.now_ms)
    assert len(await circuit.log()) == 1


async def test_the_first_replica_of_a_circuit_that_an_operator_began_changes_nothing(circuit: Circuit) -> None:
    """There was no other configuration before, so nothing says that there was."""
    await circuit.set_mode(Mode.FORCED_CLOSED)
    await circuit.permit()
    assert await circuit.happened() == ["mode_changed"]
    assert (await circuit.view()).config == circuit.limits.text

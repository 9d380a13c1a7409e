from __future__ import annotations

import re
from dataclasses import MISSING, fields
from importlib import resources

import pytest

from breaker import BreakerConfig, ConfigError, Consecutive, FailureRate
from breaker._limits import ADJUSTABLE, Limits, adjusted, checked_changes, spelled


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (10, "10"),
        (100, "100"),
        (1.5, "1.5"),
        (33.3333, "33.3333"),
        (0.0001, "0.0001"),
        (0.00001, "0"),
        (2.0, "2"),
        (10**10, "10000000000"),
        (604_800_000, "604800000"),
    ],
)
def test_a_number_has_one_spelling(number: float, text: str) -> None:
    """No exponent, no trailing zeros, four decimals: what Lua, Python and people read alike."""
    assert spelled(number) == text


def test_the_text_leaves_defaults_out() -> None:
    """What is off or as always is not said: only the policy, and what depends on the dependency."""
    assert BreakerConfig().limits().text == "consecutive=3 cooldown_ms=30000 lease_ms=11000"


def test_the_text_says_everything_that_was_decided() -> None:
    """Every knob that the store knows of is in it, in a fixed order."""
    config = BreakerConfig(
        policy=FailureRate(
            threshold=1 / 3, window_seconds=30, minimum_calls=7, slow_call_seconds=2, slow_rate_threshold=0.9
        ),
        minimum_reporters=2,
        cooldown_multiplier=1.5,
        max_cooldown_seconds=90,
        cooldown_jitter=0.25,
        stable_after_seconds=0,
        probe_limit=2,
        probe_successes=3,
        ramp_seconds=60,
        idle_seconds=600,
    )
    assert config.limits().text == (
        "window_ms=30000 minimum_calls=7 failure_percent=33.3333 slow_percent=90 minimum_reporters=2 cooldown_ms=30000 "
        "multiplier=1.5 max_cooldown_ms=90000 jitter_percent=25 stable_ms=0 probe_limit=2 probe_successes=3 "
        "ramp_ms=60000 lease_ms=11000 idle_ms=600000"
    )


def test_what_the_text_leaves_out_the_scripts_fill_in_alike() -> None:
    """A default that changed in Python alone would be another threshold in Redis."""
    text = (resources.files("breaker") / "lua" / "_limits.lua").read_text(encoding="utf-8")
    filled_in = text.split("local DEFAULTS = {")[1].split("}")[0]
    in_scripts = {name: float(value) for name, value in re.findall(r"(\w+) = ([\d.]+)", filled_in)}
    in_python = {each.name: each.default for each in fields(Limits) if each.init and each.default is not MISSING}
    assert in_scripts == in_python


def test_equal_limits_are_equal_and_other_ones_are_not() -> None:
    """Two configurations are told apart by what they decide."""
    assert BreakerConfig().limits() == BreakerConfig(policy=Consecutive(3)).limits()
    assert BreakerConfig().limits() != BreakerConfig(policy=Consecutive(4)).limits()


def test_settings_lie_over_the_limits() -> None:
    """What an operator set replaces what was configured, in the numbers and in the text."""
    limits = BreakerConfig().limits()
    after = limits.with_settings("consecutive=5 multiplier=1.5")
    assert (after.consecutive, after.multiplier, after.cooldown_ms) == (5, 1.5, limits.cooldown_ms)
    assert after.text.startswith("consecutive=5 ")
    assert limits.with_settings("") is limits


def test_settings_of_a_newer_version_are_passed_over() -> None:
    """A name that this version does not know, or must not set, changes nothing."""
    limits = BreakerConfig().limits()
    assert limits.with_settings("patience=5 lease_ms=1 idle_ms=1") == limits


@pytest.mark.parametrize(
    ("settings", "consecutive", "multiplier"),
    [
        ("consecutive=5.9", 5, 1),
        ("nonsense consecutive=5", 5, 1),
        ("consecutive=5 consecutive=many", 5, 1),
        ("consecutive=many", 3, 1),
        ("consecutive=0", 3, 1),
        ("consecutive=0.9", 3, 1),
        ("consecutive=-4", 3, 1),
        ("consecutive=1.2.3 multiplier=.", 3, 1),
        ("multiplier=1.5", 3, 1.5),
        ("multiplier=0.5", 3, 1),
        ("multiplier=101", 3, 1),
        ("consecutive=" + "9" * 400, 3, 1),
    ],
)
def test_settings_that_cannot_be_read_are_passed_over(settings: str, consecutive: int, multiplier: float) -> None:
    """A hand may have written them: what makes no sense leaves in force what was configured."""
    after = BreakerConfig().limits().with_settings(settings)
    assert (after.consecutive, after.multiplier) == (consecutive, multiplier)


def test_the_scripts_hold_settings_to_the_same_ranges() -> None:
    """What may be set, from where to where, and whether in whole numbers, is said twice and the same."""
    text = (resources.files("breaker") / "lua" / "_limits.lua").read_text(encoding="utf-8")
    said = re.findall(r"(\w+) = \{ ([\d.]+), (\w+)(, true)? \}", text.split("local ADJUSTABLE = {")[1].split("\n}")[0])
    most = float(re.findall(r"local MOST = (\d+)", text)[0])
    in_scripts = {
        name: (float(least), most if to == "MOST" else float(to), bool(fraction)) for name, least, to, fraction in said
    }
    assert in_scripts == {name: (each.least, each.most, each.has_fraction) for name, each in ADJUSTABLE.items()}


def test_changes_are_spelled_for_the_script() -> None:
    """A value becomes its text, and None an empty one."""
    changes = checked_changes({"cooldown_ms": 5000, "multiplier": 1.25, "consecutive": 2.0, "ramp_ms": None})
    assert changes == {"cooldown_ms": "5000", "multiplier": "1.25", "consecutive": "2", "ramp_ms": ""}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "name at least one setting"),
        ({"lease_ms": 1}, "there is no setting 'lease_ms'; there are consecutive, cooldown_ms, "),
        ({"window_ms": 999}, "window_ms must be between 1000 and 10000000000"),
        ({"multiplier": 101}, "multiplier must be between 1 and 100"),
        ({"ramp_ms": -1}, "ramp_ms must be between 0 and"),
        ({"probe_limit": 1.5}, "probe_limit must be a whole number"),
    ],
)
def test_a_change_that_makes_no_sense_is_named(settings: dict[str, float | None], complaint: str) -> None:
    """The message says which setting, and what it may be."""
    with pytest.raises(ConfigError, match=complaint):
        checked_changes(settings)


@pytest.mark.parametrize(
    ("settings", "changes", "after"),
    [
        ("", {"b": "2", "a": "1"}, "a=1 b=2"),
        ("a=1 b=2", {"a": "3"}, "a=3 b=2"),
        ("a=1 b=2", {"a": ""}, "b=2"),
        ("a=1", {"a": ""}, ""),
        ("", {"a": ""}, ""),
        ("nonsense a=x b=1.5 c=-1", {"d": "1"}, "b=1.5 d=1"),
    ],
)
def test_changes_are_made_to_settings(settings: str, changes: dict[str, str], after: str) -> None:
    """New ones are added, known ones replaced, empty ones taken back; sorted, so that equal settings are equal."""
    assert adjusted(settings, changes) == after

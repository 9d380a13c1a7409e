"""How the scripts read thresholds: the numbers that Python reads, out of a configuration and an operator's settings."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest
from lupa import lua51

from breaker._limits import ADJUSTABLE, Limits, spelled
from breaker._scripts import load_script

# Every number is one that no setting below has.
_CONFIGURED = Limits(**{each.name: 77 for each in fields(Limits) if each.init})


def _read_by_the_scripts(limits: Limits, settings: str = "") -> dict[str, Any]:
    lua = lua51.LuaRuntime()
    return dict(lua.execute(f"{load_script('_limits').text}\nreturn read_limits(...)", limits.text, settings))


def _read_by_python(limits: Limits, settings: str = "") -> dict[str, Any]:
    numbers = asdict(limits.with_settings(settings))
    del numbers["text"]
    return numbers


def test_what_a_configuration_leaves_out_is_the_same_for_both() -> None:
    """Defaults are not sent, so the scripts have to have the same ones."""
    limits = Limits(cooldown_ms=777, lease_ms=888)
    assert _read_by_the_scripts(limits) == _read_by_python(limits)


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_a_setting_is_taken_from_its_least_to_its_most(name: str) -> None:
    """What a hand has written beside `set` is in force within the bounds and passed over outside, by both readers."""
    least, most, has_fraction = ADJUSTABLE[name]
    step = 0.0001 if has_fraction else 1
    for number in (least - step, least, least + step, least + 1.5, most - step, most, most + step):
        settings = f"{name}={spelled(number)}"
        read = _read_by_the_scripts(_CONFIGURED, settings)
        taken = number if has_fraction else int(number)
        assert read[name] == (taken if least <= number <= most else 77)
        assert read == _read_by_python(_CONFIGURED, settings)

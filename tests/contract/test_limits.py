"""How the scripts read thresholds: the numbers that Python reads, out of a configuration and an operator's settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from lupa import lua51

from breaker._limits import ADJUSTABLE, Limits, spelled
from breaker._scripts import load_script

_SET_NOWHERE = Limits(cooldown_ms=777, lease_ms=888)


def _read_by_the_scripts(limits: Limits, settings: str = "") -> dict[str, Any]:
    lua = lua51.LuaRuntime()
    return dict(lua.execute(f"{load_script('_limits').text}\nreturn read_limits(...)", limits.text, settings))


def _read_by_python(limits: Limits, settings: str = "") -> dict[str, Any]:
    numbers = asdict(limits.with_settings(settings))
    del numbers["text"]
    return numbers


def test_what_a_configuration_leaves_out_is_the_same_for_both() -> None:
    """Defaults are not sent, so the scripts have to have the same ones."""
    assert _read_by_the_scripts(_SET_NOWHERE) == _read_by_python(_SET_NOWHERE)


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_a_setting_is_taken_from_its_least_to_its_most(name: str) -> None:
    """What a hand has written beside `set` is in force within the bounds and passed over outside, by both readers."""
    least, most, has_fraction = ADJUSTABLE[name]
    step = 0.0001 if has_fraction else 1
    configured = getattr(_SET_NOWHERE, name)
    for number in (least - step, least, least + step, least + 1.5, most - step, most, most + step):
        settings = f"{name}={spelled(number)}"
        read = _read_by_the_scripts(_SET_NOWHERE, settings)
        taken = number if has_fraction else int(number)
        assert read[name] == (taken if least <= number <= most else configured)
        assert read == _read_by_python(_SET_NOWHERE, settings)

"""A breaker's configuration as the store needs it: one readable text, and the numbers in it.

The text travels to the scripts, stands in the record, and tells two configurations apart; what an operator changes
while the fleet runs is such a text too. So there is one spelling of every threshold, in Python, in Lua and on the
terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import lru_cache
from typing import NamedTuple

from breaker._errors import ConfigError

_MOST = 10**10
MAX_MULTIPLIER = 100
# As the scripts read them.
_PAIR = re.compile(r"([A-Za-z0-9_]+)=([0-9.]*)")
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Thresholds in integers, milliseconds and percent; zero turns a threshold off.

    Attributes:
        text: All of it as `name=value`, without what is left at its default.
    """

    consecutive: int = 0
    window_ms: int = 0
    minimum_calls: int = 0
    failure_percent: float = 0
    slow_percent: float = 0
    minimum_reporters: int = 1
    cooldown_ms: int
    multiplier: float = 1
    max_cooldown_ms: int = 600_000
    jitter_percent: float = 0
    stable_ms: int = 300_000
    probe_limit: int = 1
    probe_successes: int = 1
    ramp_ms: int = 0
    lease_ms: int
    idle_ms: int = 604_800_000
    text: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Defaults are left out, here as in the scripts: the text shows what was decided, the scripts have little to
        # read, and a hash whose values are all short takes a third of the memory in Redis.
        decided = ((each, getattr(self, each.name)) for each in _NUMBERS)
        text = " ".join(f"{each.name}={spelled(value)}" for each, value in decided if value != each.default)
        object.__setattr__(self, "text", text)

    def with_settings(self, settings: str) -> Limits:
        """Return these limits with an operator's settings over them."""
        return _with_settings(self, settings) if settings else self


_NUMBERS: tuple[Field[float], ...] = tuple(each for each in fields(Limits) if each.init)


class Range(NamedTuple):
    """What a setting may be: from where to where, and whether it may have a fraction."""

    least: float = 0
    most: float = _MOST
    has_fraction: bool = False


_COUNT, _SHARE, _NOTHING = Range(least=1), Range(most=100, has_fraction=True), Range(most=-2)
# What is in here may be set by an operator. Zero turns a threshold off, where it makes sense.
ADJUSTABLE = {
    "consecutive": _COUNT,
    "window_ms": Range(least=1000),
    "minimum_calls": _COUNT,
    "minimum_reporters": _COUNT,
    "failure_percent": _SHARE,
    "slow_percent": _SHARE,
    "jitter_percent": _SHARE,
    # Without a limit it would be raised to a power that no number holds.
    "multiplier": Range(1, MAX_MULTIPLIER, has_fraction=True),
    "cooldown_ms": Range(least=1),
    "max_cooldown_ms": Range(least=1),
    "stable_ms": Range(),
    "probe_limit": _COUNT,
    "probe_successes": _COUNT,
    "ramp_ms": Range(),
}


@lru_cache(maxsize=1024)
def _with_settings(limits: Limits, settings: str) -> Limits:
    # What a newer version may have set and this one does not know, or a hand has spoiled, is passed over.
    readable = {}
    for name, text in _pairs(settings):
        least, most, has_fraction = ADJUSTABLE.get(name, _NOTHING)
        number = float(text) if _NUMBER.fullmatch(text) else -1
        if number <= most and (value := number if has_fraction else int(number)) >= least:
            readable[name] = value
    return replace(limits, **readable)  # type: ignore[arg-type]


def checked_changes(settings: Mapping[str, float | None]) -> dict[str, str]:
    """Spell an operator's changes of thresholds; None, which takes one back, becomes an empty text.

    Raises:
        ConfigError: There is no such setting, or the value makes no sense.
    """
    if not settings:
        raise ConfigError("name at least one setting to change")
    changes = {}
    for name, value in settings.items():
        if name not in ADJUSTABLE:
            raise ConfigError(f"there is no setting {name!r}; there are {', '.join(sorted(ADJUSTABLE))}")
        if value is None:
            changes[name] = ""
            continue
        least, most, has_fraction = ADJUSTABLE[name]
        if not isinstance(value, (int, float)):
            raise ConfigError(f"{name} must be a number")
        if not least <= value <= most:
            raise ConfigError(f"{name} must be between {least} and {most}")
        if not has_fraction and value != int(value):
            raise ConfigError(f"{name} must be a whole number")
        changes[name] = spelled(value)
        if value and not float(changes[name]):
            raise ConfigError(f"{name} must be 0 or at least 0.0001")
    return changes


def adjusted(settings: str, changes: Mapping[str, str]) -> str:
    """Return the settings with changes made to them, sorted by name; an empty value takes a setting back."""
    after = {**dict(_pairs(settings)), **changes}
    return " ".join(f"{name}={value}" for name, value in sorted(after.items()) if value)


def spelled(number: float) -> str:
    """Spell a number as every reader understands it: no exponent, no trailing zeros."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def _pairs(text: str) -> list[tuple[str, str]]:
    return _PAIR.findall(text)

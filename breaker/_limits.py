"""A breaker's configuration as the store needs it: one readable text, and the numbers in it.

The text travels to the scripts, stands in the record, and tells two configurations apart; what an operator changes
while the fleet runs is such a text too. So there is one spelling of every threshold, in Python, in Lua and on the
terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import lru_cache

from breaker._errors import ConfigError

# A replica's thresholds that depend on its own code (its call timeout) or on memory, not on the dependency.
_NOT_ADJUSTABLE = {"lease_ms", "idle_ms"}
_MOST = 10**10
MAX_MULTIPLIER = 100


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
_ADJUSTABLE = {each.name: each.type == "float" for each in _NUMBERS if each.name not in _NOT_ADJUSTABLE}

# Below these a threshold makes no sense; the rest may be zero, which turns it off.
_AT_LEAST = {
    "consecutive": 1,
    "window_ms": 1000,
    "minimum_calls": 1,
    "minimum_reporters": 1,
    "cooldown_ms": 1,
    "multiplier": 1,
    "max_cooldown_ms": 1,
    "probe_limit": 1,
    "probe_successes": 1,
}
# And above these; a multiplier without a limit would be raised to a power that no number holds.
_AT_MOST = {"failure_percent": 100, "slow_percent": 100, "jitter_percent": 100, "multiplier": MAX_MULTIPLIER}


@lru_cache(maxsize=1024)
def _with_settings(limits: Limits, settings: str) -> Limits:
    # What a newer version may have set and this one does not know is passed over.
    known = {
        name: float(value) if _ADJUSTABLE[name] else int(value)
        for name, value in _pairs(settings).items()
        if name in _ADJUSTABLE
    }
    return replace(limits, **known)  # type: ignore[arg-type]


def checked_changes(settings: Mapping[str, float | None]) -> dict[str, str]:
    """Spell an operator's changes of thresholds; None, which takes one back, becomes an empty text.

    Raises:
        ConfigError: There is no such setting, or the value makes no sense.
    """
    if not settings:
        raise ConfigError("name at least one setting to change")
    changes = {}
    for name, value in settings.items():
        if name not in _ADJUSTABLE:
            raise ConfigError(f"there is no setting {name!r}; there are {', '.join(sorted(_ADJUSTABLE))}")
        if value is None:
            changes[name] = ""
            continue
        least, most = _AT_LEAST.get(name, 0), _AT_MOST.get(name, _MOST)
        if not least <= value <= most:
            raise ConfigError(f"{name} must be between {least} and {most}")
        if not _ADJUSTABLE[name] and value != int(value):
            raise ConfigError(f"{name} must be a whole number")
        changes[name] = spelled(value)
    return changes


def adjusted(settings: str, changes: Mapping[str, str]) -> str:
    """Return the settings with changes made to them, sorted by name; an empty value takes a setting back."""
    after = {**_pairs(settings), **changes}
    return " ".join(f"{name}={value}" for name, value in sorted(after.items()) if value)


def spelled(number: float) -> str:
    """Spell a number as every reader understands it: no exponent, no trailing zeros."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split())

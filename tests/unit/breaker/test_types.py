"""What an operator and a classifier may say."""

from __future__ import annotations

from typing import Any

import pytest

from breaker import Adjust, Mode, OpenFor, Override

_TEN_YEARS_SECONDS = 10 * 365 * 24 * 3600


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"mode": "explode"}, "Override.mode must be None or one of auto, forced_open, forced_closed, metrics_only"),
        ({"mode": "reset"}, "Override.mode must be None or one of"),
        ({"mode": ""}, "Override.mode must be None or one of"),
        ({"mode": 1}, "Override.mode must be None or one of"),
        ({"duration_ms": -1}, "Override.duration_ms must be a whole number"),
        ({"duration_ms": 60_000.5}, "Override.duration_ms must be a whole number"),
        ({"duration_ms": float("nan")}, "Override.duration_ms must be a whole number"),
        ({"duration_ms": float("inf")}, "Override.duration_ms must be a whole number"),
        ({"duration_ms": "600"}, "Override.duration_ms must be a whole number"),
        ({"duration_ms": 1000 * _TEN_YEARS_SECONDS + 1}, "Override.duration_ms must be a whole number"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(given: dict[str, Any], complaint: str) -> None:
    """Where it is written, with a message that says what it may be."""
    with pytest.raises(ValueError, match=complaint):
        Override(**{"mode": Mode.FORCED_OPEN, "reason": "because", "actor": "anna", **given})


@pytest.mark.parametrize("duration_ms", [0, 1, 1000 * _TEN_YEARS_SECONDS, 60_000.0])
def test_a_mode_may_be_given_as_its_word(duration_ms: Any) -> None:
    """Forms and terminals give text; it becomes the mode, and a duration a whole number."""
    override = Override(mode="forced_open", reason="because", actor="anna", duration_ms=duration_ms)  # type: ignore[arg-type]
    assert override.mode is Mode.FORCED_OPEN
    assert (override.action, override.duration_ms) == ("forced_open", int(duration_ms))
    assert isinstance(override.duration_ms, int)


def test_without_a_mode_an_override_is_a_reset() -> None:
    """None stands for it."""
    assert Override(mode=None, reason="because", actor="anna").action == "reset"


@pytest.mark.parametrize(
    ("said_seconds", "taken_seconds"), [(0.5, 0.5), (1e9, _TEN_YEARS_SECONDS), (1e306, _TEN_YEARS_SECONDS)]
)
def test_a_dependency_stays_away_for_ten_years_at_most(said_seconds: float, taken_seconds: float) -> None:
    """A number that no clock holds is a long time, and no fault of the call that got it for an answer."""
    assert OpenFor(said_seconds).seconds == taken_seconds


@pytest.mark.parametrize(
    "make", [lambda **words: Override(mode=None, **words), lambda **words: Adjust(settings={}, **words)]
)
def test_what_an_operator_says_can_always_be_kept(make: Any) -> None:
    """Whatever a terminal or a form made of it: a text of at most 500 characters that every reader can read."""
    said = make(reason="\udcff" + "x" * 10**6, actor="\udcff")
    assert said.reason == "\\udcff" + "x" * 494
    assert said.actor == "\\udcff"

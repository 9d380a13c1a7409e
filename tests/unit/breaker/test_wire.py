"""What comes back from a server, and what happens to what this version does not understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from breaker import Mode, ScriptError, State, View, _wire
from breaker._types import Permitted, Reporting

_PERMITTED = ["permitted", "closed", 5, "auto", 0, "failures", None, 0]
_REFUSED = ["refused", "open", 5, "auto", 0, "open", 30_000, "Boom", 0]
_RECORDED = ["recorded", "closed", 5, 1, None]
_ENTRY = {
    "event": "tripped",
    "state": "open",
    "generation": "5",
    "mode": "auto",
    "by": "a",
    "reason": "b",
    "at_ms": "7",
}


def _with(reply: list[Any], place: int, part: Any) -> list[Any]:
    return [*reply[:place], part, *reply[place + 1 :]]


@pytest.mark.parametrize(
    ("read", "said"),
    [
        *((_wire.acquired, reply) for reply in (None, [], ["permitted"], ["allowed", *_PERMITTED[1:]], 5)),
        *((_wire.acquired, _with(_PERMITTED, place, "x")) for place in (0, 1, 3, 5, 6)),
        *((_wire.acquired, _with(_REFUSED, place, "x")) for place in (0, 1, 3, 5)),
        (_wire.acquired, _with(_PERMITTED, 1, b"\xff")),
        (_wire.acquired, _with(_PERMITTED, 1, ["closed"])),
        *((_wire.recorded, reply) for reply in (None, [], ["recorded"], ["noted", *_RECORDED[1:]])),
        *((_wire.recorded, _with(_RECORDED, place, "x")) for place in (0, 1, 4)),
        *((_wire.shown, reply) for reply in (None, [], ["seen", "state", "closed"], ["view", "state", "shut"])),
        *((_wire.shown, ["view", field, text]) for field, text in (("mode", "x"), ("failures", "x"), ("run", None))),
        (_wire.told, ""),
        (_wire.told, "that is all"),
        (_wire.told, "[1]"),
        (_wire.told, "5"),
        (_wire.told, '{"state": "shut"}'),
        (_wire.told, '{"state": ["closed"]}'),
        (_wire.told, '{"failures": "many"}'),
        (_wire.told, '{"failures": Infinity}'),
        (_wire.told, '{"failures": null}'),
        (_wire.told, None),
        *(
            (_wire.logged, [("1-0", {**_ENTRY, field: "x"})])
            for field in ("event", "state", "generation", "mode", "at_ms")
        ),
        *((_wire.logged, [("1-0", {each: _ENTRY[each] for each in _ENTRY if each != field})]) for field in _ENTRY),
        (_wire.logged, [("1-0", None)]),
        (_wire.logged, [5]),
    ],
)
def test_what_is_not_understood_is_a_script_error(read: Callable[[Any], object], said: Any) -> None:
    """Whatever it is, whoever asked hears one kind of error, which concerns that circuit alone."""
    with pytest.raises(ScriptError, match=r"answered|told"):
        read(said)


def test_an_error_repeats_no_more_than_the_beginning() -> None:
    """What is not understood may be long."""
    with pytest.raises(ScriptError) as raised:
        _wire.told("x" * 10**6)
    assert len(str(raised.value)) < 600


def test_what_is_understood_is_read() -> None:
    """With bytes as with texts."""
    expected = Permitted(State.CLOSED, 5, Mode.AUTO, Reporting.FAILURES)
    in_bytes = [part.encode() if isinstance(part, str) else part for part in _PERMITTED]
    assert _wire.acquired(_PERMITTED) == _wire.acquired(in_bytes) == expected
    assert _wire.told('{"state": "open", "failures": "3", "patience": "5"}') == View(state=State.OPEN, failures=3)
    assert _wire.shown(["absent"]) is None
    (entry,) = _wire.logged([(b"1-0", _ENTRY)])
    assert (entry.generation, entry.by, entry.at_ms) == (5, "a", 7)

"""What goes to the scripts and what comes back: keys, arguments, replies. No I/O, so threads and tasks share it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from breaker._config import check_name
from breaker._errors import ConfigError, ScriptError
from breaker._limits import Limits, checked_changes
from breaker._scripts import Script, load_script
from breaker._types import (
    Adjust,
    LogEntry,
    Mode,
    Override,
    Permitted,
    Reason,
    Recorded,
    Refused,
    Report,
    Reporting,
    State,
    Transition,
    View,
)

Arguments = Sequence[str | int]


class Keys(NamedTuple):
    """The keys of a circuit, all in one hash slot, in the order in which the scripts take them."""

    record: str
    probes: str
    window: str
    reporters: str
    events: str

    @property
    def changes(self) -> str:
        """The channel that the scripts publish on."""
        return f"{self.record}:changes"


class KeySpace:
    """Names the keys of every circuit.

    Args:
        prefix: What every key begins with; ends with a colon and holds no braces.

    Attributes:
        registry: The set of all names.

    Raises:
        ConfigError: The prefix cannot be one.
    """

    def __init__(self, prefix: str) -> None:
        if not prefix.endswith(":") or "{" in prefix or "}" in prefix:
            raise ConfigError(f"prefix must end with a colon and hold no braces: {prefix!r}")
        self._prefix = prefix
        self._known: dict[str, Keys] = {}
        self.registry = prefix[:-1] + "s"

    def of(self, name: str) -> Keys:
        """Return a circuit's keys.

        Raises:
            ConfigError: The name cannot be one.
        """
        keys = self._known.get(name)
        if keys is None:
            record = f"{self._prefix}{{{check_name(name)}}}"
            keys = self._known[name] = Keys(
                record, f"{record}:probes", f"{record}:window", f"{record}:reporters", f"{record}:events"
            )
        return keys


class Scripts:
    """The four scripts of a store."""

    def __init__(self, search_path: Sequence[Traversable] = ()) -> None:
        folders = tuple(search_path)
        self.acquire: Script = load_script("acquire", folders)
        self.record: Script = load_script("record", folders)
        self.snapshot: Script = load_script("snapshot", folders)
        self.control: Script = load_script("control", folders)


def acquire_arguments(permit_id: str, limits: Limits, replica_id: str, *, may_probe: bool) -> Arguments:
    """Return what `acquire.lua` takes."""
    return permit_id, replica_id, int(may_probe), limits.text


def record_arguments(report: Report, limits: Limits) -> Arguments:
    """Return what `record.lua` takes."""
    return (
        report.permit_id,
        report.replica_id,
        report.generation,
        report.outcome,
        report.error,
        report.calls,
        report.failures,
        report.slow,
        report.open_for_ms,
        int(report.alone),
        limits.text,
    )


def control_arguments(action: Override | Adjust) -> Arguments:
    """Return what `control.lua` takes.

    Raises:
        ConfigError: There is no such setting, or its value makes no sense.
    """
    if isinstance(action, Override):
        return action.action, action.reason, action.actor, action.duration_ms, ""
    changes = " ".join(f"{name}={value}" for name, value in checked_changes(action.settings).items())
    return "adjust", action.reason, action.actor, 0, changes


def acquired(reply: Sequence[Any]) -> Permitted | Refused:
    """Read the reply of `acquire.lua`.

    Raises:
        ScriptError: It is not understood, as by each of the readers below.
    """
    # On the path of every strict call, so the words are looked up rather than made: an enumeration's call costs more.
    try:
        match _texts(reply):
            case ["permitted", state, generation, mode, mode_rest_ms, reporting, transition, _]:
                moved = Transition(transition) if transition else None
                return Permitted(_STATES[state], generation, _MODES[mode], _REPORTING[reporting], moved, mode_rest_ms)
            case ["refused", state, generation, mode, mode_rest_ms, reason, retry_after_ms, last_error, _]:
                return Refused(
                    State(state), generation, Mode(mode), Reason(reason), retry_after_ms, last_error, mode_rest_ms
                )
    except _UNREADABLE as error:
        raise _not_understood("acquire answered", reply) from error
    raise _not_understood("acquire answered", reply)


def recorded(reply: Sequence[Any]) -> Recorded:
    """Read the reply of `record.lua`."""
    try:
        match _texts(reply):
            case [("recorded" | "stale") as word, state, generation, failures, transition]:
                moved = Transition(transition) if transition else None
                return Recorded(word == "recorded", State(state), generation, failures, moved)
    except _UNREADABLE as error:
        raise _not_understood("record answered", reply) from error
    raise _not_understood("record answered", reply)


def shown(reply: Sequence[Any]) -> View | None:
    """Read the reply of `snapshot.lua` or `control.lua`."""
    try:
        match _texts(reply):
            case ["absent"]:
                return None
            case ["view", *fields]:
                # What `control` adds, whether it created the record, has no partner and falls off here.
                return view_of(dict(zip(fields[::2], fields[1::2], strict=False)))
    except _UNREADABLE as error:
        raise _not_understood("a read was answered", reply) from error
    raise _not_understood("a read was answered", reply)


def logged(entries: Iterable[tuple[Any, Mapping[Any, Any]]]) -> list[LogEntry]:
    """Read entries of an events stream."""
    entries = list(entries)
    try:
        read = [{text(field): text(value) for field, value in fields.items()} for _, fields in entries]
        return [
            LogEntry(
                kind=Transition(entry["event"]),
                state=State(entry["state"]),
                generation=int(entry["generation"]),
                mode=Mode(entry["mode"]),
                by=entry["by"],
                reason=entry["reason"],
                at_ms=int(entry["at_ms"]),
            )
            for entry in read
        ]
    except _UNREADABLE as error:
        raise _not_understood("the events told", entries) from error


def told(message: str) -> View:
    """Read a message."""
    try:
        fields, _ = _decode(message)
        return view_of(fields)
    except _UNREADABLE as error:
        raise _not_understood("a message told", message) from error


def concerns_one_circuit(error: Exception) -> bool:
    """Tell whether what a server refuses is the fault of one circuit's keys or of a script, and not of the server."""
    text = str(error)
    return text.startswith(("BREAKER", "WRONGTYPE")) or "user_script" in text


def view_of(fields: Mapping[str, str]) -> View:
    """Read a circuit from its fields, as replies and messages carry them; a message leaves out what is blank."""
    # Fields of a newer version are left out rather than refused: during a rolling deploy both versions read.
    values = _BLANK.copy()
    for field, text_of_it in fields.items():
        if field in _FIELDS:
            place, read = _FIELDS[field]
            values[place] = read(text_of_it)
    return View._make(values)


def text(part: Any) -> Any:
    """Decode what the client left as bytes; clients that decode replies and clients that do not are both welcome."""
    return part.decode() if isinstance(part, bytes) else part


# What reading comes to where a word is unknown, something lacks, or all of it is of another kind.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_MOST_REPEATED = 500
_STATES: dict[str, State] = {state: state for state in State}
_MODES: dict[str, Mode] = {mode: mode for mode in Mode}
_REPORTING: dict[str, Reporting] = {reporting: reporting for reporting in Reporting}
_READ: dict[type, Callable[[str], Any]] = {State: _STATES.__getitem__, Mode: _MODES.__getitem__}
_BLANK: list[Any] = list(View())
# Where each field of a view stands, and how it is read.
_FIELDS: dict[str, tuple[int, Callable[[str], Any]]] = {
    field: (place, _READ.get(type(blank), type(blank))) for place, (field, blank) in enumerate(View()._asdict().items())
}
_decode = json.JSONDecoder().raw_decode


def _texts(reply: Sequence[Any]) -> list[Any]:
    # Spelled out: a call of `text` for each part would cost as much as all the rest.
    return [part.decode() if isinstance(part, bytes) else part for part in reply]


def _not_understood(what: str, said: object) -> ScriptError:
    return ScriptError(f"{what} {said!r:.{_MOST_REPEATED}}")

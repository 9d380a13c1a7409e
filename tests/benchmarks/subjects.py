"""What is compared: guarded calls that do nothing, closed and refused, of one breaker each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.benchmarks.timing import Series


class Room(StrEnum):
    """Where a breaker keeps its circuits."""

    NONE = ""
    PROCESS = "process"
    REDIS = "Redis"


@dataclass(slots=True)
class Subject:
    """One breaker, or something to compare breakers with.

    Attributes:
        name: As the tables show it.
        room: Where its circuits are.
        closed: A call that is let through.
        refused: A call that is refused, if it can refuse.
        ours: Whether it is this library.
        closed_commands: Commands that reach the server for one call, once counted.
        refused_commands: The same for a refusal.
    """

    name: str
    room: Room
    closed: Series
    refused: Series | None = None
    ours: bool = False
    closed_commands: float | None = None
    refused_commands: float | None = None


def subject(
    name: str,
    room: Room,
    closed: Callable[[], Any],
    refused: Callable[[], Any],
    refusal: type[Exception],
    *,
    blocking: bool = False,
    ours: bool = False,
) -> Subject:
    """Put a breaker's two calls together."""
    return Subject(name, room, Series(closed, None, blocking), Series(refused, refusal, blocking), ours)


class DependencyError(Exception):
    """What the guarded dependency raises to trip a circuit."""


async def work() -> None:
    """Do nothing, which is what is guarded."""


async def fail() -> None:
    """Fail, to trip a circuit."""
    raise DependencyError


def blocking_work() -> None:
    """Do nothing, for breakers that know no asyncio."""


def blocking_fail() -> None:
    """Fail, for breakers that know no asyncio."""
    raise DependencyError

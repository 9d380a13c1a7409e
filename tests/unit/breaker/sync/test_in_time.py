"""The deadline that a thread gives to what its connections do."""

from __future__ import annotations

from breaker.sync._guard import StoreGuard
from breaker.sync._in_time import rest_seconds
from tests.unit.breaker.sync.support import works


def test_a_command_keeps_its_deadline_when_a_signal_handler_runs_another_one() -> None:
    """In the middle of the first; what is left for it is no more than it was."""
    guard, left = StoreGuard(5, 2), list[float]()

    def command() -> None:
        """Be interrupted by a signal handler that runs a command of its own."""
        guard.run(works)
        left.append(rest_seconds())

    guard.run(command)
    assert left[0] <= 5

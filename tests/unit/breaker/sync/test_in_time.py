"""The guard of a store of threads, and the deadline that a thread gives to what its connections do."""

from __future__ import annotations

import pytest

from breaker import StoreUnavailableError
from breaker.sync._guard import StoreGuard
from breaker.sync._in_time import rest_seconds
from tests.unit.breaker.sync.support import fails, works


def test_a_command_keeps_its_deadline_when_a_signal_handler_runs_another_one() -> None:
    """In the middle of the first; what is left for it is no more than it was."""
    guard, left = StoreGuard(5, 2), list[float]()

    def command() -> None:
        """Be interrupted by a signal handler that runs a command of its own."""
        guard.run(works)
        left.append(rest_seconds())

    guard.run(command)
    assert left[0] <= 5


def test_a_command_from_before_the_store_came_back_takes_it_away_no_more() -> None:
    """Of those that wait for a frozen server some are answered when it goes on; the others say nothing of it then."""
    guard = StoreGuard(5, 3)

    def is_too_late() -> None:
        """Wait while another command fails and a third is answered."""
        with pytest.raises(StoreUnavailableError):
            guard.run(fails)
        assert guard.degraded
        guard._try_again_at = dict.fromkeys(guard._try_again_at, 0.0)
        guard.run(works)
        fails()

    with pytest.raises(StoreUnavailableError):
        guard.run(is_too_late)
    assert not guard.degraded

"""The first steps of `make interleavings`, and that it finds mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.interleavings.circuits import Circuits, ReductionError
from tests.interleavings.scopes import ALL, ONE_PROBE, Scope
from tests.interleavings.search import Search
from tests.interleavings.wrong_scripts import MISTAKES, Mistake

# Deep enough for a trip, a cooldown, a probe and what comes late for it; all of it takes minutes.
_DEPTH = 18


@pytest.mark.parametrize("scope", ALL, ids=lambda scope: scope.name)
def test_every_promise_holds_in_every_order_of_steps(scope: Scope, redis_url: str) -> None:
    """Three replicas, each step in each order, with answers lost, leases lapsed and reports repeated."""
    few = replace(scope, depth=12 if scope.operator else _DEPTH, strays=min(scope.strays, 1))
    with Circuits(redis_url, few.config) as circuits:
        found = Search(few, circuits).run()
    assert found.depth == few.depth
    assert found.states > 1000
    assert found.slowest_recovery > 1


def test_the_first_steps_are_the_same_on_every_server(empty_server_url: str) -> None:
    """The scripts run on Redis 7.0 as they do on Valkey."""
    few = replace(ONE_PROBE, depth=_DEPTH - 4, strays=1)
    with Circuits(empty_server_url, few.config) as circuits:
        assert Search(few, circuits).run().depth == few.depth


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_a_script_is_found(mistake: Mistake, redis_url: str, tmp_path: Path) -> None:
    """The same search fails when a script makes a mistake that it is there to find."""
    mistake.plant(tmp_path)
    scope = replace(mistake.scope, depth=22)
    with Circuits(redis_url, scope.config, [tmp_path]) as circuits, pytest.raises(AssertionError, match=mistake.broken):
        Search(scope, circuits).run()


@pytest.mark.parametrize("mistake", [each for each in MISTAKES if each.leads_to], ids=lambda mistake: mistake.name)
def test_what_a_mistake_leads_to_is_found(mistake: Mistake, redis_url: str, tmp_path: Path) -> None:
    """What is promised of states, of running calls and of recovery fails by itself, not only the step that is wrong."""
    mistake.plant(tmp_path)
    scope = replace(mistake.scope, depth=24)
    with Circuits(redis_url, scope.config, [tmp_path]) as circuits, pytest.raises(AssertionError) as broken:
        Search(scope, circuits, watch_steps=False).run()
    assert mistake.leads_to in str(broken.value)


def test_what_the_search_leaves_out_is_told_apart_where_it_decides(redis_url: str) -> None:
    """Reopenings that made cooldowns grow would be no detail: the search notices, and does not go on without them."""
    growing = replace(ONE_PROBE.config, cooldown_multiplier=2, cooldown_jitter=0)
    scope = replace(ONE_PROBE, config=growing, depth=_DEPTH)
    with Circuits(redis_url, growing) as circuits, pytest.raises(ReductionError, match="told apart"):
        Search(scope, circuits).run()

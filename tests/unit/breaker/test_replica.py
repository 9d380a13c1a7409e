"""Who a process is to the fleet."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest

from breaker._replica import Replica

_FORKING = """
import os
from breaker import CircuitBreaker, MemoryStore
breakers = [CircuitBreaker("stripe", MemoryStore(), replica_id=name) for name in (None, "api-1")]
if child := os.fork():
    os.waitpid(child, 0)
for breaker in breakers:
    replica = breaker._circuit.replica
    print(replica.id, replica.permit_id())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_child_is_another_replica() -> None:
    """Its permits are its own though its parent made the breaker, and so is its name unless one was given."""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING], timeout=40, check=True, capture_output=True, text=True
    )
    names, permit_ids = zip(*(line.split() for line in told.stdout.splitlines()), strict=True)
    assert names.count("api-1") == 2
    assert len(set(names)) == 3
    assert len(set(permit_ids)) == 4


def test_every_permit_has_an_id_of_its_own() -> None:
    """Within a process by a counter, in another by another beginning."""
    replica = Replica("api-1")
    permit_ids = [replica.permit_id() for _ in range(3)]
    replica._begin()  # What a forked child does.
    permit_ids += [replica.permit_id(), Replica("api-1").permit_id()]
    assert len(set(permit_ids)) == 5


@pytest.mark.parametrize(
    ("given", "name"), [(UUID(int=1), str(UUID(int=1))), ("pod-\udcff", "pod-\\udcff"), ("x" * 10**6, "x" * 200)]
)
def test_any_name_can_be_sent(given: Any, name: str) -> None:
    """A driver refuses what is no text, and the store would look absent at every call."""
    replica = Replica(given)
    assert replica.id == name
    replica.id.encode()

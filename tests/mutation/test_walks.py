"""The walks as tests, for mutants that no test of the contract notices; `make test` has the model for that."""

from __future__ import annotations

import asyncio

import pytest
import redis

from tests.mutation import stories

WALKS, _AT_ONCE = 300, 30


async def _tell(seeds: range) -> dict[int, stories.Story]:
    return {seed: await stories.tell(seed) for seed in seeds}


# Told while tests are collected, which is before there is a mutant.
_TOLD = asyncio.run(_tell(range(WALKS)))


@pytest.mark.parametrize("first", range(0, WALKS, _AT_ONCE))
async def test_memory_walks_as_told(first: int) -> None:
    """The machine in Python answers what it answered when the walks were told."""
    for seed in range(first, first + _AT_ONCE):
        assert await stories.ask_memory(_TOLD[seed]) == [step.answer for step in _TOLD[seed]]


@pytest.mark.parametrize("first", range(0, WALKS, _AT_ONCE))
def test_a_server_walks_as_told(valkey_url: str, first: int) -> None:
    """The scripts answer what the machine in Python answered."""
    with redis.Redis.from_url(valkey_url) as client:
        for seed in range(first, first + _AT_ONCE):
            assert stories.ask_server(client, _TOLD[seed]) == [step.answer for step in _TOLD[seed]]

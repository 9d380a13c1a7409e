"""What one circuit takes in Redis."""

from __future__ import annotations

import redis
import redis.asyncio

from breaker import CircuitBreaker, Consistency
from tests.benchmarks.ours import PATIENT, config
from tests.benchmarks.subjects import work
from tests.benchmarks.watched import WatchedStore, trip


async def measure_keys(url: str) -> dict[str, int]:
    """Add up MEMORY USAGE of every key of a circuit that was never anything but healthy, and of one that is open."""
    async with redis.asyncio.Redis.from_url(url) as client:
        store = WatchedStore(client, **PATIENT)
        await CircuitBreaker("bytes-healthy", store, config(Consistency.STRICT)).call(work)
        await trip(CircuitBreaker("bytes-open", store, config(Consistency.STRICT)))
        await store.aclose()
    with redis.Redis.from_url(url) as blocking:
        return {
            state: sum(blocking.memory_usage(key, samples=0) or 0 for key in blocking.scan_iter(f"*bytes-{state}*"))
            for state in ("healthy", "open")
        }

"""A distributed circuit breaker: one circuit per dependency, shared by a fleet through Redis."""

from __future__ import annotations

from breaker._breaker import CircuitBreaker
from breaker._config import BreakerConfig, Consecutive, Consistency, OnStoreError
from breaker._errors import (
    BreakerError,
    CallNotPermittedError,
    CallTimeoutError,
    ConfigError,
    ScriptError,
    StoreUnavailableError,
)
from breaker._events import BreakerEvent, EventKind, Listener
from breaker._memory_store import MemoryStore
from breaker._redis_store import RedisStore
from breaker._store import Store
from breaker._types import Mode, Outcome, Override, State, View

__all__ = [
    "BreakerConfig",
    "BreakerError",
    "BreakerEvent",
    "CallNotPermittedError",
    "CallTimeoutError",
    "CircuitBreaker",
    "ConfigError",
    "Consecutive",
    "Consistency",
    "EventKind",
    "Listener",
    "MemoryStore",
    "Mode",
    "OnStoreError",
    "Outcome",
    "Override",
    "RedisStore",
    "ScriptError",
    "State",
    "Store",
    "StoreUnavailableError",
    "View",
]

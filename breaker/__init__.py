"""A distributed circuit breaker: one circuit per dependency, shared by a fleet through Redis."""

from __future__ import annotations

from breaker._breaker import CircuitBreaker
from breaker._config import BreakerConfig, Consecutive, Consistency, FailureRate, OnStoreError
from breaker._errors import (
    BreakerError,
    CallNotPermittedError,
    CallTimeoutError,
    ConfigError,
    ScriptError,
    StoreUnavailableError,
)
from breaker._events import BreakerEvent, EventKind, Listener, Status
from breaker._memory_store import MemoryStore
from breaker._permit import Permit
from breaker._redis_store import RedisStore
from breaker._store import Store
from breaker._types import Adjust, LogEntry, Mode, OpenFor, Outcome, Override, Reason, State, Transition, View

__all__ = [
    "Adjust",
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
    "FailureRate",
    "Listener",
    "LogEntry",
    "MemoryStore",
    "Mode",
    "OnStoreError",
    "OpenFor",
    "Outcome",
    "Override",
    "Permit",
    "Reason",
    "RedisStore",
    "ScriptError",
    "State",
    "Status",
    "Store",
    "StoreUnavailableError",
    "Transition",
    "View",
]

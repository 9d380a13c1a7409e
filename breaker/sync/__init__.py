"""The same breaker for threads, over `redis.Redis`; it shares circuits with asyncio replicas.

The names and their meaning are those of `breaker`, with plain calls for awaited ones; configuration, errors, events and
the words are imported from there. What differs, because a thread cannot be cancelled:

- A call that exceeds `call_timeout_seconds` counts as a failure at that moment, while it hangs, and a probe gives its
  place up by reopening the circuit; its error is called `CallTimeoutError`, and `describe_error` is not asked, since
  nothing was raised. The call itself goes on, and when it returns at last its caller gets its own result or exception;
  `CallTimeoutError` is never raised. Give the client of the dependency a timeout of its own as well.
- A stream (a generator function) is bounded likewise, in the wait for each item.
- What asyncio calls a cancellation is here an exception that is no `Exception`, such as `KeyboardInterrupt`: it counts
  as nothing, and a probe's place is given back.
- Listeners and classifiers run in the thread of the call that they are about. What happens in the background is told
  by one thread for all listeners of the store, so one that hangs there holds up the others, but no call and no circuit.
  Threads may tell of events in another order than that of their generations, in which they happened.
- A background probe runs in a thread of its own, and one that never returns is this replica's last.

A store runs one thread for what must happen at a time, one for listeners and, for mirrored circuits, one for the
subscription; they start when they are first needed, never keep the interpreter alive and end with `store.close()`. A
child process made by `fork` begins anew: stores and breakers made before the fork can be used in it, know nothing,
share no connection and start their own threads. Calls that are under way when the process forks belong to the
parent; how they end in the child counts as nothing.
"""

from __future__ import annotations

from breaker.sync._breaker import CircuitBreaker
from breaker.sync._memory_store import MemoryStore
from breaker.sync._permit import Permit
from breaker.sync._redis_store import RedisStore

__all__ = ["CircuitBreaker", "MemoryStore", "Permit", "RedisStore"]

"""Guards an httpx client: one circuit for each host that it talks to.

    guarded = BreakerTransport(httpx.AsyncHTTPTransport(), breaker_for=PerHost(store, config))
    async with httpx.AsyncClient(transport=guarded) as client:
        ...

A refused request raises `CallNotPermittedError`, which is none of httpx's errors: nothing was sent. For asyncio;
`SyncBreakerTransport` and `SyncPerHost` are the same for `httpx.Client` and threads. While Redis is away requests are
guarded as the configuration's `on_store_error` says. Needs the extra `httpx`.
"""

from __future__ import annotations

from breaker.integrations.httpx._answers import classify_error, describe_error
from breaker.integrations.httpx._hosts import PerHost, SyncPerHost
from breaker.integrations.httpx._sync_transport import SyncBreakerTransport
from breaker.integrations.httpx._transport import BreakerTransport

__all__ = [
    "BreakerTransport",
    "PerHost",
    "SyncBreakerTransport",
    "SyncPerHost",
    "classify_error",
    "describe_error",
]

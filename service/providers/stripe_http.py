"""How the Stripe SDK reaches the network: through httpx, with limits, and with the raw answer kept for a look.

The SDK's own httpx client takes no limits, and the SDK loses the headers of every answer whose body is not Stripe's:
`Retry-After` on a 503 from an edge, for one. `stripe.HTTPClient` is the seam it offers for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import httpx
import stripe


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of an HTTP answer whatever its body is."""

    status: int
    headers: Mapping[str, str]


# Per task: two calls at once never see each other's answer.
_answer: ContextVar[Answer | None] = ContextVar("stripe_answer", default=None)


def last_answer() -> Answer | None:
    """Give the last answer that came in this task since `forget_answer`."""
    return _answer.get()


def forget_answer() -> None:
    """Begin a call: what an earlier call of this task was answered says nothing about this one."""
    _answer.set(None)


class StripeTransport(stripe.HTTPClient):
    """The SDK's way to the network; it never repeats a request and follows no redirect.

    Args:
        connect_timeout_seconds: How long connecting may take, and waiting for a free connection of the pool.
        read_timeout_seconds: How long the other side may stay silent while sending or being sent to.
        max_connections: How many requests may be out at once.
    """

    name = "httpx"

    def __init__(self, *, connect_timeout_seconds: float, read_timeout_seconds: float, max_connections: int) -> None:
        super().__init__()
        # A process-wide switch: with it on, the SDK writes a file into the home directory and reports the platform.
        stripe.enable_telemetry = False
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(read_timeout_seconds, connect=connect_timeout_seconds, pool=connect_timeout_seconds),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read the whole answer.

        Raises:
            stripe.APIConnectionError: No whole answer came; the cause is httpx's error.
        """
        try:
            response = await self._client.request(method, url, headers=headers, content=post_data)
        except (httpx.RequestError, OSError) as error:
            raise stripe.APIConnectionError(type(error).__name__) from error  # type: ignore[no-untyped-call]
        _answer.set(Answer(response.status_code, response.headers))
        return response.content, response.status_code, response.headers

    async def close_async(self) -> None:
        """Close the connections."""
        await self._client.aclose()

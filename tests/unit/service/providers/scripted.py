"""A provider that answers as its script says, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from service.providers.base import (
    CallRefusedError,
    CreateIntent,
    Declined,
    ProviderIntent,
    ProviderOperation,
    ProviderStatus,
)

REQUEST = CreateIntent(
    operation_id="op_1", intent_id="payint_1", amount=2500, currency="EUR", return_url="https://shop.example/back"
)
INTENT = ProviderIntent(provider_intent_id="pi_1", status=ProviderStatus.REQUIRES_ACTION, amount=2500, currency="EUR")

Act = ProviderIntent | Declined | Callable[[], Exception] | None


class ScriptedProvider:
    """Plays one act for each call, the last one over and over; an act of None never answers.

    Attributes:
        calls: What was asked, in order.
        called: Set by the first call.
        closed: Whether it was closed.
    """

    def __init__(self, *acts: Act) -> None:
        self._acts = acts
        self.calls: list[object] = []
        self.called = asyncio.Event()
        self.closed = False

    @property
    def name(self) -> str:
        """Name it unlike any real one."""
        return "scripted"

    async def peek(self, operation: ProviderOperation) -> CallRefusedError | None:  # noqa: ARG002
        """Refuse nothing."""
        return None

    async def create_intent(self, request: CreateIntent) -> ProviderIntent | Declined:
        """Play the next act."""
        return await self._play(request)

    async def retrieve_intent(self, provider_intent_id: str) -> ProviderIntent:
        """Play the next act."""
        answer = await self._play(provider_intent_id)
        assert isinstance(answer, ProviderIntent)
        return answer

    async def find_intent(self, operation_id: str, *, created_after: datetime) -> ProviderIntent | None:
        """Play the next act."""
        answer = await self._play((operation_id, created_after))
        assert isinstance(answer, ProviderIntent)
        return answer

    async def aclose(self) -> None:
        """Remember it."""
        self.closed = True

    async def _play(self, asked: object) -> ProviderIntent | Declined:
        self.calls.append(asked)
        self.called.set()
        act = self._acts[min(len(self.calls), len(self._acts)) - 1]
        if act is None:
            await asyncio.Event().wait()
        if callable(act):
            raise act()
        assert act is not None
        return act

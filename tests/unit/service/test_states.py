from __future__ import annotations

import pytest

from service.payments.states import DEAD, IntentStatus, after_provider_says, can_be_refreshed
from service.providers.base import ProviderStatus

S, P = IntentStatus, ProviderStatus

SEEN = {
    P.REQUIRES_ACTION: S.REQUIRES_ACTION,
    P.PROCESSING: S.PROCESSING,
    P.AUTHORIZED: S.LOCKED,
    P.CAPTURED: S.RELEASED,
    P.CANCELED: S.VOIDED,
}
OPEN = (S.SUBMITTING, S.REQUIRES_ACTION, S.PROCESSING)


@pytest.mark.parametrize("said", P)
@pytest.mark.parametrize("current", S)
def test_every_status_meets_every_answer(current: IntentStatus, said: ProviderStatus) -> None:
    """Before the hold everything may come; a hold can only end; what has ended stays; the impossible is for people."""
    after = after_provider_says(current, said)
    if current in OPEN:
        assert after is SEEN[said]
    elif current is S.LOCKED:
        assert after is (S.REVIEW if said in {P.REQUIRES_ACTION, P.PROCESSING} else SEEN[said])
    else:
        assert after is current


def test_only_what_the_provider_knows_and_can_change_is_refreshed() -> None:
    """Asking about anything else is a call for nothing."""
    assert {status for status in S if can_be_refreshed(status)} == {S.REQUIRES_ACTION, S.PROCESSING, S.LOCKED}


def test_dead_intents_cannot_come_back() -> None:
    """An intent that freed its milestone never takes it again."""
    assert {after_provider_says(status, said) for status in DEAD for said in P} == set(DEAD)

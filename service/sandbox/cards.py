"""Stripe's test cards: which payment method is charged, and which is refused with what."""

from __future__ import annotations

from dataclasses import dataclass

from service.sandbox.wire import WireError


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a card is refused, in Stripe's words."""

    code: str
    message: str
    decline_code: str | None = None

    def refusal(self, **detail: object) -> WireError:
        """Make the 402 that tells of it."""
        detail = {"decline_code": self.decline_code} | detail
        return WireError(402, "card_error", self.message, code=self.code, began=True, detail=detail)


GENERIC_DECLINE = Decline("card_declined", "Your card was declined.", "generic_decline")
_INSUFFICIENT_FUNDS = Decline("card_declined", "Your card has insufficient funds.", "insufficient_funds")

GOOD_CARDS = frozenset(
    f"pm_card_{brand}" for brand in ("visa", "visa_debit", "mastercard", "mastercard_debit", "amex", "discover")
)
REFUSED_CARDS = {
    "pm_card_chargeDeclined": GENERIC_DECLINE,
    "pm_card_visa_chargeDeclined": GENERIC_DECLINE,
    "pm_card_chargeDeclinedInsufficientFunds": _INSUFFICIENT_FUNDS,
    "pm_card_visa_chargeDeclinedInsufficientFunds": _INSUFFICIENT_FUNDS,
    "pm_card_visa_chargeDeclinedLostCard": Decline("card_declined", "Your card was declined.", "lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": Decline("card_declined", "Your card was declined.", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": Decline("expired_card", "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": Decline("incorrect_cvc", "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError": Decline(
        "processing_error", "An error occurred while processing your card. Try again in a little bit."
    ),
}

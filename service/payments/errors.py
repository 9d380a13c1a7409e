"""What can go wrong with a payment, as a client sees it."""

from __future__ import annotations

from service.errors import ServiceError


class IdempotencyKeyMissingError(ServiceError):
    """This service wants an Idempotency-Key with every request that creates something."""

    status_code = 400
    code = "idempotency_key_missing"
    title = "Idempotency-Key missing"


class IdempotencyKeyInvalidError(ServiceError):
    """An Idempotency-Key is given once, as 1 to 255 printable ASCII characters, bare or in double quotes."""

    status_code = 400
    code = "idempotency_key_invalid"
    title = "Idempotency-Key not understood"


class IdempotencyKeyReusedError(ServiceError):
    """This Idempotency-Key was used with another body. Use a new key for a new payment."""

    status_code = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key used for something else"


class IdempotencyInProgressError(ServiceError):
    """The same request is still running. Wait, then repeat it unchanged."""

    status_code = 409
    code = "idempotency_in_progress"
    title = "The same request is still running"

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=1)


class EscrowExistsError(ServiceError):
    """This milestone already has a live payment."""

    status_code = 409
    code = "escrow_exists"
    title = "The milestone already has a payment"

    @classmethod
    def named(cls, intent_id: str) -> EscrowExistsError:
        """Name the payer's own payment that is in the way."""
        return cls(
            f"This milestone already has the live payment {intent_id}. If its request had no answer yet, repeat that "
            "request with its Idempotency-Key; otherwise wait until it has ended.",
            intent_id=intent_id,
        )


class UnderReviewError(ServiceError):
    """This payment needs a person to look at it; repeating the request changes nothing."""

    status_code = 409
    code = "under_review"
    title = "The payment is under review"


class CardDeclinedError(ServiceError):
    """The payer's instrument was declined. Try another one with a new Idempotency-Key."""

    status_code = 402
    code = "card_declined"
    title = "Declined"


class PaymentRetryError(ServiceError):
    """Payment provider failed temporarily. Please retry your payment, with the same Idempotency-Key."""

    status_code = 424
    code = "payment_retry"
    title = "Payment provider failed temporarily"


class ServiceUnavailableError(ServiceError):
    """Payment provider is temporarily unavailable and was not called. Please try again later."""

    status_code = 503
    code = "service_unavailable"
    title = "Payment provider unavailable"


class OverloadedError(ServiceError):
    """Too many payments are under way here. Please try again in a moment."""

    status_code = 503
    code = "overloaded"
    title = "Overloaded"


class PspBadResponseError(ServiceError):
    """Payment provider gave an answer that makes no sense. Repeat with the same Idempotency-Key."""

    status_code = 502
    code = "psp_bad_response"
    title = "Payment provider gave a bad answer"


class PspMisconfiguredError(ServiceError):
    """Payment provider refuses this service's credentials. Only its operators can mend that."""

    status_code = 502
    code = "psp_misconfigured"
    title = "Payment provider refuses our credentials"


class AmountRefusedError(ServiceError):
    """Payment provider does not take this amount in this currency."""

    status_code = 422
    title = "Amount refused"

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

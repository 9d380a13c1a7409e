"""The payment endpoints: from HTTP to the use cases and back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from service.auth import Principal, allowed
from service.errors import ServiceError
from service.payments.errors import IdempotencyKeyMissingError
from service.payments.idempotency import KeyClaim, fingerprint, parse_key
from service.payments.schemas import CreateIntentBody, IntentDetails, IntentView
from service.payments.use_cases import Payments

CREATE_ROUTE = "POST /payments/intents"

_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Malformed JSON, or a bad or missing Idempotency-Key", **_PROBLEM},
    401: {"description": "No valid token", **_PROBLEM},
    402: {"description": "`card_declined`", **_PROBLEM},
    403: {"description": "The token's scopes do not allow it", **_PROBLEM},
    409: {"description": "`idempotency_in_progress`, `escrow_exists` or `under_review`", **_PROBLEM},
    422: {"description": "`validation_error`, `idempotency_key_reused` or an amount that is refused", **_PROBLEM},
    424: {
        "description": "`payment_retry`: called and failed for now; repeat with the same Idempotency-Key",
        **_PROBLEM,
    },
    502: {"description": "`psp_bad_response` or `psp_misconfigured`", **_PROBLEM},
    503: {"description": "`service_unavailable`: the circuit is open, the provider was not called", **_PROBLEM},
}

router = APIRouter(prefix="/payments/intents", tags=["payments"])


@router.post("", status_code=201, responses=_PROBLEMS)
async def create_intent(
    body: CreateIntentBody,
    request: Request,
    response: Response,
    principal: Annotated[Principal, Depends(allowed("payments:write"))],
    idempotency_key: Annotated[list[str] | None, Header()] = None,
) -> IntentView:
    """Create a payment intent whose money is held, not taken. Repeat with the same key until there is an answer."""
    state = request.state
    payments: Payments = state.payments
    key = parse_key(idempotency_key or [])
    if key is None and state.settings.require_idempotency_key:
        raise IdempotencyKeyMissingError
    claim = key and KeyClaim(principal.subject, CREATE_ROUTE, key, fingerprint(body.model_dump()))
    try:
        # In a task of its own: a client that hangs up must not abort a charge half-way.
        created = await state.supervisor.run(payments.create(body.of(principal.subject), claim or None))
    except ServiceError as error:
        state.telemetry.count_payment(error.code)
        raise
    state.telemetry.count_payment("replayed" if created.replayed else "created")
    response.headers["Location"] = f"/payments/intents/{created.intent.public_id}"
    if created.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return IntentView.of_created(created)


@router.get("/{intent_id}", responses={code: _PROBLEMS[code] for code in (401, 403, 424, 502, 503)})
async def read_intent(
    intent_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(allowed("payments:read"))],
    *,
    refresh: Annotated[bool, Query(description="Ask the provider first.")] = False,
) -> IntentDetails:
    """Read one of your own payment intents."""
    payments: Payments = request.state.payments
    return IntentDetails.of_intent(await payments.read(principal.subject, intent_id, refresh=refresh))

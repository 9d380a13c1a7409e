"""The API routes, and the way of a request through them: edge, key, execution, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from stripe import params as declared

from service.sandbox.cards import GENERIC_DECLINE
from service.sandbox.edge import BrokenConnection, answer_at_edge, dripping
from service.sandbox.faults import Fault, FaultBoard, Mode
from service.sandbox.idempotency import IdempotencyKeys, claim_of
from service.sandbox.intents import Call, PaymentIntents
from service.sandbox.parameters import check_names
from service.sandbox.store import Cause, Store
from service.sandbox.wire import Answer, WireError, authenticate, invalid, json_answer, new_id, read_params

_Run = Callable[[PaymentIntents, Call], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route: what it does, and the SDK's declaration of the parameters it takes (None: it takes any)."""

    run: _Run
    declared: Any = None


def _unrecognized(_intents: PaymentIntents, _call: Call) -> dict[str, Any]:
    raise invalid("Unrecognized request URL. The sandbox knows payment intents only.", status=404)


_INTENTS = "/v1/payment_intents"
ENDPOINTS = {
    f"POST {_INTENTS}": Endpoint(PaymentIntents.create, declared.PaymentIntentCreateParams),
    f"GET {_INTENTS}": Endpoint(PaymentIntents.list, declared.PaymentIntentListParams),
    f"GET {_INTENTS}/{{id}}": Endpoint(PaymentIntents.retrieve, declared.PaymentIntentRetrieveParams),
    f"POST {_INTENTS}/{{id}}": Endpoint(PaymentIntents.update, declared.PaymentIntentUpdateParams),
    f"POST {_INTENTS}/{{id}}/confirm": Endpoint(PaymentIntents.confirm, declared.PaymentIntentConfirmParams),
    f"POST {_INTENTS}/{{id}}/capture": Endpoint(PaymentIntents.capture, declared.PaymentIntentCaptureParams),
    f"POST {_INTENTS}/{{id}}/cancel": Endpoint(PaymentIntents.cancel, declared.PaymentIntentCancelParams),
    **{f"{method} /v1/{{path}}": Endpoint(_unrecognized) for method in ("GET", "POST", "DELETE")},
}

_SERVER_ERROR = WireError(500, "api_error", "An unknown error occurred. The sandbox was told to fail.").answer()


class Api:
    """Everything behind `/v1`."""

    def __init__(self, store: Store, faults: FaultBoard) -> None:
        self._store = store
        self._faults = faults
        self._keys = IdempotencyKeys(store)
        self._intents = PaymentIntents(store)
        self._world = object()

    def start_over(self) -> None:
        """Forget everything; a request that is still waiting for its turn will find that its world is gone."""
        self._world = object()
        self._faults.clear()
        self._keys.release_all()
        self._store.clear()

    def routes(self) -> list[Route]:
        """List the routes; the order matters, the last ones catch what no other knows."""
        return [self._route(name, endpoint) for name, endpoint in ENDPOINTS.items()]

    def _route(self, name: str, endpoint: Endpoint) -> Route:
        method, _, path = name.partition(" ")

        async def serve(request: Request) -> Response:
            fault = self._faults.arrive(name)
            return await answer_at_edge(fault, request) or await self._behind_edge(request, endpoint, fault)

        return Route(path.replace("{path}", "{path:path}"), serve, methods=[method])

    async def _behind_edge(self, request: Request, endpoint: Endpoint, fault: Fault) -> Response:
        headers = {"Request-Id": new_id("req_", 14)}
        try:
            answer = await self._answer(request, endpoint, fault, headers)
        except WireError as error:
            answer = error.answer()
        if fault.mode is Mode.LOSE_RESPONSE:
            return BrokenConnection(reset=False)
        if answer.status == 401:  # noqa: PLR2004 - HTTP
            headers["WWW-Authenticate"] = 'Basic realm="Stripe"'
        response = Response(answer.body, answer.status, headers, "application/json")
        return dripping(response, fault.delay_seconds) if fault.mode is Mode.SLOW_DRIP else response

    async def _answer(self, request: Request, endpoint: Endpoint, fault: Fault, headers: dict[str, str]) -> Answer:
        """Answer a request that reached the API; what the answer's headers must tell is added to `headers`."""
        api_key = authenticate(request.headers)
        params = await read_params(request)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        request_id, path = headers["Request-Id"], request.url.path
        claim = claim_of(api_key=api_key, key=key, path=path, params=params, request_id=request_id)
        if claim:
            stored = self._keys.recall(claim)
            if stored:
                first, answer = stored
                headers |= {"Original-Request": first.request_id, "Idempotent-Replayed": "true"}
                await asyncio.sleep(fault.delay_seconds if fault.mode is Mode.SLOW else 0)
                return answer
        if endpoint.declared:
            check_names(params, endpoint.declared)
        call = Call(params, Cause(request_id, key), request.path_params.get("id", ""))
        with self._keys.running(claim):
            world = self._world
            if fault.mode is not Mode.SLOW_DRIP:
                await asyncio.sleep(fault.delay_seconds)
            if world is not self._world:
                raise WireError(503, "api_error", "The sandbox was started over while this request was running.")
            with self._store.transaction():
                answer = self._execute(endpoint, call, fault)
                if claim:
                    headers["Original-Request"] = request_id
                    self._store.save_answer(claim, answer)
        return answer

    def _execute(self, endpoint: Endpoint, call: Call, fault: Fault) -> Answer:
        """Run an endpoint, or fail in its place or after it.

        Raises:
            WireError: It was refused before anything was done.
        """
        if fault.mode is Mode.ERROR_500:
            return _SERVER_ERROR
        if fault.mode is Mode.DECLINED:
            return GENERIC_DECLINE.refusal().answer()
        try:
            answer = json_answer(200, endpoint.run(self._intents, call))
        except WireError as error:
            if not error.began:
                raise
            answer = error.answer()
        return _SERVER_ERROR if fault.mode is Mode.ERROR_AFTER_EFFECT else answer

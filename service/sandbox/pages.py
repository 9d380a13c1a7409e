"""The pages: where a payer pays or is declined, and the front page that says what this server is.

Whoever has the client secret may pay, as with Stripe; without it an intent does not even exist here. The secret has to
be in the form as well, so that no other site can make a payer's browser pay.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.sandbox.cards import GENERIC_DECLINE
from service.sandbox.intent_object import Intent
from service.sandbox.intents import PAYABLE, Call, PaymentIntents
from service.sandbox.money import readable
from service.sandbox.store import Cause, Store
from service.sandbox.wire import WireError, new_id, read_params

_ASSETS = files("service.sandbox")
_LAYOUT = Template(_ASSETS.joinpath("page.html").read_text("utf-8"))
_STYLE = _ASSETS.joinpath("page.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_FRONT = Template(_ASSETS.joinpath("front.html").read_text("utf-8"))
_CHECKOUT = Template(_ASSETS.joinpath("checkout.html").read_text("utf-8"))

_BUTTONS = """<form method="post">
<input type="hidden" name="client_secret" value="$secret">
<button name="choice" value="pay">Pay $amount</button>
<button name="choice" value="decline">Decline the card</button>
</form>"""
_OUTCOMES = {
    "requires_capture": ("good", "Paid. The money is held until the merchant takes it or lets it go."),
    "succeeded": ("good", "Paid. Thank you."),
    "canceled": ("bad", "This payment was canceled. Nothing was taken."),
}
_SECRET = "payment_intent_client_secret"  # noqa: S105 - the name of a query parameter


def pages_router(store: Store, intents: PaymentIntents) -> APIRouter:
    """Build the routes of the pages."""
    router = APIRouter()

    def find(intent_id: str, secret: str) -> Intent | None:
        intent = store.intent(intent_id)
        known = intent is not None and secrets.compare_digest(intent["client_secret"].encode(), secret.encode())
        return intent if known else None

    @router.get("/")
    async def front(request: Request) -> Response:
        """Say what this server is."""
        main = _FRONT.substitute(url=escape(str(request.base_url).rstrip("/")))
        return _page("Provider sandbox", main, kind="wide")

    @router.get("/checkout/{intent_id}")
    async def checkout(request: Request, intent_id: str) -> Response:
        """Show a payer what is to be paid, or what became of it."""
        intent = find(intent_id, request.query_params.get(_SECRET, ""))
        return _not_found() if intent is None else _checkout_page(intent)

    @router.post("/checkout/{intent_id}")
    async def decide(request: Request, intent_id: str) -> Response:
        """Pay or decline, then go back to the merchant; once the intent is paid or canceled this changes nothing."""
        try:
            form = await read_params(request)
        except WireError as error:
            return _page("Bad request", f"<p>{escape(error.message)}</p>", status=error.status)
        intent = find(intent_id, str(form.get("client_secret", "")))
        if intent is None:
            return _not_found()
        cause, choice = Cause(new_id("req_", 14)), form.get("choice")
        if choice not in ("pay", "decline"):
            return _page("Bad request", "<p>Choose to pay or to decline.</p>", status=400)
        if intent["status"] in PAYABLE:
            with store.transaction():
                if choice == "pay":
                    intent = intents.confirm(Call({"payment_method": "pm_card_visa"}, cause, intent_id))
                else:
                    intent = intents.decline(intent, GENERIC_DECLINE, cause)
        return RedirectResponse(_way_back(intent) or _own_address(intent), 303, _headers(intent))

    return router


def _checkout_page(intent: Intent) -> Response:
    amount = readable(intent["amount"], intent["currency"])
    number, _, currency = amount.partition(" ")
    payable = intent["status"] in PAYABLE
    if payable:
        kind, note = ("bad", "The card was declined. You can try again.") if intent["last_payment_error"] else ("", "")
    else:
        kind, note = _OUTCOMES[intent["status"]]
    back = _way_back(intent) if note else None  # before the payer chose there is nothing to go back with
    main = _CHECKOUT.substitute(
        heading="Amount to pay" if payable else "Amount",
        number=escape(number),
        currency=escape(currency),
        rows="".join(_rows(intent)),
        note=f'<p class="note {kind}" role="status">{escape(note)}</p>' if note else "",
        buttons=Template(_BUTTONS).substitute(secret=escape(intent["client_secret"]), amount=escape(amount))
        if payable
        else "",
        back=f'<p class="small"><a href="{escape(back)}">Back to the merchant</a></p>' if back else "",
    )
    return _page(f"Pay {amount}" if payable else f"Payment of {amount}", main, intent=intent)


def _rows(intent: Intent) -> list[str]:
    facts = [("For", "", intent["description"]), ("Payment", "id", intent["id"])]
    row = '<div><dt>{}</dt><dd class="{}">{}</dd></div>\n'
    return [row.format(name, kind, escape(value)) for name, kind, value in facts if value]


def _not_found() -> Response:
    main = "<h1>Not found</h1><p>There is no such payment, or the link is not complete.</p>"
    return _page("Not found", main, status=404)


def _page(title: str, main: str, *, kind: str = "", status: int = 200, intent: Intent | None = None) -> Response:
    page = _LAYOUT.substitute(title=escape(title), style=_STYLE, kind=kind, main=main)
    return HTMLResponse(page, status, _headers(intent))


def _headers(intent: Intent | None) -> dict[str, str]:
    """Forbid everything but the page itself.

    Browsers apply `form-action` to every redirect that follows a form, so with a way back to the merchant, who may
    redirect further (to a login, say), it cannot name the places.
    """
    targets = "'self' http: https:" if intent and _way_back(intent) else "'self'"
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
    return {
        "Content-Security-Policy": f"{policy}; form-action {targets}",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",  # the address holds the client secret
        "X-Content-Type-Options": "nosniff",
    }


def _own_address(intent: Intent) -> str:
    return f"/checkout/{intent['id']}?{urlencode({_SECRET: intent['client_secret']})}"


def _way_back(intent: Intent) -> str | None:
    """Return the merchant's address with Stripe's three parameters, if the intent's metadata names a web address."""
    try:
        url = urlsplit(str(intent["metadata"].get("return_url", "")))
    except ValueError:  # such as a bracket that is not closed
        return None
    if url.scheme not in {"http", "https"} or not url.hostname:
        return None
    told = {
        "payment_intent": intent["id"],
        _SECRET: intent["client_secret"],
        "redirect_status": "failed" if intent["status"] in (*PAYABLE, "canceled") else "succeeded",
    }
    query = urlencode([*parse_qsl(url.query, keep_blank_values=True), *told.items()])
    return url._replace(query=query).geturl()

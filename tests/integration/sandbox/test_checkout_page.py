"""The hosted page, as a payer's browser uses it."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.integration.sandbox.talk import INTENTS, create
from tests.support.sandbox import Sandbox


def page_of(intent: dict[str, str]) -> str:
    """Give the address that a payer is sent to."""
    return f"/checkout/{intent['id']}?payment_intent_client_secret={intent['client_secret']}"


async def choose(http: httpx.AsyncClient, intent: dict[str, str], choice: str) -> httpx.Response:
    """Press a button of the page."""
    return await http.post(page_of(intent), data={"client_secret": intent["client_secret"], "choice": choice})


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("123450", "eur", "1,234.50 EUR"), ("1234", "jpy", "1,234 JPY"), ("1234567", "kwd", "1,234.567 KWD")],
)
async def test_page_shows_the_amount_as_people_write_it(
    http: httpx.AsyncClient, sandbox: Sandbox, amount: str, currency: str, shown: str
) -> None:
    """Minor units become units with as many decimals as the currency has."""
    intent = (await create(http, amount=amount, currency=currency)).json()
    answer = await http.get(page_of(intent))
    assert answer.status_code == 200
    assert f"Pay {shown}" in answer.text
    assert "Sandbox" in answer.text
    assert not sandbox.effects_of("authorized")


async def test_paying_holds_the_money_once_and_returns_to_the_merchant(
    http: httpx.AsyncClient, sandbox: Sandbox
) -> None:
    """The payer comes back with Stripe's parameters; pressing the button twice pays once."""
    intent = (await create(http, **{"metadata[return_url]": "https://shop.example/back?order=6#top"})).json()
    for _ in range(2):
        answer = await choose(http, intent, "pay")
        assert answer.status_code == 303
        way_back = urlsplit(answer.headers["Location"])
        assert way_back._replace(query="").geturl() == "https://shop.example/back#top"
        assert parse_qs(way_back.query) == {
            "order": ["6"],
            "payment_intent": [intent["id"]],
            "payment_intent_client_secret": [intent["client_secret"]],
            "redirect_status": ["succeeded"],
        }
    assert (await http.get(f"{INTENTS}/{intent['id']}")).json()["status"] == "requires_capture"
    assert [(effect["amount"], effect["idempotency_key"]) for effect in sandbox.effects_of("authorized")] == [
        (2500, None)
    ]


async def test_declined_payer_may_try_again(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A decline is told to the payer and to the merchant, moves no money, and the buttons stay."""
    intent = (await create(http)).json()
    answer = await choose(http, intent, "decline")
    assert answer.headers["Location"] == page_of(intent)
    page = await http.get(page_of(intent))
    assert "The card was declined" in page.text
    assert "<button" in page.text
    declined = (await http.get(f"{INTENTS}/{intent['id']}")).json()
    assert declined["status"] == "requires_payment_method"
    assert declined["last_payment_error"]["decline_code"] == "generic_decline"
    assert not sandbox.effects_of("authorized")
    await choose(http, intent, "pay")
    assert len(sandbox.effects_of("authorized")) == 1
    page = await http.get(page_of(intent))
    assert "Paid" in page.text
    assert "<button" not in page.text


async def test_canceled_intent_cannot_be_paid(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A payer who comes too late is told so, and nothing is taken."""
    intent = (await create(http, **{"metadata[return_url]": "https://shop.example/back"})).json()
    await http.post(f"{INTENTS}/{intent['id']}/cancel")
    answer = await choose(http, intent, "pay")
    assert "redirect_status=failed" in answer.headers["Location"]
    assert "was canceled" in (await http.get(page_of(intent))).text
    assert not sandbox.effects_of("authorized")


@pytest.mark.parametrize("secret", ["", "wrong", "ü"])
async def test_without_the_secret_there_is_no_payment(http: httpx.AsyncClient, sandbox: Sandbox, secret: str) -> None:
    """The id alone shows and moves nothing, and tells not even whether there is such an intent."""
    intent = (await create(http)).json() | {"client_secret": secret}
    nobody = {"id": "pi_nobody", "client_secret": secret}
    for answer, other in (
        (await http.get(page_of(intent)), await http.get(page_of(nobody))),
        (await choose(http, intent, "pay"), await choose(http, nobody, "pay")),
    ):
        assert answer.status_code == 404
        assert answer.text == other.text
    assert not sandbox.effects_of("authorized")


async def test_secret_in_the_address_alone_does_not_pay(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """The form has to carry the secret itself, so that nothing but the page can send it."""
    intent = (await create(http)).json()
    assert (await http.post(page_of(intent), data={"choice": "pay"})).status_code == 404
    assert (await choose(http, intent, "explode")).status_code == 400
    assert not sandbox.effects_of("authorized")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//shop.example", "/back", "https://", "http://[", "data:text/html,x", "not a url"]
)
async def test_way_back_must_be_a_web_address(http: httpx.AsyncClient, url: str) -> None:
    """Anything else is left aside, and the payer sees the result here."""
    intent = (await create(http, **{"metadata[return_url]": url})).json()
    assert (await choose(http, intent, "pay")).headers["Location"] == page_of(intent)
    assert "Back to the merchant" not in (await http.get(page_of(intent))).text


async def test_page_escapes_what_the_merchant_wrote(http: httpx.AsyncClient) -> None:
    """A description is text, whatever it looks like."""
    intent = (await create(http, description="<script>alert('$amount')</script>")).json()
    page = (await http.get(page_of(intent))).text
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;$amount&#x27;)&lt;/script&gt;" in page


async def test_page_allows_nothing_but_itself(http: httpx.AsyncClient) -> None:
    """No script, no frame, no foreign asset; the one style is allowed by its hash; the secret leaves in no referrer."""
    answer = await http.get(page_of((await create(http)).json()))
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", f"style-src 'sha256-{digest}'", "frame-ancestors 'none'", "form-action 'self'"} <= {
        *policy
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"(src|href)=|url\(|@import", answer.text)

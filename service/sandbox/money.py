"""Currencies as Stripe counts them: minor units, smallest charges, and how a payer reads an amount."""

from __future__ import annotations

from decimal import Decimal

LARGEST_AMOUNT = 99_999_999

# Stripe gives UGX and ISK two decimals on the wire, although nobody pays in fractions of them.
_ZERO_DECIMALS = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
_THREE_DECIMALS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))

# What Stripe charges at least, for the currencies most tried; the others are left at one minor unit.
_SMALLEST_CHARGE = {
    **dict.fromkeys(("usd", "eur", "chf", "cad", "aud", "nzd", "sgd", "brl", "inr", "jpy"), 50),
    **dict.fromkeys(("nok", "sek"), 300),
    "gbp": 30,
    "dkk": 250,
    "hkd": 400,
    "pln": 200,
    "mxn": 1_000,
    "czk": 1_500,
    "huf": 17_500,
}


def smallest_charge(currency: str) -> int:
    """Return the smallest amount, in minor units, that a card can be charged in a currency."""
    return _SMALLEST_CHARGE.get(currency, 1)


def readable(amount: int, currency: str) -> str:
    """Write an amount of minor units for a payer, such as `1,234.50 EUR` or `1,234 JPY`."""
    decimals = 0 if currency in _ZERO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2
    return f"{Decimal(amount).scaleb(-decimals):,.{decimals}f} {currency.upper()}"

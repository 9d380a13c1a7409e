"""Reading parameters as strictly as Stripe does: unknown, missing and malformed ones are refused by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stripe import RequestOptions

from service.sandbox.money import LARGEST_AMOUNT, readable, smallest_charge
from service.sandbox.wire import Params, WireError, invalid

MOST_METADATA_KEYS = 50
LONGEST_METADATA_KEY = 40
LONGEST_METADATA_VALUE = 500

_LARGEST_ID = 5_000  # Stripe's limit for strings without one of their own


def check_names(params: Params, typed_dict: Any) -> None:
    """Refuse parameters that the SDK's own declaration of the endpoint does not know, and the lack of required ones.

    Raises:
        WireError: `parameter_unknown` or `parameter_missing`.
    """
    known = (typed_dict.__required_keys__ | typed_dict.__optional_keys__) - RequestOptions.__optional_keys__
    known |= {"payment_method_types"}  # versions of the API before the SDK's own have it, and people still send it
    for name in params:
        if name not in known:
            raise invalid(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
    for name in sorted(typed_dict.__required_keys__):
        if params.get(name, "") == "":
            raise invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")
    if "expand" in params:
        raise invalid("The sandbox keeps no objects apart from payment intents to expand.", param="expand")


def text(params: Params, name: str) -> str | None:
    """Read a string; an empty one is none, as Stripe unsets with it."""
    value = params.get(name, "")
    if isinstance(value, dict):
        raise invalid(f"Invalid string: {name}", param=name)
    if len(value) > _LARGEST_ID:
        raise invalid(f"Invalid string: {name} must be at most {_LARGEST_ID} characters", param=name)
    return value or None


def integer(params: Params, name: str) -> int | None:
    """Read an integer."""
    value = text(params, name)
    if value is None:
        return None
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):  # noqa: PLR2004 - what fits in 64 bits
        raise invalid(f"Invalid integer: {value}", param=name, code="parameter_invalid_integer")
    return int(value)


def boolean(params: Params, name: str, *, default: bool) -> bool:
    """Read `true` or `false`."""
    value = text(params, name)
    if value not in {None, "true", "false"}:
        raise invalid(f"Invalid boolean: {value}", param=name)
    return default if value is None else value == "true"


def one_of(params: Params, name: str, choices: Collection[str]) -> str | None:
    """Read one of a few words."""
    value = text(params, name)
    if value is not None and value not in choices:
        raise invalid(f"Invalid {name}: must be one of {' or '.join(choices)}", param=name)
    return value


def listed(params: Params, name: str) -> list[str] | None:
    """Read a list of strings."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid("Invalid array", param=name)
    return [item for item in value.values() if isinstance(item, str)]


def currency(params: Params) -> str | None:
    """Read a currency: three letters, in lower case from here on."""
    value = text(params, "currency")
    if value is None:
        return None
    if not (len(value) == 3 and value.isascii() and value.isalpha()):  # noqa: PLR2004 - ISO 4217
        raise invalid(f"Invalid currency: {value}", param="currency")
    return value.lower()


def check_amount(amount: int, currency: str) -> int:
    """Refuse amounts that no card can be charged.

    Raises:
        WireError: `parameter_invalid_integer`, `amount_too_small` or `amount_too_large`.
    """
    if amount < 1:
        message = "This value must be greater than or equal to 1."
        raise invalid(message, param="amount", code="parameter_invalid_integer")
    smallest = smallest_charge(currency)
    if amount < smallest:
        message = f"Amount must be at least {readable(smallest, currency)}"
        raise invalid(message, param="amount", code="amount_too_small")
    if amount > LARGEST_AMOUNT:
        message = f"Amount must be no more than {readable(LARGEST_AMOUNT, currency)}"
        raise invalid(message, param="amount", code="amount_too_large")
    return amount


def merged_metadata(params: Params, before: dict[str, str]) -> dict[str, str]:
    """Merge the given metadata into what there is; an empty value removes its key, an empty parameter all keys."""
    given = params.get("metadata")
    if given is None:
        return before
    if isinstance(given, str):
        if given:
            raise invalid("Invalid object: metadata", param="metadata")
        return {}
    merged = dict(before)
    for key, value in given.items():
        if not isinstance(value, str):
            raise _bad_metadata(key, "values must be strings")
        if len(key) > LONGEST_METADATA_KEY or len(value) > LONGEST_METADATA_VALUE:
            limits = f"{LONGEST_METADATA_KEY} and {LONGEST_METADATA_VALUE}"
            raise _bad_metadata(key, f"keys and values can have at most {limits} characters")
        merged[key] = value
    merged = {key: value for key, value in merged.items() if value}
    if len(merged) > MOST_METADATA_KEYS:
        raise _bad_metadata("", f"there can be at most {MOST_METADATA_KEYS} keys")
    return merged


def _bad_metadata(key: str, why: str) -> WireError:
    return invalid(f"Invalid metadata: {why}.", param=f"metadata[{key}]" if key else "metadata")

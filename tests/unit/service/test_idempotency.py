from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.payments.errors import IdempotencyKeyInvalidError
from service.payments.idempotency import fingerprint, parse_key

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("k", "k"),
        (" k ", "k"),
        ('"k"', "k"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("two words", "two words"),
        ("k" * 255, "k" * 255),
    ],
)
def test_both_forms_name_one_key(value: str, key: str) -> None:
    """The bare and the quoted form of a key are the same key."""
    assert parse_key([value]) == key


def test_no_header_is_no_key() -> None:
    """Not every request has a key."""
    assert parse_key([]) is None


@pytest.mark.parametrize(
    "values", [[""], ["  "], ['"'], ['""'], ['"a'], ['"a"b"'], ["k" * 256], ["ü"], ["a\tb"], ["a", "a"]]
)
def test_what_is_no_key_is_refused(values: list[str]) -> None:
    """A key that cannot be understood is never ignored."""
    with pytest.raises(IdempotencyKeyInvalidError):
        parse_key(values)


@given(PRINTABLE.filter(lambda key: key == key.strip() and not key.startswith('"')))
def test_any_printable_key_survives_quoting(key: str) -> None:
    """Whatever a client quotes, it is the key that it would be bare."""
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key([f'"{quoted}"']) == parse_key([key]) == key


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_fingerprint_does_not_depend_on_order(body: dict[str, int | str]) -> None:
    """The same members in another order are the same body."""
    assert fingerprint(body) == fingerprint(dict(reversed(body.items())))


def test_fingerprint_tells_bodies_apart() -> None:
    """A number is not its text, and a member more is another body."""
    bodies: list[dict[str, Any]] = [{"a": 1}, {"a": "1"}, {"a": 1, "b": None}, {"b": 1}, {}]
    assert len({fingerprint(body) for body in bodies}) == len(bodies)

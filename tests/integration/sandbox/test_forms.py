"""Bracketed forms, without a server."""

from __future__ import annotations

import pytest

from service.sandbox.wire import Params, WireError, parse_form


@pytest.mark.parametrize(
    ("form", "params"),
    [
        ("", {}),
        ("amount=1&amount=2", {"amount": "2"}),
        ("metadata[a]=1&metadata[b c]=%C3%BC", {"metadata": {"a": "1", "b c": "ü"}}),
        ("types[]=card&types[]=link", {"types": {"0": "card", "1": "link"}}),
        ("types[0]=card&types[1]=link", {"types": {"0": "card", "1": "link"}}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("items[][name]=x", {"items": {"0": {"name": "x"}}}),
        ("empty=", {"empty": ""}),
    ],
)
def test_brackets_become_nested_objects(form: str, params: Params) -> None:
    """Objects and lists in a form arrive as the SDK sent them."""
    assert parse_form(form) == params


@pytest.mark.parametrize(
    "form", ["a=1&a[b]=2", "a[b]=2&a=1", "a[b=1", "a]b=1", "a[b]c=1", "[a]=1", "=1", "a=%FF", "&".join(["a=1"] * 1001)]
)
def test_what_makes_no_sense_is_refused(form: str) -> None:
    """A form that contradicts itself, is broken or endless is a 400, never a guess."""
    with pytest.raises(WireError) as refused:
        parse_form(form)
    assert refused.value.status == 400

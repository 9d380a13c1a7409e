"""How the scripts read the server's clock: a real one cannot be set, so `TIME` is answered by the test."""

from __future__ import annotations

import pytest
from lupa import lua51

from breaker._scripts import load_script


@pytest.mark.parametrize(
    ("seconds", "microseconds", "now_ms"),
    [
        ("1766000000", "0", 1_766_000_000_000),
        ("1766000000", "999", 1_766_000_000_000),
        ("1766000000", "1000", 1_766_000_000_001),
        ("1766000000", "5000", 1_766_000_000_005),
        ("1766000000", "999999", 1_766_000_000_999),
    ],
)
def test_a_moment_is_whole_milliseconds(seconds: str, microseconds: str, now_ms: int) -> None:
    """Seconds and microseconds arrive as texts without leading zeros and become one integer, cut and not rounded."""
    lua = lua51.LuaRuntime()
    lua.globals().redis = lua.table(call={"TIME": lua.table(seconds, microseconds)}.get)
    assert lua.execute(f"{load_script('_now').text}\nreturn now()") == now_ms

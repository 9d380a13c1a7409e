"""Chance that is the same wherever it is drawn, so that both implementations of the machine draw alike."""

from __future__ import annotations


def drawn(text: str) -> int:
    """Draw a number from 0 to 999 for a text."""
    number = 0
    for byte in text.encode():
        number = (number * 31 + byte) % 1_000_003
    return number * 7919 % 1000

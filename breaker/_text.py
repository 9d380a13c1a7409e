"""What others say, made fit to be kept."""

from __future__ import annotations


def cleaned(said: object, most: int) -> str:
    """Return what was said as a text that every store can write and every reader can read.

    What cannot be encoded is spelled out: a half of a character (a lone surrogate), such as broken bytes become. It
    would make a driver fail as if the store were away.

    Args:
        said: Anything.
        most: How many characters of it are kept, since a store sends them to every replica.
    """
    return str(said)[:most].encode("utf-8", "backslashreplace").decode()[:most]

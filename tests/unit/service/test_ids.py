from __future__ import annotations

import time

from service.ids import is_public_intent_id, public_intent_id, uuid7


def test_ids_are_version_7_and_carry_the_time() -> None:
    """An id says when it was made, to the millisecond, so that new rows lie side by side."""
    before_ms = time.time_ns() // 1_000_000
    made = uuid7()
    after_ms = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before_ms <= made.int >> 80 <= after_ms


def test_ids_differ() -> None:
    """Many made at once are all different."""
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_public_ids_are_recognized() -> None:
    """What we call an intent is known as such, and what nobody could have got from us is not."""
    assert is_public_intent_id(public_intent_id(uuid7()))
    for text in ("", "payint_", "payint_xyz", public_intent_id(uuid7()).upper(), public_intent_id(uuid7()) + "\n"):
        assert not is_public_intent_id(text)

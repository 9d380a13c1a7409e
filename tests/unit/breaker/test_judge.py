"""What is made of a user's classifiers, whatever they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from breaker import CallNotPermittedError, Mode, Outcome, Reason, State
from breaker._judge import Judge, class_name, every_exception_is_a_failure, every_result_is_a_success
from breaker._types import Refused


class UnspeakableError(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _judge(describe_error: Callable[[BaseException], Any]) -> Judge:
    return Judge("c", every_exception_is_a_failure, every_result_is_a_success, describe_error)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Timeout", "Timeout"),
        ("", ""),
        (404, "404"),
        (None, "ValueError"),
        ("caf\u00e9", "caf\u00e9"),
        ("a\udcffb", "a\\udcffb"),
        ("\ud83d", "\\ud83d"),
        ("x" * 10**6, "x" * 200),
        ("\udcff" * 10**6, "\\udcff" * 33 + "\\u"),
        (UnspeakableError(), "ValueError"),
    ],
)
def test_the_word_for_a_failure_can_always_be_kept(said: Any, word: str) -> None:
    """A text of at most 200 characters that every store can write and every replica can read."""
    judge = _judge(lambda _: said)
    assert judge.describe(ValueError("what it says")) == word
    word.encode()


def test_refusals_count_as_nothing_in_a_group_too() -> None:
    """What a task group makes of them says nothing of what is guarded, unless something else has failed as well."""
    refused = CallNotPermittedError("other", Refused(State.OPEN, 1, Mode.AUTO, Reason.OPEN, 1000, ""), 1.0)
    group = ExceptionGroup("of a task group", [refused, ExceptionGroup("of one within", [refused])])
    assert every_exception_is_a_failure(refused) is Outcome.IGNORED
    assert every_exception_is_a_failure(group) is Outcome.IGNORED
    assert every_exception_is_a_failure(ExceptionGroup("mixed", [group, ValueError()])) is Outcome.FAILURE


def test_a_describer_that_fails_leaves_the_class_name() -> None:
    """The call's result is not lost to it."""
    assert _judge(lambda _: str(1 / 0)).describe(UnspeakableError()) == "UnspeakableError"


def test_a_classifier_that_fails_leaves_what_counts_without_one() -> None:
    """Another breaker's refusal says nothing of this dependency, whoever was asked about it."""

    def classify_error(error: Exception) -> Outcome:
        raise RuntimeError("a mistake") from error

    judge = Judge("c", classify_error, every_result_is_a_success, class_name)
    refused = Refused(State.OPEN, 1, Mode.AUTO, Reason.OPEN, 1000, "")
    assert judge.of_error(CallNotPermittedError("other", refused, 1.0)) is Outcome.IGNORED
    assert judge.of_error(ValueError()) is Outcome.FAILURE


def test_a_class_name_is_held_to_the_same() -> None:
    """A class may have a name as long as its maker liked."""
    assert _judge(class_name).describe(type("x" * 300, (Exception,), {})()) == "x" * 200


@pytest.mark.parametrize(("word", "kept"), [("late", "late"), ("\udcff", "\\udcff"), ("x" * 201, "x" * 200), ("", "")])
def test_a_word_of_the_callers_own_is_held_to_the_same(word: str, kept: str) -> None:
    """Who settles a permit may name what went wrong; the describer is not asked."""
    assert _judge(lambda _: "described").describe(word) == kept


def test_no_error_is_no_word() -> None:
    """A success is described by nothing."""
    assert _judge(lambda _: "described").describe(None) == ""

"""What a call's end means for its circuit, as the user's classifiers have it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from breaker._errors import CallNotPermittedError
from breaker._text import cleaned
from breaker._types import OpenFor, Outcome

_log = logging.getLogger("breaker")

Verdict = Outcome | OpenFor

# Of the word for a failure. The record keeps it, and every replica gets it with each message.
_MOST_CHARACTERS = 200


def every_exception_is_a_failure(error: Exception) -> Verdict:
    """Count every exception, except what another breaker refused: that was not called, so it says nothing.

    Calls that were made at once in a task group are refused as a group.
    """
    if isinstance(error, ExceptionGroup):
        return Outcome.FAILURE if error.split(CallNotPermittedError)[1] else Outcome.IGNORED
    return Outcome.IGNORED if isinstance(error, CallNotPermittedError) else Outcome.FAILURE


def every_result_is_a_success(result: Any) -> Verdict:  # noqa: ARG001
    """Count every call that returned as a success."""
    return Outcome.SUCCESS


def class_name(error: BaseException) -> str:
    """Describe an exception by its class."""
    return type(error).__name__


class Judge:
    """Asks the user's classifiers, and survives whatever they do.

    Args:
        name: The circuit, for the log.
        classify_error: Says what an exception means.
        classify_result: Says what a returned value means.
        describe_error: Gives the word for a failure that the record keeps.
    """

    def __init__(
        self,
        name: str,
        classify_error: Callable[[Exception], Verdict],
        classify_result: Callable[[Any], Verdict],
        describe_error: Callable[[BaseException], str],
    ) -> None:
        self._name = name
        self._classify_error = classify_error
        self._classify_result = classify_result
        self._describe_error = describe_error

    def of_error(self, error: BaseException) -> Verdict:
        """Tell what an exception means."""
        if not isinstance(error, Exception):
            return Outcome.IGNORED  # Cancelled, or the process is going down: nothing to hold against the dependency.
        try:
            return _verdict(self._classify_error(error))
        except Exception:
            _log.exception("%s: classify_error failed; the call counts as it would without one", self._name)
            return every_exception_is_a_failure(error)

    def of_result(self, result: Any) -> Verdict:
        """Tell what a returned value means."""
        try:
            return _verdict(self._classify_result(result))
        except Exception:
            _log.exception("%s: classify_result failed; the call counts as a success", self._name)
            return Outcome.SUCCESS

    def describe(self, error: BaseException | str | None) -> str:
        """Give the word for a failure, unless the caller has named one: a text of at most 200 characters."""
        if error is None or isinstance(error, str):
            return cleaned(error or "", _MOST_CHARACTERS)
        try:
            said: object = self._describe_error(error)
            return cleaned(class_name(error) if said is None else said, _MOST_CHARACTERS)
        except Exception:
            _log.exception("%s: describe_error failed; the class name is kept", self._name)
            return cleaned(class_name(error), _MOST_CHARACTERS)


def _verdict(said: Verdict) -> Verdict:
    return said if isinstance(said, OpenFor) else Outcome(said)

"""Calls of a coroutine function, of which the first step is made by hand."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import FunctionType, coroutine
from typing import Any, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")


class NothingToAwaitError(TypeError):
    """A guarded function was none for tasks: a mistake in the program, which says nothing of the dependency."""


def returning_coroutines(function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Make sure that what is called gives a coroutine, whatever awaitable it gives by itself."""
    if isinstance(function, FunctionType) and function.__code__.co_flags & inspect.CO_COROUTINE:
        return cast("Callable[_P, Coroutine[Any, Any, _R]]", function)

    async def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        given = function(*args, **kwargs)
        if not inspect.isawaitable(given):
            raise NothingToAwaitError(f"{function!r} gave nothing to await: breaker.sync guards such functions")
        return await given

    return called


@coroutine
def ending(awaitable: Coroutine[Any, Any, _R], returned: list[_R]) -> Generator[Any]:
    """Await a coroutine, and put down what it returns.

    Whoever makes the first step of a coroutine by hand gets its result by an exception, which costs more than the rest
    of a guarded call. What ends without a result ends a loop without one.
    """
    returned[0] = yield from awaitable


@coroutine
def rest_of(steps: Generator[Any], waits_for: Any) -> Generator[Any]:
    """Await what has made its first step already, and what it waits for since."""
    while True:
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the call to deal with
            thrown = error
        else:
            yield from steps
            return
        # Thrown in from here, where nothing is being handled: the call must not see that as the context of its own.
        try:
            waits_for = steps.throw(thrown)
        except StopIteration:
            return
        finally:
            del thrown

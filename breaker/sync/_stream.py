"""A guarded stream: one call, from its first item to its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any

from breaker._types import Outcome, State
from breaker.sync._deadlines import Deadlines
from breaker.sync._permit import Permit
from breaker.sync._timers import Timers

_Beginning = tuple[Permit, Deadlines[Any], Timers, float]


def guarded_stream(
    begin: Callable[[], _Beginning], function: Callable[..., Generator[Any, Any, Any]], /, *args: Any, **kwargs: Any
) -> Generator[Any, Any, Any]:
    """Guard the generator that a function makes, and pass everything through.

    Args:
        begin: Called when the first item is asked for; gives the permit, what bounds each wait, what settles later, and
            after how many seconds a probe's lease may lapse before the next item has to be there.
        function: A generator function.
        args: What it is called with.
        kwargs: The same.
    """
    permit, calls, timers, lapses_seconds = begin()
    settle_at = timers.now() + lapses_seconds
    thrown: BaseException | None = None
    try:
        stream = function(*args, **kwargs)
        resume = functools.partial(stream.send, None)
        while True:
            number = calls.begin(permit)
            try:
                item = resume()
            finally:
                calls.end(number)
            if permit.state is State.HALF_OPEN and timers.now() > settle_at:
                permit.settle(Outcome.SUCCESS)
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in is for the stream to deal with
                thrown = error
                resume = functools.partial(stream.throw, thrown)
            else:
                thrown = None
                resume = functools.partial(stream.send, sent)
    except StopIteration as end:
        permit.settle(Outcome.SUCCESS)
        return end.value
    except GeneratorExit:
        # Perhaps in the middle of anything, when the collector of garbage finds the stream: no lock is taken here, and
        # nothing is waited for.
        timers.after(0, functools.partial(permit.settle, Outcome.SUCCESS))
        stream.close()
        raise
    except BaseException as error:
        if error is thrown:
            permit.settle(Outcome.SUCCESS)  # It is the consumer's own, and the dependency had answered.
        else:
            permit.raised(error)
        raise

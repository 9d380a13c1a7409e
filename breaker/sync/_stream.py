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


class _Lease:
    """Settles a probe that has given an item before its lease may lapse, also while its consumer is busy with one.

    Args:
        permit: The stream's; if it makes no probe, nothing is done.
        timers: What looks at it when the time comes.
        lapses_seconds: After how many seconds the lease may lapse before the next item has to be there.
    """

    __slots__ = ("_is_busy", "_is_probe", "_is_watched", "_permit", "_settle_at", "_timers")

    def __init__(self, permit: Permit, timers: Timers, lapses_seconds: float) -> None:
        self._permit = permit
        self._timers = timers
        self._settle_at = timers.now() + lapses_seconds
        self._is_probe = permit.state is State.HALF_OPEN
        self._is_watched = self._is_busy = False

    def item_begins(self) -> None:
        """An item is with the consumer."""
        self._is_busy = True
        if self._is_probe:
            rest_seconds = self._settle_at - self._timers.now()
            if rest_seconds < 0:
                self._permit.settle(Outcome.SUCCESS)
            elif not self._is_watched:
                self._is_watched = True
                self._timers.after(rest_seconds, self._look)

    def item_ends(self) -> None:
        """The consumer waits for the next one."""
        self._is_busy = False

    def _look(self) -> None:
        # Otherwise the next item is waited for, and settles the probe if it comes.
        if self._is_busy:
            self._permit.settle(Outcome.SUCCESS)


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
    lease = _Lease(permit, timers, lapses_seconds)
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
            lease.item_begins()
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
            finally:
                lease.item_ends()
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

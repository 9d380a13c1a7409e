"""What a forked child does with what its parent made."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from weakref import WeakMethod

# By number, so that what was made first begins first: a store before the breakers that use it.
_made: dict[int, WeakMethod[Callable[[], None]]] = {}
_numbers = itertools.count()


def in_every_child(begin: Callable[[], None]) -> None:
    """Call a method in every child that is forked from now on, as long as its object lives."""
    number = next(_numbers)
    _made[number] = WeakMethod(begin, lambda _: _made.pop(number, None))


def _begin_anew() -> None:
    for made in _made.copy().values():
        begin = made()
        if begin is not None:
            begin()


with contextlib.suppress(AttributeError):  # Windows does not fork.
    os.register_at_fork(after_in_child=_begin_anew)

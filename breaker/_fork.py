"""What a forked child does with what its parent made."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import ref

_T = TypeVar("_T")

# By number, so that what was made first begins first: a store before the breakers that use it.
_made: dict[int, tuple[ref[Any], Callable[[Any], None]]] = {}
_numbers = itertools.count()
_FEW = 100
_sweep_at = _FEW


# How many forks lie between the process that imported this module and the one that runs.
_depth = 0


def depth() -> int:
    """Tell this process from those that it was forked from."""
    return _depth


def in_every_child(owner: _T, begin: Callable[[_T], None]) -> None:
    """Call a method in every child that is forked from now on, as long as its object lives."""
    global _sweep_at  # noqa: PLW0603 - there is one process
    # What is gone is looked for here, now and then: a reference that told of it would do so when the interpreter ends,
    # too late for whatever it does.
    if len(_made) >= _sweep_at:
        for number, (gone, _) in _made.copy().items():
            if gone() is None:
                _made.pop(number, None)
        _sweep_at = max(_FEW, 2 * len(_made))
    _made[next(_numbers)] = ref(owner), begin


def _begin_anew() -> None:
    global _depth  # noqa: PLW0603 - there is one process
    _depth += 1
    for made, begin in _made.copy().values():
        owner = made()
        if owner is not None:
            begin(owner)


with contextlib.suppress(AttributeError):  # Windows does not fork.
    os.register_at_fork(after_in_child=_begin_anew)

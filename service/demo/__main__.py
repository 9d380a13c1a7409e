"""`python -m service.demo`, behind `make demo`: plays an outage, shows it, and sums it up."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console

from service.demo.fleet import Fleet, fresh_fleet, running_fleet
from service.demo.picture import save_picture
from service.demo.story import Story, StoryError
from service.demo.summary import summary
from service.demo.timeline import Timeline
from service.demo.view import View, open_view
from service.local.plan import LocalRunError, local_directory

_VIEW_SECONDS = 0.125
_ANSWER_TIMEOUT_SECONDS = 15.0


def main() -> int:
    """Play the outage; return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--save", type=Path, metavar="FILE", help="save the timeline as a picture (.svg or .png)")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    timeline = Timeline()
    try:
        with _fleet(console) as fleet, open_view(console) as view:
            timeline = Timeline()
            asyncio.run(_play(fleet, timeline, view))
    except (LocalRunError, httpx.HTTPError, StoryError) as error:
        sys.stderr.write(f"make demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(summary(timeline))
    if options.save is not None:
        save_picture(timeline, options.save)
        console.print(f"The timeline is in {options.save}")
    return 0


@contextlib.contextmanager
def _fleet(console: Console) -> Iterator[Fleet]:
    running = running_fleet(local_directory(os.environ))
    if running is not None:
        console.print(f"Playing an outage against the fleet that runs at {running.api_url}")
        yield running
        return
    console.print("No fleet runs here (make run); starting one for the demo, on free ports and with data of its own")
    with fresh_fleet() as fresh:
        yield fresh


async def _play(fleet: Fleet, timeline: Timeline, view: View) -> None:
    # No connection is used twice: the kernel gives each new one to some replica. No proxy is asked for our loopback.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=_ANSWER_TIMEOUT_SECONDS) as client:
        play = asyncio.create_task(Story(fleet, timeline, client).play())
        while not play.done():
            view.update(timeline)
            await asyncio.wait({play}, timeout=_VIEW_SECONDS)
        view.update(timeline)
        await play


if __name__ == "__main__":
    sys.exit(main())

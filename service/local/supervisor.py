"""Keeps children running until somebody asks for the end, and then ends them in order."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from service.local.children import Child
from service.local.plan import LocalRunError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.05
# A child that lived this long has recovered from whatever ended it before.
_STABLE_SECONDS = 10.0
_MAX_DEATHS_IN_A_ROW = 8
_FIRST_DELAY_SECONDS = 0.25
_MAX_DELAY_SECONDS = 4.0


class StopRequestedError(Exception):
    """Somebody asked for the end while something was awaited."""


@dataclass
class _Deaths:
    in_a_row: int = 0
    started_at: float = field(default_factory=time.monotonic)
    restart_at: float | None = None


class Supervisor:
    """Starts children in groups, restarts those that die, and ends the groups in reverse order.

    Args:
        say: Tells the person at the terminal one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._groups: list[list[Child]] = []
        self._deaths: dict[str, _Deaths] = {}
        self._stop_requests = 0

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Turn Ctrl-C and kill into an orderly end of all children, whatever happens inside."""
        before = {number: signal.signal(number, self._request_stop) for number in STOP_SIGNALS}
        try:
            with contextlib.suppress(StopRequestedError):
                yield
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, *children: Child) -> None:
        """Start a group at once and wait until each does its work, or has done it.

        Raises:
            LocalRunError: One failed or was not ready in time.
        """
        self._groups.append(list(children))
        for child in children:
            child.start()
            self._deaths[child.name] = _Deaths()
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        waiting = list(children)
        while waiting:
            for child in [child for child in waiting if _is_up(child)]:
                waiting.remove(child)
                self._say(f"{child.name}: {'done' if child.once else 'ready'}")
            if time.monotonic() > deadline:
                raise LocalRunError(_failure(waiting[0], "was not ready in time"))
            self._pause()

    def watch(self) -> None:
        """Restart what dies, until the end is asked for.

        Raises:
            LocalRunError: A child dies again and again.
            StopRequestedError: The end was asked for.
        """
        while True:
            for group in self._groups:
                for child in group:
                    self._look_after(child)
            self._pause()

    def _look_after(self, child: Child) -> None:
        if child.is_running or child.once:
            return
        deaths, now = self._deaths[child.name], time.monotonic()
        if deaths.restart_at is None:
            deaths.in_a_row = 1 if now - deaths.started_at > _STABLE_SECONDS else deaths.in_a_row + 1
            if deaths.in_a_row > _MAX_DEATHS_IN_A_ROW:
                raise LocalRunError(_failure(child, f"ended {deaths.in_a_row} times in a row"))
            # The first restart is at once; whoever dies again waits longer each time, up to a limit.
            delay = 0.0 if deaths.in_a_row == 1 else _FIRST_DELAY_SECONDS * 2 ** (deaths.in_a_row - 2)
            deaths.restart_at = now + min(delay, _MAX_DELAY_SECONDS)
            self._say(f"{child.name} {_ended(child)}; restarting it")
        if now >= deaths.restart_at:
            child.start()
            deaths.started_at, deaths.restart_at = now, None

    def _pause(self) -> None:
        if self._stop_requests:
            raise StopRequestedError
        time.sleep(_POLL_SECONDS)

    def _request_stop(self, _number: int, _frame: object) -> None:
        self._stop_requests += 1

    @property
    def _is_hurried(self) -> bool:
        return self._stop_requests > 1

    def _stop_all(self) -> None:
        if self._groups:
            self._say("stopping (Ctrl-C once more to hurry)")
        for group in reversed(self._groups):
            running = [child for child in group if child.is_running]
            for child in running:
                child.stop()
            deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
            while any(child.is_running for child in running) and time.monotonic() < deadline and not self._is_hurried:
                time.sleep(_POLL_SECONDS)
            for child in running:
                child.kill()
        self._groups.clear()


def _is_up(child: Child) -> bool:
    if child.exit_code is None:
        return child.is_ready()
    if child.once and child.exit_code == 0:
        return True
    raise LocalRunError(_failure(child, "failed" if child.once else "did not start"))


def _ended(child: Child) -> str:
    code = child.exit_code or 0
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _failure(child: Child, what: str) -> str:
    words = child.last_words()
    return f"{child.name} {what}" + (f"; its last lines, from {child.log}:\n{words}" if words else "")

"""A child process that leaves nothing behind: its own session, a log file, and an end that is bounded."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here, because a forked child should do as little as possible
_LOG_TAIL_LINES = 12
_LOG_TAIL_BYTES = 8192


@dataclass(kw_only=True)
class Child:
    """A process to start, and the running one once it is started.

    Attributes:
        name: What people call it.
        command: The program and its arguments.
        log: The file that its output is appended to.
        is_ready: Tells whether it does its work yet; asked only while it runs.
        environment: Its whole environment; None passes ours on.
        sockets: Sockets that it inherits; held open here, so that a restarted process gets the same ones.
        user: Whom to run it as; None means ourselves.
        stop_signal: The signal on which it ends in order.
        once: It does its work and ends by itself.
    """

    name: str
    command: list[str]
    log: Path
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] | None = None
    sockets: tuple[socket.socket, ...] = ()
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    once: bool = False
    process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0

    def start(self) -> None:
        """Start the process; also again, after it has ended."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(  # noqa: S603 - the commands are written in this package
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=[inherited.fileno() for inherited in self.sockets],
                user=self.user,
                group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
                extra_groups=None if self.user is None else [],
                # Ctrl-C reaches the whole foreground group; in sessions of their own the children end in our order.
                start_new_session=True,
                # Safe here: this process has one thread, so the fork copies no lock that another one holds.
                preexec_fn=self._end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """The process id of the running process."""
        return self._running.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._running.poll()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end."""
        self._signal(self.stop_signal)

    def kill(self) -> None:
        """End it and whatever it started in its session, at once."""
        self._signal(signal.SIGKILL, whole_group=True)
        self._running.wait()

    def last_words(self) -> str:
        """Return the last lines that this start of it has logged."""
        with self.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process

    def _signal(self, number: signal.Signals, *, whole_group: bool = False) -> None:
        # poll() first: the pid of a process that was waited for may belong to somebody else by now.
        if not self.is_running:
            return
        if whole_group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def _end_with_parent(self) -> None:
        """Let Linux end this process if the local run is killed and cannot do it itself."""
        _LIBC.prctl(_PR_SET_PDEATHSIG, self.stop_signal)

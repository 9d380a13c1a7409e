"""The whole system as `make run` starts it: real processes, on free ports, with data of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from service.local.credentials import read_assignments

REPOSITORY = Path(__file__).parents[2]
_START_TIMEOUT_SECONDS = 50.0
_POLL_SECONDS = 0.05
_SCRUBBED = ("SWITCHGEAR_", "REDIS_URL", "DATABASE_URL", "PORT", "REPLICAS", "PG")
_PROGRAMS = {"valkey": "valkey-server", "postgres": "bin/postgres", "sandbox": "service.sandbox"}


class LocalRun:
    """One start of the whole system.

    Args:
        directory: Where it keeps its data.
        environment: What to set for it; `PORT=0` (any free ports) unless said otherwise.
    """

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.values: dict[str, str] = {}
        # A log and not a pipe: nobody reads while the system runs, and a full pipe would stop it.
        self._log = directory.with_suffix(".log")
        (directory / "env").unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=REPOSITORY,
                env=self.environment(directory) | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a foreground group of its own, as a terminal gives one
            )

    @staticmethod
    def command() -> list[str]:
        """What `make run` runs."""
        return [sys.executable, "-m", "service.local"]

    @staticmethod
    def environment(directory: Path) -> dict[str, str]:
        """The environment of a run on free ports, clean of a developer's own settings."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_SCRUBBED)}
        return {**clean, "PORT": "0", "SWITCHGEAR_LOCAL_DIR": str(directory)}

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until_up(self) -> None:
        """Wait until it has said how to reach it."""
        wait_until(
            lambda: (self.directory / "env").exists() or self.process.poll() is not None,
            f"the system is up: {self.directory}",
            timeout_seconds=_START_TIMEOUT_SECONDS,
        )
        assert self.process.poll() is None, self.output
        self.values = read_assignments(self.directory / "env")

    def processes(self) -> list[psutil.Process]:
        """Every process of it: itself and all that it has started, however deep."""
        itself = psutil.Process(self.process.pid)
        return [itself, *itself.children(recursive=True)]

    def find(self, name: str) -> psutil.Process:
        """The running child that people call by this name, such as `valkey` or `api-1`."""
        program = _PROGRAMS.get(name)
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it is about to begin or to end
                if program is None and child.environ().get("SWITCHGEAR_REPLICA_ID") == name:
                    return child
                if program is not None and program in " ".join(child.cmdline()):
                    return child
        raise AssertionError(f"{name} does not run")

    def interrupt(self) -> int:
        """Press Ctrl-C: the signal goes to the whole foreground group. Returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=20)

    def end(self) -> None:
        """End it if it still runs, whatever state a failed test has left it in."""
        if self.process.poll() is None:
            self.interrupt()


@contextmanager
def data_directory() -> Iterator[Path]:
    """A directory for one system's data that is gone afterwards."""
    # Not pytest's: as root PostgreSQL runs as another user, who may not enter that.
    parent = Path(tempfile.mkdtemp(prefix="switchgear-test-"))
    parent.chmod(0o711)
    try:
        yield parent / "local"
    finally:
        shutil.rmtree(parent)


@contextmanager
def started(directory: Path, **environment: str) -> Iterator[LocalRun]:
    """A system of one replica that is up, with its data in the directory."""
    run = LocalRun(directory, **{"REPLICAS": "1"} | environment)
    try:
        run.wait_until_up()
        yield run
    finally:
        run.end()


@contextmanager
def local_run(**environment: str) -> Iterator[LocalRun]:
    """A whole system that is up, with as many replicas as a user gets, and no data yet."""
    with data_directory() as directory, started(directory, REPLICAS="3", **environment) as run:
        yield run


def wait_until(condition: Callable[[], bool], what: str, *, timeout_seconds: float = 20.0) -> None:
    """Wait until a condition holds, and fail with words if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_seconds:g} s in vain: {what}"
        time.sleep(_POLL_SECONDS)

"""The fleet that the outage is played against: the one that runs, or a fresh one that ends with the demo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.local.credentials import read_assignments
from service.local.plan import LocalRunError

_START_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 15.0
_ASK_TIMEOUT_SECONDS = 1.0
_POLL_SECONDS = 0.05
# Long enough to be seen, short enough to be waited for.
_COOLDOWN_SECONDS = "5"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where the fleet is and what opens its doors."""

    api_url: str
    sandbox_url: str
    token: str
    admin_token: str


def running_fleet(directory: Path) -> Fleet | None:
    """Return the fleet that `make run` has started from this folder; None if none answers."""
    try:
        fleet = _read(directory / "env")
        httpx.get(f"{fleet.api_url}/livez", timeout=_ASK_TIMEOUT_SECONDS, trust_env=False).raise_for_status()
    except (FileNotFoundError, KeyError, httpx.HTTPError):
        return None
    return fleet


@contextmanager
def fresh_fleet() -> Iterator[Fleet]:
    """Start a fleet on free ports with data of its own, and leave nothing of it.

    Raises:
        LocalRunError: It does not start.
    """
    directory = Path(tempfile.mkdtemp(prefix="switchgear-demo-"))
    # Root's PostgreSQL runs as another user, who has to walk through here.
    directory.chmod(0o711)
    environment = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
    environment |= {"PORT": "0", "SWITCHGEAR_LOCAL_DIR": str(directory / "local")}
    environment.setdefault("SWITCHGEAR_BREAKER_COOLDOWN_SECONDS", _COOLDOWN_SECONDS)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.local"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the demo first, and the demo its fleet
        )
    try:
        _wait_for(directory / "local" / "env", process, log)
        yield _read(directory / "local" / "env")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _read(path: Path) -> Fleet:
    values = read_assignments(path)
    return Fleet(values["API_URL"], values["SANDBOX_URL"], values["TOKEN"], values["ADMIN_TOKEN"])


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise LocalRunError(f"the fleet did not start:\n{log.read_text(errors='replace')}")
        time.sleep(_POLL_SECONDS)

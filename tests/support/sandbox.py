"""The provider sandbox, a process of its own: one for the whole test run, started over for each test that asks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.ports import free_port

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0


class Sandbox:
    """A running sandbox, as a test steers it.

    Attributes:
        url: Its address, without a slash at the end; `httpx` and the Stripe SDK take it as a base.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, trust_env=False, verify=False, timeout=10)

    def close(self) -> None:
        """Close the connections that steer it; the sandbox goes on."""
        self._http.close()

    def start_over(self) -> None:
        """Make it forget everything."""
        self._http.delete("/_sandbox").raise_for_status()

    def fault(self, mode: str, **options: str | int) -> None:
        """Switch a fault on; the options are `path`, `delay_ms` and `times`."""
        self._http.put("/_sandbox/faults", json={"mode": mode, **options}).raise_for_status()

    def heal(self) -> None:
        """Switch every fault off."""
        self.fault("none")

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that are switched on."""
        return list(self._state()["faults"])

    @property
    def requests(self) -> dict[str, int]:
        """How many requests arrived, by route."""
        return dict(self._state()["requests"])

    @property
    def effects(self) -> list[dict[str, Any]]:
        """What really happened, oldest first."""
        return list(self._http.get("/_sandbox/effects").raise_for_status().json())

    def effects_of(self, kind: str) -> list[dict[str, Any]]:
        """What really happened, of one type: `created`, `authorized`, `captured` or `canceled`."""
        return [effect for effect in self.effects if effect["type"] == kind]

    def _state(self) -> dict[str, Any]:
        return dict(self._http.get("/_sandbox").raise_for_status().json())


@contextlib.contextmanager
def running_sandbox(log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a sandbox on a free port until the block ends, and give its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--factory", "--host", "127.0.0.1", "--port", str(port), "--timeout-graceful-shutdown", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "service.sandbox.app:create_app", *options],
            env={**os.environ, **(environment or {})},
            cwd=Path(__file__).parents[2],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    with httpx.Client(trust_env=False, verify=False, timeout=1) as http:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if http.get(f"{url}/_sandbox").is_success:
                    return
            time.sleep(0.05)
    pytest.fail(f"the sandbox did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running sandbox; its content belongs to whoever runs at the moment, see `sandbox`."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "sandbox.log") as url:
        yield url


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[Sandbox]:
    """A sandbox at its start: healthy, and nothing has happened."""
    sandbox = Sandbox(sandbox_url)
    sandbox.start_over()
    yield sandbox
    sandbox.close()

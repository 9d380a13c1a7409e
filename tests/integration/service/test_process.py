"""The service as a process of its own: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.postgres import REPOSITORY
from tests.support.service import ENCRYPTION_KEY, JWT_SECRET, NO_REDIS, bearer, body


def environment(database_url: str, **changes: str) -> dict[str, str]:
    """Give a process's environment."""
    ours = {
        "DATABASE_URL": database_url,
        "REDIS_URL": NO_REDIS,
        "SWITCHGEAR_STRIPE_API_KEY": "sk_test_planted",
        "SWITCHGEAR_STRIPE_API_BASE": "http://127.0.0.1:1",
        "SWITCHGEAR_JWT_SECRET": JWT_SECRET,
        "SWITCHGEAR_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "SWITCHGEAR_REPLICA_ID": "alone",
    }
    return {**os.environ, **ours, **changes}


def command(port: int) -> list[str]:
    """Give the command that starts one replica."""
    return [
        sys.executable,
        "-m",
        "uvicorn",
        "service.app:create_app",
        "--factory",
        "--port",
        str(port),
        "--no-access-log",
    ]


@contextmanager
def running(port: int, log: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a replica and wait until it answers; it is killed if it does not end by itself."""
    with log.open("w") as out:
        process = subprocess.Popen(command(port), cwd=REPOSITORY, env=environ, stdout=out, stderr=out, text=True)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=20), trust_env=False) as client:
            assert client.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        yield process
    finally:
        process.kill()
        process.wait()


def test_replica_speaks_json_and_ends_when_told(database_url: str, tmp_path: Path) -> None:
    """Every line of its output is a JSON object, each request has one with its id, and none holds a secret."""
    port, log = free_port(), tmp_path / "log"
    with running(port, log, environment(database_url)) as replica:
        answer = httpx.post(
            f"http://127.0.0.1:{port}/payments/intents",
            json=body(),
            headers={**bearer(), "X-Request-Id": "mine"},
            trust_env=False,
        )
        assert (answer.status_code, answer.json()["outcome"]) == (424, "not_executed")
        replica.send_signal(signal.SIGTERM)
        assert replica.wait(timeout=20) in {0, -signal.SIGTERM}
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    (request,) = [line for line in lines if line["event"] == "request" and line["request_id"] == "mine"]
    assert request.items() >= {"status": 424, "route": "/payments/intents", "replica": "alone", "level": "info"}.items()
    assert [line["failure_kind"] for line in lines if line["event"] == "operation_settled"] == ["unreachable"]
    assert "Application shutdown complete." in {line["event"] for line in lines}
    for secret in ("planted", JWT_SECRET, ENCRYPTION_KEY, bearer()["Authorization"][:40]):
        assert secret not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("SWITCHGEAR_PROVIDER_ATTEMPTS", "9"), ("SWITCHGEAR_CHECKOUT_URL_TEMPLATE", "https://x/{secret}")],
)
def test_refused_configuration_is_one_line(name: str, value: str) -> None:
    """A replica that cannot work ends at once and says in one line what is wrong."""
    done = subprocess.run(
        command(free_port()),
        cwd=REPOSITORY,
        env=environment("postgresql://nobody@127.0.0.1:1/x", **{name: value}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("configuration refused:")
    assert name in line

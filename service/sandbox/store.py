"""What the sandbox remembers: intents, answers under idempotency keys, and the log of effects, in one SQLite database.

The sandbox is one process with one event loop, and every statement here takes microseconds, so the calls are plain and
nothing can come between two of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.sandbox.wire import Answer

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, customer TEXT, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
  account TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, request_id TEXT NOT NULL,
  status INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (account, key)
);
CREATE TABLE IF NOT EXISTS effects (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_LISTED = (
    "SELECT body FROM intents WHERE created BETWEEN ? AND ? AND seq > ? AND seq < ? AND (? IS NULL OR customer = ?)"
    " ORDER BY seq"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who caused an effect: the request, and the idempotency key it came with."""

    request_id: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key as one request uses it: whose it is, for which endpoint and which parameters."""

    account: str
    key: str
    path: str
    digest: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which intents a list asks for; `after` and `before` are positions, newest first."""

    limit: int
    after: int | None = None
    before: int | None = None
    created_at_least: int = 0
    created_at_most: int = 2**62
    customer: str | None = None


class Store:
    """The sandbox's memory.

    Args:
        path: A file that survives a restart, or `:memory:`.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # A killed process loses nothing this way; a power cut may, and a sandbox can bear that.
        self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes inside happen together or not at all: an effect and the answer that tells of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            for table in ("intents", "answers", "effects"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are the three above

    def save_intent(self, intent: dict[str, Any]) -> None:
        """Insert an intent, or replace it."""
        self._db.execute(
            "INSERT INTO intents (id, created, customer, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, body = excluded.body",
            (intent["id"], intent["created"], intent["customer"], json.dumps(intent)),
        )

    def intent(self, intent_id: str) -> dict[str, Any] | None:
        """Read one intent."""
        row = self._db.execute("SELECT body FROM intents WHERE id = ?", (intent_id,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def position(self, intent_id: str) -> int | None:
        """Tell where an intent stands in the order of creation."""
        row = self._db.execute("SELECT seq FROM intents WHERE id = ?", (intent_id,)).fetchone()
        return None if row is None else int(row[0])

    def intents(self, page: Page) -> tuple[list[dict[str, Any]], bool]:
        """Read a page of intents, newest first, and tell whether there are more in the direction of reading."""
        backwards = page.before is not None
        rows = self._db.execute(
            _LISTED + (" ASC LIMIT ?" if backwards else " DESC LIMIT ?"),
            (
                *(page.created_at_least, page.created_at_most, page.before or 0, page.after or 2**62),
                *(page.customer, page.customer, page.limit + 1),
            ),
        ).fetchall()
        found = [json.loads(row[0]) for row in rows[: page.limit]]
        return (found[::-1] if backwards else found), len(rows) > page.limit

    def save_answer(self, claim: Claim, answer: Answer) -> None:
        """Store what a key has been answered."""
        self._db.execute(
            "INSERT INTO answers (account, key, path, digest, request_id, status, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (claim.account, claim.key, claim.path, claim.digest, claim.request_id, answer.status, answer.body),
        )

    def answer(self, account: str, key: str) -> tuple[Claim, Answer] | None:
        """Read what a key was used for, and answered."""
        row = self._db.execute(
            "SELECT path, digest, request_id, status, body FROM answers WHERE account = ? AND key = ?", (account, key)
        ).fetchone()
        return None if row is None else (Claim(account, key, *row[:3]), Answer(*row[3:]))

    def add_effect(self, kind: str, intent: dict[str, Any], amount: int, cause: Cause) -> None:
        """Append to the log of what really happened."""
        effect = {
            "type": kind,
            "payment_intent": intent["id"],
            "amount": amount,
            "currency": intent["currency"],
            "idempotency_key": cause.idempotency_key,
            "request_id": cause.request_id,
            "at": datetime.now(UTC).isoformat(),
        }
        self._db.execute("INSERT INTO effects (body) VALUES (?)", (json.dumps(effect),))

    def effects(self) -> list[dict[str, Any]]:
        """Read the whole log, oldest first; `seq` counts from 1 without gaps."""
        rows = self._db.execute("SELECT seq, body FROM effects ORDER BY seq")
        return [{"seq": seq} | json.loads(body) for seq, body in rows]

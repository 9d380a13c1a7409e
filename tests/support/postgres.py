"""A real PostgreSQL, one for the whole test run, and a migrated database for each test that asks."""

from __future__ import annotations

"""A real Valkey on a free port, one for the whole test run."""

from __future__ import annotations

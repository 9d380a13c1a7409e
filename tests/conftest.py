"""What every test shares: real servers on free ports, started when the first test asks for them."""

from __future__ import annotations

pytest_plugins = ["tests.support.valkey", "tests.support.postgres", "tests.support.sandbox"]

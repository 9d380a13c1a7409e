from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's proxy out of it: everything here is on the loopback interface."""
    monkeypatch.setenv("NO_PROXY", "*")

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api_reference import PAGE, reference
from tests.support.pages import ROOT, blocks_of, run_page

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("guide", "from-pybreaker", "sharing", "costs")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_a_page_does_what_it_says(page: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program and every command of a page runs, in order, and prints what the page shows."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    shown = sum(block.language in {"python", "console"} for block in blocks_of(page))
    assert await run_page(page, redis_url) == shown


def test_the_reference_is_that_of_the_docstrings() -> None:
    """The committed reference is what `make docs` writes."""
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs"

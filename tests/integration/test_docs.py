from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import redis

from breaker import Override, Reason, RedisStore, State
from breaker._wire import KeySpace
from tests.support.api_reference import PAGE, reference
from tests.support.pages import ROOT, blocks_of, run_page

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("guide", "from-pybreaker", "sharing", "costs", "operations")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_a_page_does_what_it_says(page: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program and every command of a page runs, in order, and prints what the page shows."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    store = RedisStore.from_url(redis_url)
    await store.control("stripe:create_intent", Override(mode=None, reason="to be looked at", actor="test"))
    await store.aclose()
    shown = sum(block.language in {"python", "console"} for block in blocks_of(page))
    assert await run_page(page, redis_url) == shown


@pytest.mark.parametrize(
    "text",
    [
        '```python\nprint("this")\n```\n\n```text\nthat\n```\n',
        '```python\nprint("nothing is shown")\n```\n',
        "```console\n$ frobnicate\n```\n",
        "```console\n$ make what-is-not-there\n```\n",
        "```console\n$ pip install '.[what-is-not-there]'\n```\n",
    ],
    ids=["other output", "output that is not shown", "unknown command", "unknown target", "unknown extra"],
)
async def test_a_page_that_says_what_is_not_so_is_noticed(text: str, redis_url: str, tmp_path: Path) -> None:
    """What runs the pages finds a difference where there is one."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, subprocess.CalledProcessError)):
        await run_page(page, redis_url)


def test_the_reference_is_that_of_the_docstrings() -> None:
    """The committed reference is what `make docs` writes."""
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs"


def test_the_picture_names_every_state_and_every_refusal() -> None:
    """Nothing that the machine can say is missing in the picture of it."""
    text = (ROOT / "docs" / "states.svg").read_text(encoding="utf-8")
    shown = set(re.findall(r">(\w+)<", text))
    assert {*State, *Reason} <= shown


def test_the_map_of_the_rooms_names_every_module() -> None:
    """Whoever looks for a room of the library finds it on the map, and no room that is not there."""
    rows = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    named = [
        name for row in rows if row.startswith("| `breaker/_") for name in re.findall(r"`(?:breaker/)?(_\w+)`", row)
    ]
    assert sorted(named) == sorted(module.stem for module in (ROOT / "breaker").glob("_[a-z]*.py"))


def test_the_design_names_every_key() -> None:
    """Whoever looks for a circuit in Redis finds every key of it explained."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    space = KeySpace("breaker:")
    keys = space.of("NAME")
    assert [key for key in (*keys, keys.changes, space.registry) if f"| `{key}` |" not in design] == []


async def test_the_design_names_every_field_of_the_record(redis_url: str) -> None:
    """Whoever looks at a circuit in Redis finds every field of it explained, and no field that is not there."""
    store = RedisStore.from_url(redis_url)
    await store.control("shown", Override(mode=None, reason="to be looked at", actor="test"))
    await store.aclose()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        fields = client.hkeys("breaker:{shown}")
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = design.partition("| fields of the record | content |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.partition(" | ")[0])}
    assert named == set(fields)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem
)
def test_every_link_leads_to_a_file(page: Path) -> None:
    """A link to another page or a picture leads there."""
    links = re.findall(r"\]\(((?!https?:)[^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []

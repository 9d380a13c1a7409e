from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from breaker._scripts import load_script


def test_parts_are_spliced_in_where_they_are_asked_for(tmp_path: Path) -> None:
    """A line that asks for a part is replaced by the part's text, parts of parts included."""
    (tmp_path / "verb.lua").write_text("#!lua\n-- @include _a\nreturn 1\n")
    (tmp_path / "_a.lua").write_text("local a = 1\n-- @include _b\n")
    (tmp_path / "_b.lua").write_text("local b = 2\n")
    assert load_script("verb", (tmp_path,)).text == "#!lua\nlocal a = 1\nlocal b = 2\nreturn 1\n"


def test_a_part_is_spliced_in_once(tmp_path: Path) -> None:
    """A part that two others need, or that needs itself, stands in the script once."""
    (tmp_path / "verb.lua").write_text("-- @include _a\n-- @include _b\n")
    (tmp_path / "_a.lua").write_text("-- @include _b\nlocal a = 1\n")
    (tmp_path / "_b.lua").write_text("-- @include _a\nlocal b = 2\n")
    assert load_script("verb", (tmp_path,)).text == "local b = 2\nlocal a = 1\n"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    """A misspelled part is an error when it is loaded, not when it is called."""
    (tmp_path / "verb.lua").write_text("-- @include _missing\n")
    with pytest.raises(FileNotFoundError, match=re.escape("_missing.lua")):
        load_script("verb", (tmp_path,))


def test_an_earlier_folder_wins(tmp_path: Path) -> None:
    """A planted clock takes the place of the real one."""
    (tmp_path / "_now.lua").write_text("local function now() return 42 end\n")
    text = load_script("acquire", (tmp_path,)).text
    assert "return 42" in text
    assert "'TIME'" not in text


def test_the_sha_is_that_of_the_text() -> None:
    """The name under which the server caches a script is the SHA-1 of what was sent."""
    script = load_script("acquire")
    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()

"""House rules for Lua that a reader would otherwise have to check by eye."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from breaker._scripts import load_script

_FOLDER = resources.files("breaker") / "lua"
_FILES = sorted(file.name.removesuffix(".lua") for file in _FOLDER.iterdir())
_OPERATIONS = [name for name in _FILES if not name.startswith("_")]
_PARTS = [name for name in _FILES if name.startswith("_")]


def source(name: str) -> str:
    """Read one file of the package."""
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _OPERATIONS)
def test_the_header_lists_every_key_and_argument(name: str) -> None:
    """KEYS and ARGV are numbered without a gap in the header, and each is bound to a name at the top of the body."""
    text = source(name)
    assert text.startswith("#!lua")
    header, body = text.split("-- @include", 1)
    for kind in ("KEYS", "ARGV"):
        documented = [int(number) for number in re.findall(rf"^-- {kind}\[(\d+)\] \w+: ", header, re.MULTILINE)]
        used = [int(number) for number in re.findall(rf"{kind}\[(\d+)\]", body)]
        assert documented == list(range(1, len(documented) + 1))
        assert used == documented
    assert "-- Replies" in header
    assert "-- Cost:" in header


@pytest.mark.parametrize("name", _OPERATIONS)
def test_the_clock_is_read_once(name: str) -> None:
    """TIME moves while a script runs, so a script asks for it once."""
    assert len(re.findall(r"\bnow\(\)", source(name))) == 1


@pytest.mark.parametrize("name", _PARTS)
def test_parts_touch_neither_keys_nor_arguments(name: str) -> None:
    """What a part needs it is given."""
    assert not re.search(r"\b(KEYS|ARGV)\b", source(name))


@pytest.mark.parametrize("name", _FILES)
def test_nothing_is_enumerated_and_nothing_is_long(name: str) -> None:
    """No KEYS, no SCAN, and a file fits on two screens."""
    assert not re.search(r"'(KEYS|SCAN)'", source(name))
    assert len(source(name).splitlines()) <= 120


@pytest.mark.parametrize("name", _OPERATIONS)
def test_luacheck_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    """The linter sees the script as it is sent, parts spliced in."""
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        if os.environ.get("CI"):
            pytest.fail("luacheck is missing; install the Debian package lua-check")
        pytest.skip("luacheck is not installed")
    file = tmp_path / f"{name}.lua"
    file.write_text("--" + load_script(name).text)
    config = Path(__file__).parents[2] / ".luacheckrc"
    # A part brings functions that one script or another does not use.
    command = [luacheck, "--config", str(config), "--no-color", "--ignore", "211", "--", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

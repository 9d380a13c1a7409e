"""Reads the Lua scripts and splices their parts in.

Redis gives a script no `require`, so a line `-- @include _part` is replaced by the text of `_part.lua`, once in a
script however often it is asked for. A search path before the package's own lets tests plant another `_now.lua`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable

_INCLUDE = re.compile(r"^-- @include (?P<part>_\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent, and the name that the server caches it under."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@functools.cache
def load_script(name: str, search_path: tuple[Traversable, ...] = ()) -> Script:
    """Read one operation with its parts; once in a process, since every store asks for it.

    Args:
        name: The operation, such as `acquire`.
        search_path: Folders to look in before the package's own.

    Raises:
        FileNotFoundError: There is no such script or part.
    """
    folders = [*search_path, resources.files("breaker") / "lua"]
    included: set[str] = set()

    def splice(text: str) -> str:
        return _INCLUDE.sub(include, text)

    def include(match: re.Match[str]) -> str:
        part = match["part"]
        if part in included:
            return ""
        included.add(part)
        return splice(_read(part, folders))

    return Script(splice(_read(name, folders)))


def _read(name: str, folders: list[Traversable]) -> str:
    for folder in folders:
        file = folder / f"{name}.lua"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name}.lua")

"""Runs what a page of the documentation shows, and compares it with what the page says comes out."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: The word after the fence.
        text: What is in it.
        line: The number of its first line in the page.
        said: What the page says that it prints: the block in `text` right after it, if there is one.
    """

    language: str
    text: str
    line: int
    said: str


def blocks_of(page: Path) -> list[Block]:
    """Read a page's blocks, each with the output that stands right after it."""
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    blocks = []
    for match, following in zip(found, [*found[1:], None], strict=False):
        said = ""
        if (
            following is not None
            and following["language"] == "text"
            and not text[match.end() : following.start()].strip()
        ):
            said = following["text"]
        line = text.count("\n", 0, match.start()) + 2
        blocks.append(Block(match["language"], match["text"], line, said))
    return blocks


async def run_page(page: Path, redis_url: str) -> int:
    """Run a page's programs and commands from top to bottom, as one session; returns how many there were.

    Args:
        page: The page. Its Python shares one namespace, and may `await` as in `python -m asyncio`.
        redis_url: The server that its commands are for.
    """
    namespace: dict[str, Any] = {"__name__": page.stem}
    blocks = [block for block in blocks_of(page) if block.language in {"python", "console"}]
    for block in blocks:
        if block.language == "python":
            printed = await _run_python(block, page, namespace)
        else:
            printed = "".join(_run_command(command, redis_url) for command in _commands(block.text))
        if block.language == "python" or block.said:
            assert re.fullmatch(_pattern(block.said), printed), (
                f"{page.name}:{block.line} prints\n{printed}\nand the page says\n{block.said}"
            )
    return len(blocks)


async def _run_python(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    """Run one program, with the page's own line numbers in its tracebacks; returns what it printed."""
    tree = ast.increment_lineno(ast.parse(block.text), block.line - 1)
    code = compile(tree, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(code, namespace)
        if inspect.isawaitable(result):
            await result
    return printed.getvalue()


def _commands(text: str) -> list[str]:
    """List the commands of a console, without the remarks after them."""
    lines = (line.removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.strip()]


def _run_command(command: str, redis_url: str) -> str:
    """Run a command for Redis; of what would take too long or install something, show that it exists."""
    program, *words = shlex.split(command.replace("$REDIS_URL", redis_url), comments=True)
    if program == "redis-cli":
        if shutil.which(program) is None:
            message = "redis-cli is missing; Debian has it in the package redis-tools"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
        assert words[:2] == ["-u", redis_url], 'say which server: redis-cli -u "$REDIS_URL"'
        line = [program, "-e", *words]  # -e: an error of the server is one of the program
        done = subprocess.run(line, capture_output=True, text=True, timeout=10, check=True)
        assert done.stdout.strip(), command
        return done.stdout
    if program == "make":
        subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, timeout=30, check=True)
        return ""
    assert (program, words[:1]) == ("pip", ["install"]), f"no test knows how to try: {command}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"\w+", words[1].partition("[")[2])
    assert set(extras) <= set(project["optional-dependencies"]), command
    return ""


def _pattern(said: str) -> str:
    """Turn what a page says into a pattern; … stands for anything within a line."""
    return re.escape(said).replace("…", "[^\n]*")

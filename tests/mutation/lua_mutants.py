"""Small changes to Lua: the same kinds as for Python, found among the tokens of a script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lupa import lua51

from tests.mutation.mutants import Change

_TOKEN = re.compile(
    r"(?P<comment>#!lua[^\n]*|--[^\n]*)|(?P<string>'(?:\\.|[^'\\])*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\.\.\.|\.\.|[=~<>]=|[-+*/%^#<>=(){}\[\],;:.])"
)
_OTHER_SIGNS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("~=",),
    "~=": ("==",),
    "+": ("-",),
    "-": ("+",),
    "*": ("/",),
    "/": ("*",),
    "%": ("*",),
    "^": ("*",),
    "and": ("or",),
    "or": ("and",),
    "true": ("false",),
    "false": ("true",),
    "min": ("max",),
    "max": ("min",),
}
_WORDS = {
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
}  # fmt: skip
_OPENING, _CLOSING = {"(": 1, "{": 1, "[": 1}, {")": -1, "}": -1, "]": -1}
# A line that ends with one of these goes on in the next.
_GOES_ON = {"and", "or", "not", ",", "=", "..", *"+-*/%^<>", "==", "~=", "<=", ">="}
_BEFORE_AN_OPERAND = {"=", "return", "if", "elseif", "while", "until", "in", ",", ";"}
_AFTER_AN_OPERAND = {"then", "do", ",", ";"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def lua_changes(source: str) -> Iterator[tuple[str, Change]]:
    """Find every change; with each the function that it is in, or `body`."""
    runtime = lua51.LuaRuntime()
    for statement in _statements(source):
        for change in _changes_of(source, statement.tokens):
            text = change.made_in(source)
            try:
                runtime.compile(text.removeprefix("#!lua").removeprefix(" flags=no-writes"))
            except lua51.LuaSyntaxError:
                continue
            yield statement.function, change


class _Statement(NamedTuple):
    function: str
    tokens: Sequence[_Token]


def _statements(source: str) -> Iterator[_Statement]:
    """Cut a script into statements: a line each, and the lines that it goes on in."""
    function, tokens, depth = "body", list[_Token](), 0
    found = [
        _Token(match.lastgroup or "", match.group(), match.start(), match.end()) for match in _TOKEN.finditer(source)
    ]
    code = [token for token in found if token.kind != "comment"]
    for token, following in pairwise([*code, _Token("end", "", len(source), len(source))]):
        tokens.append(token)
        depth += _depth(token)
        line_ends = "\n" in source[token.end : following.start]
        if depth or not line_ends or token.text in _GOES_ON or following.text in {"and", "or"}:
            continue
        if [each.text for each in tokens[:2]] == ["local", "function"]:
            function = tokens[2].text
        yield _Statement(function, tokens)
        if len(tokens) == 1 and token.text == "end" and source[token.start - 1] == "\n":
            function = "body"
        tokens = []


def _changes_of(source: str, tokens: Sequence[_Token]) -> Iterator[Change]:
    yield from _of_statement(tokens)
    for place, token in enumerate(tokens):
        yield from _of_token(tokens, place)
        if token.text == "not":
            yield Change(token.start, tokens[place + 1].start, "")
        elif token.text in {"and", "or"}:
            yield from _one_operand(source, tokens, place)
        elif token.text in {"min", "max"}:
            yield from _one_argument(source, tokens, place)
        elif _is_entry(tokens, place):
            yield _without_entry(tokens, place)


def _of_statement(tokens: Sequence[_Token]) -> Iterator[Change]:
    first = tokens[0]
    if first.kind == "name" and first.text not in _WORDS:
        yield Change(first.start, tokens[-1].end, "")
    if first.text in {"if", "elseif"}:
        then = next(token for token in tokens if token.text == "then")
        for condition in ("true", "false"):
            yield Change(tokens[1].start, then.start, f"{condition} ")


def _of_token(tokens: Sequence[_Token], place: int) -> Iterator[Change]:
    token = tokens[place]
    if token.kind == "number":
        number = float(token.text) if "." in token.text else int(token.text)
        yield from (Change(token.start, token.end, str(number + more)) for more in (1, -1))
    elif token.kind == "string" and not _is_command(tokens, place):
        yield Change(token.start, token.end, "'other'" if token.text == "''" else "''")
    for other in _OTHER_SIGNS.get(token.text, ()):
        yield Change(token.start, token.end, other)


def _is_command(tokens: Sequence[_Token], place: int) -> bool:
    """Tell whether a string is the name of a command; without it every call of the script fails."""
    return [token.text for token in tokens[max(0, place - 4) : place]] == ["redis", ".", "call", "("]


def _one_operand(source: str, tokens: Sequence[_Token], place: int) -> Iterator[Change]:
    """Leave only one side of an `and` or an `or`."""
    word = tokens[place].text
    # An `and` binds more closely, so a side of an `or` goes beyond it.
    limits = {"and", "or"} if word == "and" else {"or"}
    left = place
    depth = 0
    while left > 0:
        before = tokens[left - 1]
        if depth == 0 and (before.text in _OPENING or before.text in _BEFORE_AN_OPERAND | limits):
            break
        depth += _depth(before)
        left -= 1
    right = place
    while right + 1 < len(tokens):
        after = tokens[right + 1]
        if depth == 0 and (after.text in _CLOSING or after.text in _AFTER_AN_OPERAND | limits):
            break
        depth += _depth(after)
        right += 1
    start, end = tokens[left].start, tokens[right].end
    yield Change(start, end, source[start : tokens[place - 1].end])
    yield Change(start, end, source[tokens[place + 1].start : end])


def _one_argument(source: str, tokens: Sequence[_Token], place: int) -> Iterator[Change]:
    """Let each argument of `math.min` or `math.max` stand for the call."""
    begins, depth = [place + 2], 0
    for index in range(place + 1, len(tokens)):
        depth += _depth(tokens[index])
        if depth == 1 and tokens[index].text == ",":
            begins.append(index + 1)
        if depth == 0:
            ends = [*(begin - 2 for begin in begins[1:]), index - 1]
            for begin, end in zip(begins, ends, strict=True):
                argument = source[tokens[begin].start : tokens[end].end]
                yield Change(tokens[place - 2].start, tokens[index].end, f"({argument})")
            return


def _is_entry(tokens: Sequence[_Token], place: int) -> bool:
    """Tell whether a field of a table begins here."""
    if tokens[place].kind != "name" or [token.text for token in tokens[place + 1 : place + 2]] != ["="]:
        return False
    depth = 0
    for token in reversed(tokens[:place]):
        depth += _depth(token)
        if depth > 0:
            return token.text == "{"
    return False


def _without_entry(tokens: Sequence[_Token], place: int) -> Change:
    depth = 0
    for index in range(place, len(tokens)):
        if depth == 0 and tokens[index].text == ",":
            return Change(tokens[place].start, tokens[index + 1].start, "")
        if depth == 0 and tokens[index].text == "}":
            comma = tokens[place - 1].text == ","
            return Change(tokens[place - 1].start if comma else tokens[place].start, tokens[index - 1].end, "")
        depth += _depth(tokens[index])
    raise AssertionError(f"the table with {tokens[place].text} does not end")


def _depth(token: _Token) -> int:
    return _OPENING.get(token.text, 0) + _CLOSING.get(token.text, 0)

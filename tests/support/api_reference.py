"""Writes docs/api.md, the reference, from the docstrings of what the library declares public: `make docs`.

It reads the source and imports nothing of it, so the integrations need not be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe

from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "api.md"
_SPECIAL_METHODS = {"__call__"}
_INTRODUCTION = """# Reference

Everything that the library declares public, from its docstrings; `make docs` writes this page. What is not here may
change without notice. [The guide](guide.md) teaches the same by example. `Verdict` is `Outcome | OpenFor`.
"""


def reference(package: str = "breaker") -> str:
    """Return the whole page."""
    loaded = griffe.load(package, search_paths=[str(ROOT)], docstring_parser=griffe.Parser.google)
    assert isinstance(loaded, griffe.Module)
    sections = [_INTRODUCTION]
    for module in _public_modules(loaded):
        sections.append(f"## `{module.path}`\n")
        sections += _docstring(module)
        for title, belongs in _KINDS.items():
            members = [member for member in _exported(module) if _kind_of(member) == title]
            if members:
                sections.append(f"### {belongs}\n")
            for member in members:
                sections += _member(member)
    return "\n".join(sections)


_KINDS = {
    "class": "Classes",
    "function": "Functions",
    "dataclass": "Values",
    "enum": "Words",
    "error": "Errors",
    "attribute": "Types",
}


def _public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    if _exported(module):
        yield module
    for name, inner in sorted(module.modules.items()):
        if not name.startswith("_") and not inner.is_alias:  # an alias is what the module imports
            yield from _public_modules(inner)


def _exported(module: griffe.Module) -> list[griffe.Object]:
    """List what a module declares public; one that declares nothing means what it defines without an underscore."""
    own = (each.name for each in module.members.values() if isinstance(each, (griffe.Class, griffe.Function)))
    names = sorted(str(name) for name in module.exports or own if not str(name).startswith("_"))
    found = (module[name] for name in names)
    return [each.final_target if isinstance(each, griffe.Alias) else each for each in found]


def _kind_of(member: griffe.Object) -> str:
    if isinstance(member, griffe.Function):
        return "function"
    if not isinstance(member, griffe.Class):
        return "attribute"
    if any("Enum" in str(base) for base in member.bases):
        return "enum"
    if member.name.endswith("Error"):
        return "error"
    return "dataclass" if "dataclass" in member.labels or _is_tuple(member) else "class"


def _is_tuple(member: griffe.Object) -> bool:
    return isinstance(member, griffe.Class) and any("NamedTuple" in str(base) for base in member.bases)


def _member(member: griffe.Object) -> Iterator[str]:
    match member:
        case griffe.Class():
            yield from _class(member)
        case griffe.Function():
            yield from _function(member, "####")
        case griffe.Attribute():
            yield f"#### `{member.name}`\n"
            yield f"`{member.name} = {member.value}`\n"


def _class(member: griffe.Class) -> Iterator[str]:
    yield f"#### `{member.name}`\n"
    bases = [str(base) for base in member.bases]
    if _kind_of(member) == "error" and bases:
        yield f"Is {' and '.join(_with_article(base) for base in bases)}.\n"
    yield from _docstring(member)
    if _kind_of(member) == "enum":
        yield from _words(member)
    own = member.members.values()
    attributes = [each for each in own if isinstance(each, griffe.Attribute) and "property" in each.labels]
    for attribute in (each for each in attributes if not each.name.startswith("_")):
        yield f"##### `{member.name}.{attribute.name}`: `{attribute.annotation}`\n"
        yield from _docstring(attribute)
    for method in (each for each in own if isinstance(each, griffe.Function)):
        if not method.name.startswith("_") or method.name in _SPECIAL_METHODS:
            yield from _function(method, "#####", owner=member.name)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} `{name}`"


def _words(member: griffe.Class) -> Iterator[str]:
    """List the members of an enumeration, with the remark that stands behind each."""
    filepath = member.filepath
    assert isinstance(filepath, Path)
    lines = filepath.read_text(encoding="utf-8").splitlines()
    for word in member.attributes.values():
        if word.lineno is not None and word.name.isupper():
            remark = lines[word.lineno - 1].partition("  # ")[2]
            yield f"- `{word.name}`{f': {remark}' if remark else ''}"
    yield ""


def _function(function: griffe.Function, heading: str, owner: str = "") -> Iterator[str]:
    parameters = griffe.Parameters(*(each for each in function.parameters if each.name not in {"self", "cls"}))
    name = f"{owner}.{function.name}" if owner else function.name
    waits = "await " if "async" in function.labels else ""
    returns = str(function.returns) if function.returns else ""
    yield f"{heading} `{waits}{name}({_shown(parameters)})`{f' → `{returns}`' if returns not in {'', 'None'} else ''}\n"
    yield from _docstring(function)


def _shown(parameters: griffe.Parameters) -> str:
    """Show parameters without their types, which stand in the list of arguments."""
    shown: list[str] = []
    before = None
    for parameter in parameters:
        kind = parameter.kind
        if before is griffe.ParameterKind.positional_only and kind is not before:
            shown.append("/")
        if kind is griffe.ParameterKind.keyword_only and before not in {kind, griffe.ParameterKind.var_positional}:
            shown.append("*")
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        default = "" if parameter.default is None or stars else f"={parameter.default}"
        shown.append(f"{stars}{parameter.name}{default}")
        before = kind
    return ", ".join(shown)


def _docstring(documented: griffe.Object) -> Iterator[str]:
    """Show a docstring, with its lists of arguments, attributes and errors."""
    if documented.docstring is None:
        return
    for section in documented.docstring.parsed:
        match section:
            case griffe.DocstringSectionText():
                yield _unwrapped(section.value) + "\n"
            case griffe.DocstringSectionParameters() | griffe.DocstringSectionAttributes():
                yield from _fields(documented, section.value)
                yield from _others(documented, {each.name for each in section.value})
            case griffe.DocstringSectionRaises():
                yield "Raises:\n"
                yield from (f"- `{each.annotation}`: {_unwrapped(each.description)}" for each in section.value)
                yield ""
            case griffe.DocstringSectionReturns() | griffe.DocstringSectionYields():
                yield from (f"Returns: {_unwrapped(each.description)}\n" for each in section.value)


def _fields(
    documented: griffe.Object, fields: Iterable[griffe.DocstringParameter | griffe.DocstringAttribute]
) -> Iterator[str]:
    defaults = _defaults(documented)
    for each in fields:
        facts = [] if each.annotation is None else [f"`{each.annotation}`"]
        if default := defaults.get(each.name):
            facts.append(f"default `{_default(default)}`")
        yield f"- `{each.name}`{' (' + ', '.join(facts) + ')' if facts else ''}: {_unwrapped(each.description)}"
    yield ""


def _others(documented: griffe.Object, described: set[str]) -> Iterator[str]:
    """Name the fields of a value that say enough by their names."""
    if isinstance(documented, griffe.Class) and _kind_of(documented) == "dataclass":
        names = [f"`{name}`" for name in _defaults(documented) if name not in {"self", *described}]
        if names:
            yield f"Also {', '.join(names)}.\n"


def _defaults(documented: griffe.Object) -> dict[str, str | griffe.Expr | None]:
    """Return what can be given to a function or a value, with its default if it has one."""
    if _is_tuple(documented):
        return {
            each.name: each.value
            for each in documented.members.values()
            if isinstance(each, griffe.Attribute) and "property" not in each.labels
        }
    parameters = documented.parameters if isinstance(documented, (griffe.Class, griffe.Function)) else ()
    variable = griffe.ParameterKind.var_positional
    return {each.name: None if each.kind is variable else each.default for each in parameters}


def _default(expression: str | griffe.Expr) -> str:
    factory = re.fullmatch(r"field\(default_factory=(\w+)\)", str(expression))
    return f"{factory[1]}()" if factory else str(expression)


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph and of each item, so that the page wraps where its reader's screen does."""
    return "\n\n".join(_joined(paragraph) for paragraph in text.split("\n\n"))


def _joined(paragraph: str) -> str:
    if paragraph.startswith(("    ", "|")):  # A program, a table: its lines are its own.
        return paragraph
    return "\n".join(" ".join(item.split()) for item in re.split(r"\n(?=- )", paragraph))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")

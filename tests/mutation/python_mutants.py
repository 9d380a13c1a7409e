"""Small changes to Python: comparisons and their boundaries, conditions, numbers, words, arguments, statements."""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.mutation.mutants import Change

_COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
}
_EXTREMES = {"min": "max", "max": "min"}


def python_changes(source: str) -> Iterator[tuple[str, Change]]:
    """Find every change; with each the function, the class or the constant that it is in."""
    finder = _Finder(source)
    for statement in ast.parse(source).body:
        match statement:
            case ast.FunctionDef(name=name):
                found = finder.in_function(statement)
            case ast.ClassDef(name=name, body=members):
                # What a class declares becomes code when it is made: only its methods and plain defaults are changed.
                found = finder.in_class(members)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value):
                found = finder.within(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found = finder.within(value)
            case _:
                continue
        for change in found:
            if _compiles(change.made_in(source)):
                yield name, change


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._begins = [0]
        for line in self._lines:
            self._begins.append(self._begins[-1] + len(line))

    def in_class(self, members: list[ast.stmt]) -> Iterator[Change]:
        for member in members:
            if isinstance(member, ast.FunctionDef):
                yield from self.in_function(member)
            elif isinstance(member, ast.AnnAssign) and isinstance(member.value, ast.Constant):
                yield from self.within(member.value)

    def in_function(self, function: ast.FunctionDef) -> Iterator[Change]:
        for default in (*function.args.defaults, *function.args.kw_defaults):
            if default is not None:
                yield from self.within(default)
        bound = Counter(node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _is_bound(node))
        bound.update(each.arg for each in (*function.args.args, *function.args.kwonlyargs))
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        for statement in body:
            for node in ast.walk(statement):
                if isinstance(node, ast.stmt) and _can_be_left_out(node, bound):
                    yield self._change(node, "pass")
            yield from self.within(statement)

    def within(self, node: ast.AST) -> Iterator[Change]:
        """Find the changes in a node and below it."""
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield from self.within(node.value)
            return
        yield from self._here(node)
        if isinstance(node, ast.JoinedStr):
            return  # its parts have no place of their own in the file
        for child in ast.iter_child_nodes(node):
            yield from self.within(child)

    def _here(self, node: ast.AST) -> Iterator[Change]:  # noqa: C901, PLR0912 - one case for each kind of node
        match node:
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                    word, *others = _COMPARISONS[type(operator)]
                    for other in others:
                        yield self._between(left, right, word, other)
            case ast.BinOp():
                word, other = _ARITHMETIC[type(node.op)]
                yield self._between(node.left, node.right, word, other)
            case ast.BoolOp():
                word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield self._between(left, right, word, other)
                for place in range(len(node.values)):
                    rest = copy.copy(node)
                    rest.values = [value for index, value in enumerate(node.values) if index != place]
                    yield self._change(node, f"({ast.unparse(rest)})")
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                yield self._change(node, f"({ast.unparse(node.operand)})")
            case ast.If() | ast.IfExp():
                yield self._change(node.test, "True")
                yield self._change(node.test, "False")
            case ast.comprehension():
                for condition in node.ifs:
                    yield self._change(condition, "True")
            case ast.Constant(value=value):
                for text in _others(value):
                    yield self._change(node, text)
            case ast.JoinedStr():
                yield self._change(node, '""')
            case ast.Dict():
                for key, entry in zip(node.keys, node.values, strict=True):
                    yield self._left_out(self._start(key) if key else self._stars(entry), self._end(entry))
            case ast.Call():
                for keyword in node.keywords:
                    yield self._left_out(self._start(keyword), self._end(keyword))
                if isinstance(node.func, ast.Name) and node.func.id in _EXTREMES:
                    yield self._change(node.func, _EXTREMES[node.func.id])
                    for argument in node.args if len(node.args) > 1 else ():
                        yield self._change(node, f"({ast.unparse(argument)})")
            case _:
                pass

    def _between(self, left: ast.expr, right: ast.expr, word: str, other: str) -> Change:
        """Change the operator in what lies between two operands, brackets and line ends included."""
        begin, end = self._end(left), self._start(right)
        pattern = rf"\b{word}\b".replace(" ", r"\s+") if word[0].isalpha() else re.escape(word)
        found = re.search(pattern, self._source[begin:end])
        assert found is not None
        return Change(begin + found.start(), begin + found.end(), other)

    def _left_out(self, start: int, end: int) -> Change:
        """Leave out one of several, with the comma that belongs to it."""
        comma = re.compile(r"\s*,[^\S\n]*").match(self._source, end)
        if comma is not None:
            return Change(start, comma.end(), "")
        before = re.compile(r",\s*$").search(self._source, 0, start)
        return Change(before.start() if before else start, end, "")

    def _change(self, node: ast.expr | ast.stmt, text: str) -> Change:
        return Change(self._start(node), self._end(node), text)

    def _stars(self, entry: ast.expr) -> int:
        return self._source.rindex("**", 0, self._start(entry))

    def _start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._offset(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        # Columns count bytes.
        return self._begins[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _is_bound(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _can_be_left_out(statement: ast.stmt, bound: Counter[str]) -> bool:
    """Tell whether a statement can be missing without a name being unknown afterwards, which any test would notice."""
    match statement:
        case ast.Expr() | ast.AugAssign():
            return True
        case ast.Assign(targets=targets):
            names = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            return all(bound[name.id] > 1 for name in names if _is_bound(name))
        case _:
            return False


def _others(value: object) -> Iterable[str]:
    match value:
        case bool():
            return (str(not value),)
        case int() | float():
            return (str(value + 1), str(value - 1))
        case str():
            return ('""',) if value else ('"other"',)
        case _:
            return ()

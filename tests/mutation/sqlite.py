"""Edits of the SQLite store's modules: Python guards and comparisons, statements, and the SQL in their strings.

A clause of SQL is not cut out, since its parameter would then be one too many, but made to hold always (`… OR 1`), or,
as an alternative of OR, never (`… AND 0`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.mutation.mutants import Edit

FLIPS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="), ast.LtE: ("<",), ast.Gt: (">=",), ast.GtE: (">",),
    ast.Eq: ("!=",), ast.NotEq: ("==",), ast.Is: ("is not",), ast.IsNot: ("is",),
}  # fmt: skip
SQL_FLIPS = {"<": ("<=", ">="), "<=": ("<",), ">": (">=",), ">=": (">",), "=": ("!=",), "!=": ("=",)}
IS_SQL = re.compile(r"\s*(SELECT|UPDATE|DELETE|INSERT|WITH|LEFT JOIN|AND)\b")
WHERE = re.compile(r"\bWHERE ")
BEHIND = re.compile(r"\b(ORDER BY|LIMIT|RETURNING|GROUP BY|UNION)\b")
COMPARISON = re.compile(r"<=|>=|!=|<|>|=")
UNTOUCHED = {
    "connect",
    "close",
    "sibling",
    "shard",
    "_current",
    "_run",
    "examine",
    "Verbs.__init__",
    "SqliteStore.__init__",
}
"""Functions that are about the object and its thread, not about a step."""


def edits(source: str) -> Iterator[Edit]:
    """Every edit of a module, in no order."""
    yield from _Finder(source).found()


class _Finder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def found(self) -> Iterator[Edit]:
        yield from self._walk(ast.parse(self.source))

    def _walk(self, node: ast.AST, owner: str = "") -> Iterator[Edit]:
        if isinstance(node, ast.ClassDef):
            owner = node.name
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and {node.name, f"{owner}.{node.name}"} & UNTOUCHED:  # type: ignore[attr-defined]
            return
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            yield from self._sql(node)
            return
        yield from self._guards(node)
        yield from self._dropped(node)
        for child in ast.iter_child_nodes(node):
            yield from self._walk(child, owner)

    def _guards(self, node: ast.AST) -> Iterator[Edit]:
        if isinstance(node, ast.If | ast.IfExp):
            yield from self._constants(node.test)
        if isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield from self._constants(test)
        if isinstance(node, ast.BoolOp):
            for k, value in enumerate(node.values):
                before, after = node.values[k - 1], node.values[(k + 1) % len(node.values)]
                if k:
                    yield Edit(self._outer(before)[1], self._outer(value)[1], "")
                else:
                    yield Edit(self._outer(value)[0], self._outer(after)[0], "")
        if isinstance(node, ast.Compare):
            left = node.left
            for op, right in zip(node.ops, node.comparators, strict=True):
                for flipped in FLIPS.get(type(op), ()):
                    start, end = self._outer(left)[1], self._outer(right)[0]
                    yield Edit(start, end, f" {flipped} ")
                left = right

    def _constants(self, test: ast.expr) -> Iterator[Edit]:
        start, end = self._outer(test)
        for constant in ("True", "False"):
            yield Edit(start, end, constant)

    def _dropped(self, node: ast.AST) -> Iterator[Edit]:
        """Calls that stand alone, and what is set in the shard's row or in an answer."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield Edit(*self._span(node), "pass")
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            yield Edit(*self._span(node), "pass")
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            if all(isinstance(part, ast.Attribute) for part in parts):
                yield Edit(*self._span(node), "pass")
        if isinstance(node, ast.Delete):
            yield Edit(*self._span(node), "pass")

    # --- SQL ---------------------------------------------------------------------------------------------------------

    def _sql(self, node: ast.JoinedStr | ast.Constant) -> Iterator[Edit]:
        """A string that is SQL is read as one text, with its fields in braces, and written anew in one literal."""
        if isinstance(node, ast.Constant):
            prefix, text = "", str(node.value)
        else:
            prefix = "f"
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{" + self._segment(part) + "}"
                for part in node.values
            )
        if IS_SQL.match(text) and '"' not in text and "\\" not in text:
            for mutated in sql_mutants(text):
                yield Edit(*self._span(node), f'{prefix}"{mutated}"')

    def _segment(self, part: ast.expr) -> str:
        assert isinstance(part, ast.FormattedValue)
        return ast.unparse(part.value).replace('"', "'")

    # --- places ------------------------------------------------------------------------------------------------------

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._at(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self._at(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def _at(self, line: int, byte: int) -> int:
        start = self.starts[line - 1]
        text = self.source[start : self.starts[line]]
        return start + len(text.encode()[:byte].decode())

    def _outer(self, node: ast.AST) -> tuple[int, int]:
        """With the brackets around it, which are not part of its node."""
        start, end = self._span(node)
        while True:
            before = self.source[:start].rstrip()
            after = self.source[end:].lstrip()
            is_call = len(before) > 1 and (before[-2].isalnum() or before[-2] in "_)]")
            if not before.endswith("(") or not after.startswith(")") or is_call:
                return start, end
            start, end = len(before) - 1, len(self.source) - len(after) + 1


def sql_mutants(text: str) -> Iterator[str]:
    """A statement (or a clause to be put into one) changed in each way."""
    if text.lstrip().startswith("AND"):
        clause = text.strip().removeprefix("AND").strip()
        yield text.replace(clause, f"({clause} OR 1)")
        yield from _flipped(text, 0, len(text))
        return
    for where in WHERE.finditer(text):
        start, end = where.end(), _end_of_clause(text, where.end())
        yield text[:start] + "0 AND " + text[start:]
        yield from _flipped(text, start, end)
        yield from _without(text, start, end)
    join = re.search(r"\bON (.*?) WHERE", text)
    if join:
        yield from _flipped(text, join.start(1), join.end(1))
        yield from _without(text, join.start(1), join.end(1))


def _flipped(text: str, start: int, end: int) -> Iterator[str]:
    depth = 0
    for at in range(start, end):
        depth += (text[at] == "{") - (text[at] == "}")
        match = COMPARISON.match(text, at, end)
        if depth == 0 and match and not COMPARISON.match(text, at - 1, at + 1):
            for flipped in SQL_FLIPS[match[0]]:
                yield text[:at] + flipped + text[match.end() :]


def _without(text: str, start: int, end: int) -> Iterator[str]:
    """Each clause of AND made true, each alternative of OR made false; brackets are looked into."""
    for word, neutral in (("AND", "OR 1"), ("OR", "AND 0")):
        spans = _split(text, start, end, word)
        if word == "OR" and len(spans) == 1:
            continue
        for first, last in spans:
            clause = text[first:last].strip()
            if re.fullmatch(r"[\w.]*", clause):  # goes on in another string
                continue
            if "SELECT" not in clause:
                yield f"{text[:first]}({clause} {neutral}) {text[last:].lstrip()}".replace(") )", "))")
            if clause.startswith("(") and " OR " in clause:
                inner = text.index("(", first)
                yield from _without(text, inner + 1, text.rindex(")", inner, last))


def _split(text: str, start: int, end: int, word: str) -> list[tuple[int, int]]:
    spans, depth, first = [], 0, start
    for at in range(start, end):
        depth += (text[at] in "({") - (text[at] in ")}")
        if depth == 0 and re.match(rf"\b{word} ", text[at:end]) and not text[at - 1].isalnum():
            spans.append((first, at))
            first = at + len(word) + 1
    return [*spans, (first, end)]


def _end_of_clause(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] in "({") - (text[at] in ")}")
        if depth < 0 or (depth == 0 and BEHIND.match(text, at)):
            return at
    return len(text)

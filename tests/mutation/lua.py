"""Edits of Lua: guards that always or never hold, clauses dropped, comparisons flipped, statements dropped.

A lexer is enough, since the scripts are written plainly: an operand is skipped by its brackets, never understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.mutation.mutants import Edit

FLIPS = {"<": ("<=", ">="), "<=": ("<",), ">": (">=",), ">=": (">",), "==": ("~=",), "~=": ("==",)}
BINARY = {*FLIPS, "+", "-", "*", "/", "%", "^", ".."}
UNARY = {"not", "-", "#"}
OPENING, CLOSING = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
BEFORE_EXPRESSION = {"if", "elseif", "while", "return", "=", "(", ",", "{", "[", "and", "or", "in"}
TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)|(?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<number>\d+(?:\.\d+)?)|(?P<sign><=|>=|==|~=|\.\.|[-+*/%^#<>=(){}\[\],;:.])"""
)
READS = re.compile(r"redis\.(?:call\('(?:Z?H?M?GET|HMGET|Z?H?SCAN|ZRANGE|ZSCORE|ZCARD|EXISTS|HEXISTS|TIME)'|error)")
CALL = re.compile(r"^[ \t]*([A-Za-z_][\w.]*\(.*\))[ \t]*(?:--.*)?$", re.MULTILINE)


class Token(NamedTuple):
    """One word or sign; comments and spaces are none."""

    kind: str
    text: str
    start: int
    end: int


def tokens(source: str) -> list[Token]:
    """All of the source; raises ValueError on what the lexer does not know."""
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = TOKEN.match(source, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"not understood: {source[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup, match[0], match.start(), match.end()))
        at = match.end()
    return found


def edits(source: str) -> Iterator[Edit]:
    """Every edit of a script, in no order."""
    words = tokens(source)
    for i, word in enumerate(words):
        if word.text in ("if", "elseif") and word.kind == "name":
            j = next(k for k in range(i, len(words)) if words[k].text == "then")
            for constant in ("true", "false"):
                yield Edit(words[i + 1].start, words[j - 1].end, constant)
        if word.kind == "sign":
            for flipped in FLIPS.get(word.text, ()):
                yield Edit(word.start, word.end, flipped)
        if word.text in ("and", "or"):
            yield Edit(words[i - 1].end, words[_operand(words, i + 1) - 1].end, "")
        if word.text in BEFORE_EXPRESSION - {"and", "or"} and i + 1 < len(words):
            after = _operand(words, i + 1)
            if after < len(words) and words[after].text in ("and", "or"):
                yield Edit(words[i + 1].start, words[after + 1].start, "")
    for call in CALL.finditer(source):
        if not READS.match(call[1]) and _is_whole(call[1]):
            yield Edit(call.start(1), call.end(1), "")


def _operand(words: list[Token], i: int) -> int:
    """The index behind the operand of `and` and `or` that begins at i."""
    while i < len(words):
        while i < len(words) and words[i].text in UNARY:
            i += 1
        if i >= len(words) or words[i].text in CLOSING:
            return i
        i = _skip(words, i)
        while i < len(words) and (words[i].text in (".", ":") or words[i].text in ("(", "[")):
            i = i + 2 if words[i].text in (".", ":") else _skip(words, i)
        if i >= len(words) or words[i].text not in BINARY:
            return i
        i += 1
    return i


def _skip(words: list[Token], i: int) -> int:
    """The index behind the word or the bracket at i."""
    if words[i].text not in OPENING:
        return i + 1
    depth = 0
    for k in range(i, len(words)):
        depth += (words[k].text in OPENING) - (words[k].text in CLOSING)
        if depth == 0:
            return k + 1
    return len(words)


def _is_whole(call: str) -> bool:
    """Whether the text is one call, and its brackets close at its end."""
    words = tokens(call)
    first = next(k for k, word in enumerate(words) if word.text == "(")
    return words[0].text != "function" and _skip(words, first) == len(words)

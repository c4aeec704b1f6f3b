"""The mutator changes what it says, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation import lua, sqlite
from tests.mutation.lua import tokens
from tests.mutation.mutants import SQLITE, SQLITE_MODULES, applied, mutants_of, paths
from tests.mutation.run import Verdict as Outcome
from tests.mutation.run import earlier, explanations, key, row

ROOT = Path(__file__).parents[2]


def lua_texts(source: str) -> list[str]:
    return [mutant.text.partition(" (was")[0] for mutant in applied("x.lua", source, lua.edits(source))]


def python_texts(source: str) -> list[str]:
    return [mutant.text.partition(" (was")[0] for mutant in applied("x.py", source, sqlite.edits(source))]


def sql(text: str) -> set[str]:
    return set(sqlite.sql_mutants(text))


# --- Lua -------------------------------------------------------------------------------------------------------------


def test_a_guard_always_and_never_holds_and_loses_each_clause() -> None:
    assert set(lua_texts("if a and f(b, c) or not d then\n  x = 1\nend\n")) == {
        "if true then",
        "if false then",
        "if f(b, c) or not d then",
        "if a or not d then",
        "if a and f(b, c) then",
    }


def test_an_elseif_is_a_guard_too() -> None:
    assert {"elseif true then", "elseif false then"} <= set(lua_texts("if a then\nelseif b then\nend\n"))


@pytest.mark.parametrize(
    ("sign", "flipped"),
    [("<", {"<=", ">="}), ("<=", {"<"}), (">", {">="}), (">=", {">"}), ("==", {"~="}), ("~=", {"=="})],
)
def test_comparisons_are_flipped(sign: str, flipped: set[str]) -> None:
    assert set(lua_texts(f"x = a {sign} b\n")) == {f"x = a {other} b" for other in flipped}


def test_a_clause_ends_where_its_operand_does() -> None:
    assert "x = (a) + 1" in lua_texts("x = (a or #b.c[1] * 2) + 1\n")
    assert "f(a, c)" in lua_texts("f(a or 0, c)\n")
    assert set(lua_texts("x = a or {}\ny = 1\n")) == {"x = a", "x = {}"}


def test_a_call_that_stands_alone_is_dropped_and_one_that_only_reads_is_not() -> None:
    assert lua_texts("redis.call('HSET', a, b) -- why\n") == ["without: redis.call('HSET', a, b)"]
    assert lua_texts("  leave_token()\n") == ["without: leave_token()"]
    assert lua_texts("local x = redis.call('HSET', a, b)\n") == []
    assert lua_texts("return redis.error_reply('x')\n") == []


def test_comments_and_strings_are_left_alone() -> None:
    assert lua_texts("-- if a < b then\nlocal x = 'a < b and c' -- or d\n") == []


def test_what_the_lexer_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="not understood"):
        tokens("x = [[long string]] ~ @")


# --- Python ----------------------------------------------------------------------------------------------------------


def test_python_guards_clauses_and_comparisons_are_mutated() -> None:
    source = "if a and (b < c or d is None):\n    x = 1 if e else 2\n"
    assert set(python_texts(source)) == {
        "if True:",
        "if False:",
        "if (b < c or d is None):",
        "if a:",
        "if a and (d is None):",
        "if a and (b < c):",
        "if a and (b <= c or d is None):",
        "if a and (b >= c or d is None):",
        "if a and (b < c or d is not None):",
        "x = 1 if True else 2",
        "x = 1 if False else 2",
    }


def test_python_statements_that_write_are_dropped() -> None:
    source = "def f(room):\n    room.do(1)\n    room.x += 1\n    room.y, room.z = 1, 2\n    x = 3\n    del room.a[1]\n"
    assert python_texts(source) == [
        "without: room.do(1)",
        "without: room.x += 1",
        "without: room.y, room.z = 1, 2",
        "without: del room.a[1]",
    ]


def test_functions_about_the_object_itself_are_left_alone() -> None:
    assert python_texts("class SqliteStore:\n    async def close(self):\n        self.x = 1\n") == []


def test_sql_is_read_as_one_text_with_its_fields() -> None:
    source = 'x = room.all(f"SELECT {C} FROM jobs WHERE shard=? "\n             "AND id {IN} ORDER BY at", 1)\n'
    (never,) = (text for text in python_texts(source) if "WHERE 0" in text)
    assert never == 'x = room.all(f"SELECT {C} FROM jobs WHERE 0 AND shard=? AND id {IN} ORDER BY at", 1)'


# --- SQL -------------------------------------------------------------------------------------------------------------


def test_each_clause_of_a_where_holds_always_once() -> None:
    assert sql("DELETE FROM a WHERE b = ? AND c < ? RETURNING d") == {
        "DELETE FROM a WHERE 0 AND b = ? AND c < ? RETURNING d",
        "DELETE FROM a WHERE b != ? AND c < ? RETURNING d",
        "DELETE FROM a WHERE b = ? AND c <= ? RETURNING d",
        "DELETE FROM a WHERE b = ? AND c >= ? RETURNING d",
        "DELETE FROM a WHERE (b = ? OR 1) AND c < ? RETURNING d",
        "DELETE FROM a WHERE b = ? AND (c < ? OR 1) RETURNING d",
    }


def test_each_alternative_in_brackets_holds_never_once() -> None:
    found = sql("DELETE FROM a WHERE b=? AND (c=? OR d<=?)")
    assert "DELETE FROM a WHERE b=? AND ((c=? AND 0) OR d<=?)" in found
    assert "DELETE FROM a WHERE b=? AND (c=? OR (d<=? AND 0))" in found


def test_what_is_set_is_no_clause() -> None:
    assert sql("UPDATE a SET b=?, c=?") == set()


def test_a_clause_to_be_put_into_a_statement_is_mutated() -> None:
    assert sql("AND at <= ?") == {"AND (at <= ? OR 1)", "AND at < ?"}


# --- the product, the program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", paths(ROOT), ids=lambda path: path.name)
def test_every_file_has_mutants_that_differ_and_can_be_read(path: Path) -> None:
    found = mutants_of(ROOT, path)
    source = (ROOT / path).read_text()
    assert len({mutant.source for mutant in found} | {source}) == len(found) + 1
    for mutant in found:
        if path.suffix == ".py":
            ast.parse(mutant.source)
        else:
            tokens(mutant.source)


def test_every_explanation_speaks_of_a_mutant_that_there_is() -> None:
    there = {key(mutant) for path in paths(ROOT) for mutant in mutants_of(ROOT, path)}
    assert [known for known in explanations() if known not in there] == []


def test_an_earlier_run_is_read_from_what_it_wrote(tmp_path: Path) -> None:
    path = Path("src/duly/stores/redis/lua/put.lua")
    one, two = mutants_of(ROOT, path)[:2]
    log = tmp_path / "log"
    log.write_text(row(Outcome(one, None)) + "\n" + row(Outcome(two, "test_x")) + "\ntotals\n")
    assert earlier(log) == {key(one), key(two)}
    assert earlier(log, " | SURVIVED") == {key(one)}


def test_a_module_is_loaded_anew_after_those_that_it_imports() -> None:
    """Else it would go on calling them as they were before the change."""
    for place, name in enumerate(SQLITE_MODULES):
        tree = ast.parse((ROOT / SQLITE / f"{name}.py").read_text())
        sources = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        imported = {source.rpartition(".")[2] for source in sources if ".sqlite." in source}
        assert imported & set(SQLITE_MODULES) <= set(SQLITE_MODULES[:place]), name

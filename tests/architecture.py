"""Checks that the code keeps the layout and the direction that DESIGN fixes; reads the source, imports nothing of it.

Each rule is a function from the whole source to sentences, one for each place that breaks it. Budgets (length of
functions and files, arguments of constructors) are alarms: `# architecture: <reason>` answers them, in the head of
the function, on the class line for its constructor, or in the first five lines of the file. The other rules have no
override.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "duly"

# Lowest first. A module may import its own layer and those below; duly/__init__.py may import anything.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "clock", "config", "identity", "version"}),
    frozenset({"core"}),
    frozenset({"stores"}),
    frozenset({"runtime", "cluster"}),
    frozenset(
        {"scheduler", "task", "locks", "schedules", "handle", "sending", "declaring", "recurring", "reconciler", "sync"}
        | {"views", "monitor", "checks"}
    ),
    frozenset({"cli", "dashboard", "contrib", "testing", "__main__"}),
)
EDGE = len(LAYERS) - 1
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# What core must not import: it neither waits, nor asks the outside, nor the clock, nor chance.
IMPURE = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "select", "selectors", "signal", "threading", "uvloop"),
    *("ftplib", "http", "smtplib", "socket", "ssl", "urllib", "redis", "hiredis", "sqlite3"),
    *("glob", "io", "os", "pathlib", "shutil", "subprocess", "sys", "tempfile"),
    *("logging", "random", "secrets", "time", "duly.clock"),
}
CHANCE = frozenset({"uuid.uuid1", "uuid.uuid4"})
CLOCKS = frozenset(
    {f"time.{name}{ns}" for name in ("time", "monotonic", "perf_counter", "process_time") for ns in ("", "_ns")}
    | {"time.localtime", "time.gmtime", "time.clock_gettime"}
    | {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"}
)

MAX_FUNCTION, MAX_FILE, MAX_ARGUMENTS = 50, 400, 7
OVERRIDE = re.compile(r"#\s*architecture:\s*\S")
LUA_HEADER = ("KEYS", "ARGV", "Returns")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file of the package."""

    path: str  # inside the package, with slashes: "core/job.py"
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def name(self) -> str:
        """As it is imported: "duly.core.job"."""
        inside = self.path.removesuffix(".py").removesuffix("__init__").rstrip("/").replace("/", ".")
        return f"{PACKAGE}.{inside}" if inside else PACKAGE

    @property
    def part(self) -> str:
        """What decides its layer: "core" of "duly.core.job", "" of duly/__init__.py itself."""
        return part_of(self.name)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


class Source:
    """All files of the package by their path inside it; the Python ones as modules."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.modules = [Module(path, text) for path, text in sorted(files.items()) if path.endswith(".py")]
        self.names = frozenset(module.name for module in self.modules)

    @classmethod
    def read(cls, root: Path) -> Source:
        paths = [path for path in root.rglob("*") if path.suffix in (".py", ".lua")]
        return cls({path.relative_to(root).as_posix(): path.read_text() for path in paths})


Rule = Callable[[Source], Iterator[str]]


def check(source: Source, *rules: Rule) -> list[str]:
    """Every complaint of these rules (of all, if none is named)."""
    return [complaint for rule in rules or RULES for complaint in rule(source)]


# --- the rules -------------------------------------------------------------------------------------------------------


def imports_go_down(source: Source) -> Iterator[str]:
    """No module imports a higher layer, neither inside a function nor for its types alone."""
    for module in source.modules:
        if module.name == PACKAGE:
            continue
        mine = RANK.get(module.part)
        if mine is None:
            yield f"{module.path}: {module.part!r} has no layer: give it one in tests/architecture.py, LAYERS"
            continue
        for node in ast.walk(module.tree):
            for target in imported(module, node):
                if is_inside(target) and (theirs := rank_of(source, target)) is not None and theirs > mine:
                    yield f"{module.at(node)}: imports {target}, which stands above {module.part}"


def no_import_cycle(source: Source) -> Iterator[str]:
    """Modules can be loaded in some order: what counts are the imports that run when a module is loaded."""
    graph: dict[str, set[str]] = {}
    for module in source.modules:
        targets = (target for node in at_import_time(module.tree.body) for target in imported(module, node))
        graph[module.name] = {known for target in targets if (known := nearest(source, target))} - {module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"import cycle: {' <- '.join(error.args[1])}"


def core_is_pure(source: Source) -> Iterator[str]:
    """Core decides and does not wait: no coroutine, no I/O, no clock, no chance, no logging."""
    for module in source.modules:
        if module.part != "core":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield f"{module.at(node)}: core has no async code"
            for target in imported(module, node):
                parents = {".".join(target.split(".")[: i + 1]) for i in range(target.count(".") + 1)}
                if impure := sorted(parents & IMPURE):
                    yield f"{module.at(node)}: core imports {impure[0]}"
        for node, name in references(module):
            if name in CHANCE:
                yield f"{module.at(node)}: core uses chance: {name}"


def only_clock_reads_clocks(source: Source) -> Iterator[str]:
    """Whoever needs the time gets it as an argument or asks a Clock: naming such a function is enough to be found."""
    for module in source.modules:
        if module.path == "clock.py":
            continue
        for node, name in references(module):
            owner, _, attribute = name.rpartition(".")
            if name in CLOCKS or (attribute == "time" and re.search(r"loop(\(\))?$", owner)):
                yield f"{module.at(node)}: reads a clock: {name}; only clock.py may"


def functions_are_short(source: Source) -> Iterator[str]:
    """At most MAX_FUNCTION lines, the docstring not counted."""
    for module in source.modules:
        for _, function in functions(module.tree):
            size = 1 + (function.end_lineno or 0) - function.lineno - docstring_lines(function)
            if size > MAX_FUNCTION and not overridden(module, function):
                yield f"{module.at(function)}: {function.name} has {size} lines (at most {MAX_FUNCTION})"


def files_are_short(source: Source) -> Iterator[str]:
    """At most MAX_FILE lines."""
    for module in source.modules:
        size = len(module.lines)
        if size > MAX_FILE and not any(OVERRIDE.search(line) for line in module.lines[:5]):
            yield f"{module.path}: has {size} lines (at most {MAX_FILE})"


def constructors_are_narrow(source: Source) -> Iterator[str]:
    """At most MAX_ARGUMENTS named arguments of __init__, self not counted."""
    for module in source.modules:
        for owner, function in functions(module.tree):
            if owner is None or function.name != "__init__":
                continue
            arguments = function.args
            count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]) - 1
            if count > MAX_ARGUMENTS and not overridden(module, function) and not overridden(module, owner):
                yield f"{module.at(function)}: {owner.name} takes {count} arguments (at most {MAX_ARGUMENTS})"


def files_open_with_a_docstring(source: Source) -> Iterator[str]:
    """One sentence of responsibility stands at the top of each file."""
    for module in source.modules:
        if not (ast.get_docstring(module.tree) or "").strip():
            yield f"{module.path}: opens without a docstring"


def scripts_have_headers(source: Source) -> Iterator[str]:
    """The comment that opens a script has a line for each of KEYS, ARGV and Returns."""
    for path, text in sorted(source.files.items()):
        if not re.fullmatch(r"stores/redis/lua/[^/]+\.lua", path):
            continue
        header = re.match(r"(\s*--.*(\n|$))*", text)
        opening = header.group() if header else ""
        for word in LUA_HEADER:
            if not re.search(rf"^\s*--\s*{word}\b", opening, re.MULTILINE):
                yield f"{path}: its header has no line that begins with `-- {word}`"


RULES: tuple[Rule, ...] = (
    imports_go_down,
    no_import_cycle,
    core_is_pure,
    only_clock_reads_clocks,
    functions_are_short,
    files_are_short,
    constructors_are_narrow,
    files_open_with_a_docstring,
    scripts_have_headers,
)


# --- reading source --------------------------------------------------------------------------------------------------


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def is_inside(target: str) -> bool:
    return target == PACKAGE or target.startswith(f"{PACKAGE}.")


def nearest(source: Source, target: str) -> str | None:
    """The module of ours that holds this name, or None: "duly.core.job" for "duly.core.job.Job"."""
    while target and target not in source.names:
        target = target.rpartition(".")[0]
    return target or None


def rank_of(source: Source, target: str) -> int | None:
    """The layer of an imported name of ours; what duly/__init__.py offers is for the edge and for applications."""
    part = part_of(target)
    if part in RANK:
        return RANK[part]
    return EDGE if nearest(source, target) in (PACKAGE, None) else None


def imported(module: Module, node: ast.AST) -> Iterator[str]:
    """The full names a statement imports, relative ones made absolute; nothing for other statements."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            up = node.level - module.is_package
            parents = module.name.split(".")
            base = ".".join([*parents[: len(parents) - up], *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is loaded: not those of functions, not those for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import_time(node.orelse)
        elif not isinstance(node, Function):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    yield from at_import_time([child])
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from at_import_time(child.body)


def references(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every dotted name that is read, with its first part spelled out as it was imported."""
    meaning: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            meaning |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names = list(imported(module, node))
            meaning |= {alias.asname or alias.name: name for alias, name in zip(node.names, names, strict=True)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, dot, rest = ast.unparse(node).partition(".")
            yield node, meaning.get(head, head) + dot + rest


def functions(tree: ast.AST, owner: ast.ClassDef | None = None) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    """Every function with the class it stands in directly, if any."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield owner, node
            yield from functions(node)
        else:
            yield from functions(node, node if isinstance(node, ast.ClassDef) else owner)


def docstring_lines(node: Function) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return 1 + (node.body[0].end_lineno or 0) - node.body[0].lineno


def overridden(module: Module, node: Function | ast.ClassDef) -> bool:
    """Whether a reason stands in its head: from `def` or `class` up to the first statement of the body."""
    head = module.lines[node.lineno - 1 : max(node.lineno, node.body[0].lineno - 1)]
    return any(OVERRIDE.search(line) for line in head)

"""What people and programs see: tables that fit the terminal, records, one JSON document, progress bars.

What is shown comes from elsewhere (ids, reasons and arguments are whatever somebody pushed), so nothing of it is taken
for markup, and control characters are written out: a reason cannot move the cursor or colour the terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from duly.views.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP = 2
UNBOUNDED = 100_000
"""The width where there is no terminal to fit: nothing is dropped or folded for a pipe."""
TEXT_LEAST, ID_LEAST, ID_WHOLE = 12, 16, 44
"""What a column of running text keeps before others are dropped for it, and one of ids: longer ones are folded, those
that are not longer than ID_WHOLE only if nothing else can go."""
NARROWEST = 8
TEXT_MOST = 200
LONG = 2_000
"""Characters of one value that a record shows."""
STYLES = {"dead": "red", "✗": "red", "!": "yellow", "paused": "yellow", "leased": "green", "✓": "green"}
"""How a cell of this text looks, where there are colours."""


class Column(NamedTuple):
    """One column. cell: from a row to its text.

    rank: 0 stays at any width; of the others the highest goes first. kind: `plain` is never cut, an `id` is folded if it
    must be, a `text` ends in an ellipsis.
    """

    title: str
    cell: Callable[[Any], object]
    rank: int = 0
    kind: str = "plain"
    right: bool = False


def as_json(value: Any) -> str:
    """One JSON document. Bytes as base64, what JSON has no form for as its text."""
    try:
        packed = msgspec.json.encode(value, enc_hook=str)
    except (TypeError, ValueError):  # a mapping whose keys are no text: msgpack allows it
        packed = msgspec.json.encode(_with_text_keys(value), enc_hook=str)
    return msgspec.json.format(packed, indent=2).decode()


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _with_text_keys({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _with_text_keys(v) for key, v in value.items()}
    return [_with_text_keys(v) for v in value] if isinstance(value, list | tuple) else value


def show_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(as_json(value))


def show_table(rows: Sequence[Any], columns: Sequence[Column], empty: str = "nothing", note: str = "") -> None:
    """Print a table that fits; `empty` if there are no rows. Columns that did not fit are named below it."""
    if not rows:
        click.echo(empty)
        return
    console = _console()
    cells = {column: [_cell(column, row) for row in rows] for column in columns}
    shown, widths = _fit(columns, cells, console.width)
    _print(console, _table(shown, widths, cells, len(rows)))
    hidden = [column.title for column in columns if column not in shown and any(cells[column])]
    if hidden:
        said = f"not shown at this width: {', '.join(hidden)} (--json has everything)"
        click.echo(f"\n{click.wrap_text(said, console.width)}")
    if note:
        click.echo(f"\n{note}")


def show_record(fields: Sequence[tuple[str, object]]) -> None:
    """Print one thing, a line per field; fields without a value are left out. A value of several lines keeps them."""
    from rich.table import Table
    from rich.text import Text

    console, table = _console(), Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in fields:
        text = printable(value, lines=True).rstrip()
        if text:
            more = f"… ({len(text):,} characters; --json has them all)" if len(text) > LONG else ""
            table.add_row(
                Text(printable(name), style=STYLES.get(name, "bold")),
                Text(text[:LONG] + more, style=STYLES.get(text, "")),
            )
    _print(console, table)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII gets all it can show
    width = None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else UNBOUNDED
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _print(console: Console, table: Table) -> None:
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=console.is_terminal)


def _cell(column: Column, row: Any) -> str:
    text = printable(column.cell(row))
    return text[: TEXT_MOST - 1] + "…" if column.kind == "text" and len(text) > TEXT_MOST else text


def _fit(
    columns: Sequence[Column], cells: Mapping[Column, Sequence[str]], width: int
) -> tuple[list[Column], dict[Column, int]]:
    """The columns that fit, and how wide each is."""
    from rich.cells import cell_len

    natural = {c: max(cell_len(text) for text in (c.title, *cells[c])) for c in columns}
    least = {"plain": UNBOUNDED, "text": TEXT_LEAST}
    widths = {c: min(natural[c], least.get(c.kind, ID_LEAST if natural[c] > ID_WHOLE else ID_WHOLE)) for c in columns}
    shown = [c for c in columns if c.rank == 0 or any(cells[c])]  # an empty column says nothing

    def left() -> int:
        return width - sum(widths[c] for c in shown) - GAP * (len(shown) - 1)

    while left() < 0 and any(c.rank for c in shown):
        shown.remove(max(shown, key=lambda c: c.rank))
    # What is left over, or still too much, is for those that can be folded or cut; a long id waits for the others.
    for kind, most in (("id", max(ID_WHOLE, width // 3)), ("text", width), ("id", width)):
        for column in (c for c in shown if c.kind == kind):
            wanted = min(natural[column], max(widths[column], most), widths[column] + left())
            widths[column] = max(wanted, min(natural[column], NARROWEST))
    return shown, widths


def _table(
    columns: Sequence[Column], widths: Mapping[Column, int], cells: Mapping[Column, Sequence[str]], count: int
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        folds = column.kind == "id"
        table.add_column(
            column.title, width=widths[column], no_wrap=not folds, overflow="fold" if folds else "ellipsis",
            justify="right" if column.right else "left",
        )  # fmt: skip
    for i in range(count):
        texts = [cells[column][i] for column in columns]
        table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in texts))
    return table


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block works, if stderr is a terminal; the block calls what it gets with each step done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    parts = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=_console(stderr=True), transient=True) as bars:
        bar = bars.add_task(printable(what), total=total)
        yield lambda done: bars.advance(bar, done)

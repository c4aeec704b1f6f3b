"""The code in the documentation runs, and its commands are commands.

The Python blocks of a page are one program, run in their order over an empty SQLite file. Then its `main()` is called, if there
is one, beside a node; what it prints is what its comments say: `print(2 + 2)  # 4`. Functions named `test_…` are called, too.

Not run are blocks with a title (code of other systems), and those below `<!-- not run: why -->`. Pages that another test
follows are named here.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from opentelemetry import trace

from duly import Scheduler
from duly.cli import commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = {
    "tutorial.md": "tests/release/test_new_user.py",
    "README.md": "tests/release/test_new_user.py",
    "locks.md": "tests/test_locks.py",
    **{f"from-{system}.md": "tests/contrib/test_guides.py" for system in ("celery", "apscheduler", "rq", "arq")},
}
"""Pages whose blocks are followed by a test of their own."""
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>.*) -->\n)?^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
PRINTED = re.compile(r"^\s*print\(.*\)  # (?P<text>.+)$", re.MULTILINE)


def blocks(page: Path) -> Iterator[tuple[str, str, int, str | None]]:
    """(language and more, text, its first line, why it is not run) of each fenced block."""
    whole = page.read_text()
    for found in FENCE.finditer(whole):
        yield found["info"], found["text"], whole.count("\n", 0, found.start("text")) + 1, found["why"]


def program(page: Path) -> str:
    """The page's Python, each line on its own line of the page: a traceback leads there."""
    lines = [""] * (page.read_text().count("\n") + 1)
    for info, text, first, why in blocks(page):
        if info == "python" and why is None:
            lines[first - 1 : first - 1 + text.count("\n")] = text.splitlines()
    return "\n".join(lines).rstrip()


RUN = [page for page in PAGES if program(page) and page.name not in ELSEWHERE]


@pytest.fixture
def tracing_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider of traces that a page sets is the global one for that page alone: OpenTelemetry has no way back."""

    def set_tracer_provider(provider: trace.TracerProvider) -> None:
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    monkeypatch.setattr(trace, "set_tracer_provider", set_tracer_provider)


@pytest.mark.usefixtures("tracing_of_the_page")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DULY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DULY_POLL", "0.1")
    source = program(page)
    shown: dict[str, Any] = {"__name__": f"page_{page.stem}"}
    exec(compile(source, str(page), "exec"), shown)
    functions = {name: value for name, value in shown.items() if inspect.isfunction(value)}
    try:
        for name, function in functions.items():
            if name.startswith("test_"):
                finish(function)
        if "main" in functions and "scheduler" in shown:
            asyncio.run(beside_a_node(shown["scheduler"], functions["main"]))
    finally:
        for value in shown.values():
            if isinstance(value, Scheduler):
                value.sync.close()
    printed = capsys.readouterr().out.splitlines()
    if "main" in functions and "scheduler" in shown:
        said = [found["text"] for found in PRINTED.finditer(source)]
        assert [line for line in printed if line in said] == said, printed


def finish(function: Any) -> None:
    value = function()
    if inspect.iscoroutine(value):
        asyncio.run(value)


async def beside_a_node(scheduler: Scheduler, main: Any) -> None:
    """What `main` does, while a node runs what it pushes."""
    await scheduler.start()
    try:
        await (main() if inspect.iscoroutinefunction(main) else asyncio.to_thread(main))
    finally:
        await scheduler.stop(grace=0)


def test_what_is_not_run_says_why_and_is_python_all_the_same() -> None:
    for page in PAGES:
        for info, text, first, why in blocks(page):
            if info == "python" and why is not None:
                assert len(why) > 5, f"{page.name}:{first}: say why this block is not run"
                ast.parse(text, f"{page.name}:{first}", feature_version=(3, 11))
            assert info.split(" ")[0] not in ("py", "python3", "Python"), f"{page.name}:{first}: write ```python"
            if info.startswith("python "):
                assert info.startswith('python title="with '), f"{page.name}:{first}: duly's own code has no title"


def test_pages_of_other_tests_are_named_in_them() -> None:
    for page, test in ELSEWHERE.items():
        source = (ROOT / test).read_text()
        assert page in source or page.split("-")[0] in source, f"{test} does not speak of {page}"


# --- commands --------------------------------------------------------------------------------------------------------


def lines_of_commands() -> Iterator[tuple[str, str]]:
    """(place, command) of every `duly …` in a block that is no Python."""
    for page in PAGES:
        for info, text, first, _why in blocks(page):
            if info.startswith("python"):
                continue
            for number, line in enumerate(text.splitlines(), first):
                command = line.removeprefix("$ ")
                if command.startswith("duly ") and info != "text":
                    yield f"{page.name}:{number}", command


def test_the_commands_of_the_pages_are_commands() -> None:
    wrong = []
    for place, command in lines_of_commands():
        words = shlex.split(command, comments=True)[1:]
        words = words[: next((n for n, word in enumerate(words) if word in ("|", "<", ">", "&", "&&")), None)]
        try:
            with contextlib.suppress(click.exceptions.Exit):  # --version, --help
                parse(commands, "duly", words)
        except click.ClickException as error:
            wrong.append(f"{place}: {command}: {error.format_message()}")
    assert not wrong, "\n".join(wrong)


def parse(command: click.Command, name: str, words: list[str], parent: click.Context | None = None) -> None:
    """Read the words as the command line would, down to the last command, and call nothing."""
    context = command.make_context(name, list(words), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if rest:
            found, inner, inner_words = command.resolve_command(context, rest)
            assert inner is not None, found
            parse(inner, found or "", inner_words, context)


def test_pages_speak_of_enough_commands_for_this_to_mean_something() -> None:
    assert len(list(lines_of_commands())) > 30
    with pytest.raises(click.UsageError):
        parse(commands, "duly", ["jobs", "why", "--no-such-option"])

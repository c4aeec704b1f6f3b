"""`manage.py duly …`: the command line of duly, with the scheduler of the project."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError  # type: ignore[import-untyped]

from duly.contrib.commands import run_command
from duly.contrib.django.project import OUTSIDE

TARGET = f"{OUTSIDE}:scheduler"


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """All arguments are those of `duly`; nothing of Django's own options stands between."""

    help = "Runs jobs and looks at them: worker, push, jobs, schedules, queues … (see: duly --help)"

    def run_from_argv(self, argv: Sequence[str]) -> None:
        self._run(argv[2:], Path(argv[0]).name)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        self._run(["--help"], Path(prog_name).name)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_args: Any, **options: Any) -> None:
        """For `call_command("duly", "jobs", "list")`. Raises CommandError with the exit code, if that is not 0."""
        try:
            self._run(options["arguments"], "manage.py")
        except SystemExit as end:
            if end.code:
                raise CommandError(f"duly ended with exit code {end.code}", returncode=end.code) from None

    def _run(self, arguments: Sequence[str], program: str) -> None:
        folders = [
            sys.path[0] or str(Path.cwd()),
            os.environ.get("PYTHONPATH", ""),
        ]  # for processes that this one starts
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        run_command(arguments, TARGET, prog_name=f"{program} duly")

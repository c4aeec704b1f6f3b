"""Help, completion and the end of a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from duly.cli import COMMANDS
from tests.cli.conftest import ENVIRONMENT, Duly


def completed(words: str) -> list[str]:
    """What a TAB offers after `words`, as bash would ask for it."""
    environment = {
        **ENVIRONMENT, "_DULY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "duly"], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_subcommands_and_values_are_completed() -> None:
    assert completed("duly ") == list(COMMANDS)
    assert completed("duly sch") == ["schedules"]
    assert set(completed("duly jobs ")) == {"list", "show", "cancel", "delete", "retry", "why", "result"}
    assert completed("duly jobs list --state ") == ["leased", "pending", "dead", "all"]
    assert completed("duly completion ") == ["bash", "zsh", "fish"]
    assert "--all-dead" in completed("duly jobs retry --")
    assert completed("duly nosuch ") == list(COMMANDS)  # and no complaint


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(duly: Duly, shell: str) -> None:
    said = duly("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert f"_DULY_COMPLETE={shell}_complete" in said.out


def test_bash_takes_the_script(duly: Duly) -> None:
    script = duly("completion", "bash").out
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p duly"], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, "_duly_completion" in done.stdout) == (0, True), done.stderr


def test_the_help_says_what_exit_codes_mean_and_names_every_command(duly: Duly) -> None:
    out = duly("--help").out
    assert "0 done, 1 failed" in out
    assert "2 asked wrongly, 130 interrupted" in out
    assert "duly completion" in out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "..." not in out.partition("Commands:")[2]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(duly: Duly, name: str) -> None:
    said = duly(name, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: duly {name} ")


@pytest.mark.parametrize("group", ["jobs", "schedules", "queues"])
def test_a_misspelled_option_of_a_bare_group_is_one_line(duly: Duly, group: str) -> None:
    said = duly(group, "--jsno")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--json" in said.err


def test_a_reader_that_goes_away_is_no_fault() -> None:
    """`duly next … | head -1`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "duly", "next", "* * * * *", "-n", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert err == ""

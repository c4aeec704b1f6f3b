"""As a new user would: README.md and docs/tutorial.md are followed to the letter, in an empty folder, from the built wheel.

Every command is given to a shell as it is written, every Python block is saved under the name in its first line. What serves
for ever runs on, is waited for, and is killed at the end. Two things are not as a user has them: `pip install duly` takes the
wheel that was just built, and the address of the Redis server is that of the test's. All that was typed and answered is
printed, and kept in build/transcript.txt.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.nodes import until
from tests.release.building import ROOT, Distributions, alone, clean_environ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
TRANSCRIPT = ROOT / "build" / "transcript.txt"
SERVERS = ("duly worker",)
"""Commands that run until they are stopped."""
LASTING = ("cd ", ". ", "export ")
"""Commands that change the shell itself: given again to each new one."""
SECONDS = 180


class Terminal:
    """Somebody at a shell: what is typed, what came of it."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = self.at = folder
        self.text = ""
        self._lasting: list[str] = []
        self._servers: list[tuple[subprocess.Popen[bytes], Path]] = []
        programs = folder / "programs"  # python3 is the Python of this test, wherever else there is one
        programs.mkdir()
        (programs / "python3").symlink_to(Path(sys.executable).resolve())
        constraints = folder / "constraints.txt"
        constraints.write_text(f"duly == {wheel.name.split('-')[1]}\n")
        found = " ".join([str(wheel.parent), os.environ.get("PIP_FIND_LINKS", "")])
        path = os.pathsep.join([str(programs), *outside_of_environments()])
        self._env = clean_environ(PATH=path, COLUMNS="100", PYTHONUNBUFFERED="1")
        self._env |= {"PIP_CONSTRAINT": str(constraints), "PIP_FIND_LINKS": found, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def write(self, name: str, text: str) -> None:
        self._say(f"[{name} is written]\n")
        (self.at / name).write_text(text)

    def type(self, command: str) -> str:
        """Give it to the shell; what it prints. It must succeed."""
        if command.startswith(LASTING):
            self._lasting.append(command)
            if command.startswith("cd "):
                self.at /= command.removeprefix("cd ")
        done = subprocess.run(
            self._shell(command), cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
        self._say(f"$ {command}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str, *, nodes: int = 1) -> None:
        """Start it, wait until it serves."""
        log = self.folder / f"server-{len(self._servers)}.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                self._shell(f"exec {command}"), cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True,
            )  # fmt: skip
        self._servers.append((server, log))
        until(lambda: log.read_text().count(": namespace ") >= nodes or server.poll() is not None, 60, command)
        assert server.poll() is None, f"{command} ended:\n{log.read_text()}"
        self._say(f"$ {command}    [goes on in a terminal of its own]\n")

    def said(self, which: int) -> str:
        """What a server has printed so far."""
        return self._servers[which][1].read_text(errors="replace")

    def kill(self, which: int) -> None:
        """kill -9."""
        server = self._servers[which][0]
        os.killpg(server.pid, signal.SIGKILL)
        self._say(f"$ kill -9 {server.pid}")

    def close(self) -> None:
        """Kill what runs, and keep the transcript."""
        for server, log in self._servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            self._say(f"[{log.name}]\n{log.read_text(errors='replace')}")
        sys.stdout.write(self.text)

    def _shell(self, command: str) -> list[str]:
        return ["sh", "-c", " && ".join([*(line for line in self._lasting if line != command), command])]

    def _say(self, text: str) -> None:
        self.text += text if text.endswith("\n") else f"{text}\n"


def outside_of_environments() -> list[str]:
    """The folders of PATH in which no other duly is."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [folder for folder in folders if not (Path(folder) / "duly").exists()]


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def follow(terminal: Terminal, page: str, redis_url: str = "") -> dict[str, str]:
    """Do what the page says; what each command printed."""
    said: dict[str, str] = {}
    for language, text in blocks(page):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"a block of {page} does not say its file: {text[:40]}"
            terminal.write(name[1], text)
            continue
        assert language == "console", f"{page}: a block is neither python nor console: {text[:40]}"
        for line in text.splitlines():
            assert line.startswith("$ "), f"{page}: {line!r} is no command"
            command = line.removeprefix("$ ").replace("redis://localhost:6379/0", redis_url)
            if command.startswith(SERVERS):
                processes = re.search(r"--processes (\d+)", command)
                terminal.serve(command, nodes=int(processes[1]) if processes else 1)
            else:
                said[command] = terminal.type(command)
    return said


def is_of_this_tree(terminal: Terminal) -> None:
    """What pip took is the wheel that was built, and no other duly of this version."""
    installed = Path(terminal.type("python -c 'import duly.scheduler; print(duly.scheduler.__file__)'").strip())
    assert ROOT not in installed.parents
    assert installed.read_bytes() == (ROOT / "src" / "duly" / "scheduler.py").read_bytes()


@pytest.fixture
def terminal(built: Distributions, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, built.wheel)
    yield terminal
    terminal.close()
    TRANSCRIPT.parent.mkdir(exist_ok=True)
    with alone(TRANSCRIPT.parent, "transcript"):  # each test has its part, whichever comes first
        mark = f"=== {request.node.name} ===\n"
        parts = re.split(r"(?m)^(?==== )", TRANSCRIPT.read_text() if TRANSCRIPT.exists() else "")
        others = [part for part in parts if part and not part.startswith(mark)]
        TRANSCRIPT.write_text("".join(sorted([*others, mark + terminal.text])))


def test_the_readme_works_as_it_is_written(terminal: Terminal, built: Distributions) -> None:
    terminal.type("python3 -m venv .venv")
    terminal.type(". .venv/bin/activate")
    said = follow(terminal, "README.md")
    is_of_this_tree(terminal)
    assert "Everything went as promised" in said["duly demo"]
    assert terminal.type("duly --version").split()[-1] == built.version
    assert said["python orders.py"].splitlines() == ["receipt 42, attempt 1", "True"]
    assert "receipt 44, attempt 1" in said["duly push -s shop:scheduler send_receipt 44 --wait 10"]
    assert "reminder:42" in said["duly jobs list"]
    assert "it is due in" in said["duly jobs why reminder:42"]
    assert "sweep" in said["duly schedules list"]
    assert "remind:7" in said["duly schedules list"]
    assert "media" in said["duly queues"]


def test_the_tutorial_works_as_it_is_written(terminal: Terminal, redis_url: str) -> None:
    said = follow(terminal, "docs/tutorial.md", redis_url)
    is_of_this_tree(terminal)
    first, redis = terminal.said(0), terminal.said(1)
    assert "sqlite" in first
    assert "redis://" in redis
    for order in (42, 43, 45, 46):
        assert f"receipt for order {order}" in first.splitlines()
    assert "receipt for order 44" not in first
    until(lambda: terminal.said(0).count("swept") >= 3, 30, "three sweeps")
    assert "order 42: 9.99 paid at attempt 3" in said["duly push -s app:scheduler charge 42 9.99 --wait 30"]
    assert said["python push.py"].strip() == "order 45: 19.99 paid at attempt 3"
    assert "receipt:44" in said["duly jobs list"]
    assert "it is due in" in said["duly jobs why receipt:44"]
    assert "sweep" in said["duly schedules list"]

    # its fifth part is in words: a second worker, and a kill
    terminal.serve("duly worker app:scheduler")
    terminal.kill(1)
    before = terminal.said(2).count("swept")
    until(lambda: terminal.said(2).count("swept") >= before + 3, 30, "sweeps of the node that is left")

"""The watch for leaks sees leaks: each test here runs another test, which leaks or does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(tmp_path: Path, source: str, *options: str) -> tuple[int, str]:
    """Run one test file under the conftest of this suite; returns the exit code and the output."""
    (tmp_path / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-p", "no:randomly", "-p", "no:schemathesis"]  # the latter takes a second to import
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "--override-ini", f"pythonpath={ROOT}"]
    done = subprocess.run(
        [*command, *options, str(tmp_path / "test_inner.py")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
    )
    return done.returncode, done.stdout


def test_a_leaked_task_fails_the_test_and_is_named(tmp_path: Path) -> None:
    code, output = run(
        tmp_path,
        """
import asyncio
async def forgotten(): await asyncio.sleep(60)
async def test_it():
    test_it.task = asyncio.create_task(forgotten(), name="lost-one")
    await asyncio.sleep(0)
""",
    )
    assert code == 1
    assert "left 1 asyncio task(s) running" in output
    assert "lost-one: forgotten at" in output


def test_a_task_leaked_by_a_fixture_fails_the_test(tmp_path: Path) -> None:
    code, output = run(
        tmp_path,
        """
import asyncio, pytest
@pytest.fixture
async def resource():
    yield
    resource.task = asyncio.create_task(asyncio.sleep(60), name="after-the-end")
async def test_it(resource): pass
""",
    )
    assert code == 1
    assert "after-the-end" in output


def test_a_leaked_thread_fails_the_test_and_is_named(tmp_path: Path) -> None:
    code, output = run(
        tmp_path,
        """
import threading
def test_it(): threading.Thread(target=threading.Event().wait, args=(2.5,), name="lost-two").start()
""",
    )
    assert code == 1
    assert "left 1 thread(s) running: 'lost-two'" in output


def test_a_tidy_test_passes(tmp_path: Path) -> None:
    code, output = run(
        tmp_path,
        """
import asyncio, threading, time
from hypothesis import given, strategies as st
async def test_tasks_and_threads_of_the_loop():
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.to_thread(time.sleep, 0)
    task.cancel()
def test_a_daemon(): threading.Thread(target=threading.Event().wait, daemon=True).start()
@given(st.integers())
def test_a_property(number): assert number == number
@given(st.integers())
async def test_an_async_property(number): await asyncio.sleep(0)
""",
    )
    assert code == 0, output
    assert "4 passed" in output


TELL_MARKERS = """
def pytest_collection_finish(session):
    for item in session.items:
        print("MARKED", item.name, *sorted({mark.name for mark in item.iter_markers()} & {"server", "redis", "valkey"}))
"""


def test_markers_follow_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(TELL_MARKERS)
    source = "def test_it(store_url): pass\ndef test_other(): pass\ndef test_third(etcd_url): pass\n"
    _, output = run(tmp_path, source, "--collect-only", "-q")
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("MARKED")]
    assert {name: marks for name, *marks in lines} == {
        "test_it[memory]": [],
        "test_it[sqlite]": [],
        "test_it[redis]": ["redis", "server"],
        "test_it[valkey]": ["server", "valkey"],
        "test_other": [],
        "test_third": ["server"],
    }


def test_markers_are_there_when_tests_are_chosen(tmp_path: Path) -> None:
    source = "def test_it(redis_url): pass\ndef test_other(): pass\n"
    _, output = run(tmp_path, source, "--collect-only", "-q", "-m", "not redis")
    assert "1/2 tests collected" in output, output


def test_slow_tests_come_first(tmp_path: Path) -> None:
    source = "import pytest\ndef test_a(): pass\n@pytest.mark.slow\ndef test_b(): pass\ndef test_c(): pass\n"
    _, output = run(tmp_path, source, "--collect-only", "-q")
    names = [line.rpartition("::")[2] for line in output.splitlines() if "::" in line]
    assert names == ["test_b", "test_a", "test_c"], output


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    code, output = run(tmp_path, "import warnings\ndef test_it(): warnings.warn('careful')\n")
    assert code == 1
    assert "UserWarning: careful" in output

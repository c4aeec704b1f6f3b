"""A process that tries mutants: `python -m tests.mutation.worker STORE`, in a copy of the tree, with its src on PYTHONPATH.

pytest collects once, and what would be the run of the tests is a loop over requests instead, one JSON line each on stdin:
{path, source, first, phase}. For each the mutated file is written, and a forked child runs the tests on it, those named
by `first` before the others, until one fails. The scripts are read, and the SQLite modules loaded anew, in the child.
The answer is one JSON line {found, invalid}: the test that failed, or None; why the mutant is none.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.mutation.mutants import SQLITE_MODULES
from tests.servers import Server

ROOT = Path.cwd()
SUITES = (
    "TestJobs",
    "TestFaults",
    "TestCare",
    "TestSchedules",
    "TestCluster",
    "TestMoves",
    "TestEntries",
    "TestLimits",
    "TestRedis",  # of the pool's drivers
)
FILES = {
    "redis": (
        "tests/stores/test_redis.py",
        "tests/stores/test_redis_layout.py",
        "tests/stores/test_redis_repair.py",
        "tests/stores/test_redis_repair_entries.py",
        "tests/test_sequences.py",
        "tests/cluster/test_drivers.py",
    ),
    "sqlite": ("tests/stores/test_sqlite.py",),
}
LIMITS = "tests/stores/test_limits.py"
SEQUENCES = ("test_a_full_store_refuses_no_claim_start_renew_or_settle[redis]",)
"""Of tests/test_sequences.py: what no other test can see in the scripts."""
PATIENCE = {"quick": 60.0, "rest": 300.0}
"""Seconds for all tests of a phase: a mutant that takes longer hangs."""
TEST_SECONDS = 20
OVER, FAILED = b"=over\n", b"=failed\n"
"""The last words of a child."""


class Mutating:
    """The plugin that takes the place of pytest's loop."""

    def __init__(self, store: str, out: int) -> None:
        self.store, self.out = store, out
        self.server: Server | None = None
        self.report = -1  # in a child: where the name of the test goes

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        import duly

        assert Path(duly.__file__).is_relative_to(ROOT), f"the product under test is {duly.__file__}, not the copy"
        if self.store == "redis":
            self.server = Server("redis", ROOT / "server")
            self.server.start()
        self.answer({"ready": len(session.items)})
        for line in sys.stdin:
            self.answer(self.tried(session, json.loads(line)))
        if self.server is not None:
            self.server.kill()
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        if fixturedef.argname == "redis_server":  # ours, for all mutants
            fixturedef.cached_result = (self.server, fixturedef.cache_key(request), None)
            return self.server
        return None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.write(self.report, f"now {nodeid}\n".encode())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self.report, FAILED)
            os._exit(1)

    def answer(self, answer: dict[str, Any]) -> None:
        os.write(self.out, json.dumps(answer).encode() + b"\n")

    def tried(self, session: pytest.Session, request: dict[str, Any]) -> dict[str, Any]:
        path = ROOT / request["path"]
        original = path.read_text(encoding="utf-8")
        path.write_text(request["source"], encoding="utf-8")
        try:
            if invalid := self.invalid(path, request["source"]):
                return {"found": None, "invalid": invalid}
            return {"found": self.forked(session, request), "invalid": ""}
        finally:
            path.write_text(original, encoding="utf-8")

    def invalid(self, path: Path, source: str) -> str:
        """Why the file is no program, if it is none."""
        if path.suffix == ".py":
            try:
                compile(source, str(path), "exec")
            except SyntaxError as error:
                return str(error)
            return ""
        from duly.stores.redis import scripts

        scripts.script.cache_clear()
        assert self.server is not None
        with self.server.client() as client:
            for name in scripts.names() if path.parent.name == "parts" else [path.stem]:
                try:
                    client.script_load(scripts.script(name).text)
                except redis.ResponseError as error:
                    return str(error)
        scripts.script.cache_clear()
        return ""

    def forked(self, session: pytest.Session, request: dict[str, Any]) -> str | None:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()  # what it starts ends with it
            os.close(ours)
            self.report = theirs
            with contextlib.suppress(BaseException):
                self.run_tests(session, request)
                os.write(theirs, OVER)
                os._exit(0)
            os.write(theirs, b"now (loading)\n" + FAILED)
            os._exit(1)
        os.close(theirs)
        said, hung = self.heard(ours, PATIENCE[request["phase"]])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        self.mend()
        if said and said[-1] == OVER.decode().strip():
            return None
        names = [line.removeprefix("now ") for line in said if line.startswith("now ")]
        name = names[-1].rpartition("::")[2] if names else "(loading)"
        return (
            name if said and said[-1] == FAILED.decode().strip() else f"{name} (time-out)" if hung else f"{name} (died)"
        )

    def heard(self, pipe: int, seconds: float) -> tuple[list[str], bool]:
        """All that the child said, and whether it had to be stopped."""
        text, until = b"", time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([pipe], [], [], left)[0]:
                break
            more = os.read(pipe, 65536)
            if not more:
                return text.decode().split("\n")[:-1], False
            text += more
            if text.endswith((OVER, FAILED)):
                return text.decode().split("\n")[:-1], False
        return text.decode().split("\n")[:-1], True

    def mend(self) -> None:
        """A script that never ends keeps the server busy: it gets a new one."""
        if self.server is None:
            return
        try:
            with self.server.client(socket_timeout=1) as client:
                client.script_flush()
                client.ping()
        except Exception:
            self.server.kill()
            self.server.start()

    def run_tests(self, session: pytest.Session, request: dict[str, Any]) -> None:
        module = session.items[0].module  # type: ignore[attr-defined]
        if self.store == "redis":
            from duly.stores.redis import scripts

            scripts.script.cache_clear()
        else:
            file = sys.modules["duly.stores.sqlite.file"]
            file.SYNCHRONOUS = ("off",)  # type: ignore[attr-defined]  # the disk is not what is tested
            for name in SQLITE_MODULES:
                loaded = importlib.reload(sys.modules[f"duly.stores.sqlite.{name}"])
            module.SqliteStore = loaded.SqliteStore
        model_once()
        items = self.chosen(session.items, request)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def chosen(self, items: list[pytest.Item], request: dict[str, Any]) -> list[pytest.Item]:
        """The conformance suites are quick; the rest of the files, the model last, is tried on what survives them."""
        others = {"memory", "sqlite", "redis"} - {self.store}
        items = [item for item in items if not any(f"[{other}" in item.name for other in others)]
        quick = [item for item in items if item.cls is not None and item.cls.__name__ in SUITES]  # type: ignore[attr-defined]
        if request["phase"] == "rest":
            rest = [
                item for item in items if item not in quick and "process" not in item.name
            ]  # others run the product
            rest = [item for item in rest if "test_sequences" not in item.nodeid or item.name in SEQUENCES]
            return sorted(rest, key=lambda item: (item.name not in request["first"], "as_memory_does" in item.name))
        place = {name: k for k, name in enumerate(request["first"])}
        return sorted(quick, key=lambda item: place.get(item.name, len(place)))


def model_once() -> None:
    """The model test says only whether there is a difference, and the same each time: nothing is shrunk or kept."""
    import hypothesis

    from duly.testing.conformance import model

    model.DEFAULT_SETTINGS = hypothesis.settings(
        model.DEFAULT_SETTINGS,
        phases=[hypothesis.Phase.generate],
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
    )


def main() -> None:
    store = sys.argv[1]
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # pytest and the tests write there
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--capture=no", f"--timeout={TEST_SECONDS}"]
    options += [f"--basetemp={ROOT / 'made'}", "-m", "not valkey", "-k", "not TestEtcd and not TestLocal"]
    files = [file for file in (*FILES[store], LIMITS) if (ROOT / file).exists()]
    sys.exit(pytest.main([*options, *files], plugins=[Mutating(store, out)]))


if __name__ == "__main__":
    main()

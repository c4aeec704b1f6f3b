"""What a measurement needs: a Redis of its own, workers in sessions of their own, pushers, and the ledger between them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from environments import HERE, Peer
from ledger import Ledger

JOBS = 1_100_000
"""The most jobs that one measurement numbers."""
TICKS = os.sysconf("SC_CLK_TCK")


class Stuck(Exception):
    """A peer did not do in time what was asked of it."""


class Session:
    """A worker with all its processes: those of its session, and their children, which may have sessions of their own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def pids(self) -> list[int]:
        """Of all that live."""
        parents, found = {}, []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if state != "Z":
                    pid = int(path.parent.name)
                    parents[pid] = int(parent)
                    if int(session) == self._process.pid:
                        found.append(pid)
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid and child not in found]
        return found

    def cpu(self) -> float:
        """Seconds of CPU they have used."""
        used = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                used += int(fields[11]) + int(fields[12])
        return used / TICKS

    def megabytes(self) -> float:
        """Memory they take, what they share counted once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    def kill(self) -> None:
        """All at once, with SIGKILL: what a machine does that loses its power."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """By SIGTERM, and within five seconds by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        until = time.monotonic() + 5
        while time.monotonic() < until and self.pids():
            self._process.poll()
            time.sleep(0.02)
        self.kill()


class Lab:
    """One Redis, one ledger, and the processes of one peer at a time."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.folder = port, folder
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port)
        self.ledger = Ledger(folder / "ledger", JOBS)
        self._offers: dict[str, dict[str, bool]] = {}

    def fresh(self) -> None:
        """Nothing in the store, nothing in the ledger."""
        self.client.flushall()
        self.client.config_resetstat()
        self.ledger.clear()

    def _environment(self, url: str | None, slots: int, processes: int, kind: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return inherited | {
            "PYTHONPATH": str(HERE), "BENCH_URL": url or self.url, "BENCH_LEDGER": str(self.ledger.path),
            "BENCH_SLOTS": str(slots), "BENCH_PROCESSES": str(processes), "BENCH_KIND": kind,
        }  # fmt: skip

    @contextlib.contextmanager
    def worker(
        self, peer: Peer, kind: str, slots: int = 100, processes: int = 1, url: str | None = None
    ) -> Iterator[Session]:
        """The peer's worker, until the block ends."""
        process = subprocess.Popen(
            [peer.python, "-m", peer.module, "work"], cwd=HERE, start_new_session=True, stdin=subprocess.DEVNULL,
            env=self._environment(url, slots, processes, kind), stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{peer.name}.log").open("ab"),
        )  # fmt: skip
        session = Session(process)
        try:
            yield session
        finally:
            session.stop()

    def push(self, peer: Peer, *words: str, kind: str = "noop", url: str | None = None, slots: int = 100) -> float:
        """Have the peer push as `adapter.main` says; the seconds it took."""
        command = [peer.python, "-m", peer.module, "push", "--kind", kind, *words]
        environment = self._environment(url, slots, 1, kind)
        done = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise Stuck(f"{peer.name} could not push: {done.stderr[-500:]}")
        seconds: float = json.loads(done.stdout.splitlines()[-1])["seconds"]
        return seconds

    def offers(self, peer: Peer) -> dict[str, bool]:
        """What `adapter.can` says, asked once: it takes a process."""
        if peer.name in self._offers:
            return self._offers[peer.name]
        command = [peer.python, "-m", peer.module, "can"]
        environment = self._environment(None, 1, 1, "noop")
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=True)
        found = self._offers[peer.name] = json.loads(done.stdout.splitlines()[-1])
        return found

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Watch closely; raises Stuck when it takes longer."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Stuck(f"{what}: not within {seconds:g} s; {self.ledger.total()} jobs have run")
            time.sleep(0.001)


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A redis-server on a free port of loopback, with nothing saved, for this run alone."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("no redis-server on the PATH: run tools/ensure-program redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            there = Lab(Path(folder), port)
            for _ in range(500):
                with contextlib.suppress(redis.ConnectionError):
                    there.client.ping()
                    break
                time.sleep(0.01)
            yield there
        finally:
            server.terminate()
            server.wait()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

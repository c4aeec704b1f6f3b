"""A Redis server for a simulation: one of its own, without persistence, behind a socket in a temporary folder."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from duly.errors import ConfigurationError

LOOKS, PAUSE = 500, 0.02
"""How often, and every how many seconds, it is looked whether the server is there."""


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a new server, which ends with the block. Raises ConfigurationError if there is no redis-server."""
    with TemporaryDirectory(prefix="duly-simulation-") as folder:
        place = Path(folder, "redis.sock")
        words = ["redis-server", "--port", "0", "--unixsocket", str(place), "--save", "", "--appendonly", "no"]
        try:
            server = subprocess.Popen([*words, "--dir", folder], stdout=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise ConfigurationError(
                "redis-server is not on the PATH: install Redis, or name a server with --url"
            ) from error
        try:
            for _ in range(LOOKS):
                if place.exists() or server.poll() is not None:
                    break
                time.sleep(PAUSE)
            yield f"unix://{place}"
        finally:
            server.terminate()
            server.wait()

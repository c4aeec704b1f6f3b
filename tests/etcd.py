"""A real etcd for the tests: one member, on loopback, gone when stopped."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import HOST, POLL, READY_WITHIN, Server, ServerError, free_port

QUICK = ("--heartbeat-interval", "20", "--election-timeout", "100")  # leases of a second; by default two are the least


class EtcdServer(Server):
    """`options` are its command line."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__("etcd", directory, *options)
        self._peers = free_port()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to one call of the gateway."""
        request = urllib.request.Request(
            f"{self.url}/v3/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def flush(self) -> None:
        """Delete all keys."""
        self.ask("kv/deleterange", key="AA==", range_end="AA==")  # from zero to zero: everything

    def _command(self, port: int) -> list[str]:
        found = shutil.which("etcd")
        if found is None:
            raise ServerError(
                "etcd is not on the PATH and these tests need it: run `tools/ensure-program etcd etcd-server`."
            )
        clients, peers = f"http://{HOST}:{port}", f"http://{HOST}:{self._peers}"
        addresses = [
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *(
                "--listen-peer-urls",
                peers,
                "--initial-advertise-peer-urls",
                peers,
                "--initial-cluster",
                f"default={peers}",
            ),
        ]
        return [found, "--data-dir", str(self.directory / "data"), *addresses, *QUICK, *self.options]

    def _await_ready(self) -> None:
        assert self._process is not None
        for _ in range(int(READY_WITHIN / POLL)):
            if self._process.poll() is not None:
                break
            try:
                if self._is_ready():
                    return
            except (urllib.error.URLError, OSError, ValueError):
                pass
            time.sleep(POLL)
        raise ServerError(f"etcd did not come up. It was started as: {self._process.args!r}\n{self.output}")

    def _is_ready(self) -> bool:
        self.ask("kv/range", key="AA==")
        return True

"""`/metrics`, `/live` and `/ready` of a worker process, answered by a thread, so that a handler that blocks the event loop
does not make the process look dead.

/live says that the process answers, /ready that its node can claim jobs (else 503, with the reason). /metrics needs
prometheus-client (the extra `prometheus`), and also has what the application has put into that library's own registry.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from duly.errors import ConfigurationError
from duly.runtime.ready import why_not_ready

if TYPE_CHECKING:
    from duly.scheduler import Scheduler

PATIENCE = 10.0
"""Seconds after which a client that says nothing is left."""
PLAIN = "text/plain; charset=utf-8"
Answer = tuple[str, str, bytes]
"""(status, content type, body)."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the base's search for the name of this machine, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """A probe each second fills no log."""

    def address_string(self) -> str:
        """No name is looked up."""
        return str(self.client_address[0])


class Endpoints:
    """Serves from `start` until the process ends. Raises ConfigurationError at once if the port cannot be had."""

    def __init__(self, scheduler: Scheduler, host: str, port: int) -> None:
        self._scheduler = scheduler
        try:
            self._server = make_server(host, port, self._answer, _Server, _Handler)
        except (OSError, UnicodeError, OverflowError) as error:
            raise ConfigurationError(
                f"metrics cannot be served at {host}:{port}: {error}; give another --metrics-port or --metrics-host"
            ) from None
        self.port: int = self._server.server_port
        self._metrics = _metrics_of(scheduler)

    def start(self) -> None:
        host = self._server.server_name
        shown = f"[{host}]" if ":" in host else host
        self._scheduler.config.logger.info("serving http://%s:%d/metrics, /live and /ready", shown, self.port)
        threading.Thread(target=self._server.serve_forever, name="duly-endpoints", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, kind, body = self._found(environ)
        start_response(
            status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _found(self, environ: dict[str, Any]) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", PLAIN, b"only GET and HEAD\n"
        path = environ.get("PATH_INFO", "")
        if path == "/live":
            return "200 OK", PLAIN, b"live\n"
        if path == "/ready":
            reason = why_not_ready(self._scheduler._node)
            return (
                ("503 Service Unavailable", PLAIN, f"{reason}\n".encode()) if reason else ("200 OK", PLAIN, b"ready\n")
            )
        if path == "/metrics":
            return self._metrics(environ.get("HTTP_ACCEPT", ""))
        return "404 Not Found", PLAIN, b"there are /metrics, /live and /ready\n"


def _metrics_of(scheduler: Scheduler) -> Callable[[str], Answer]:
    """What answers /metrics, given the formats that a client accepts."""
    try:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import choose_encoder

        from duly.contrib.prometheus import NodeCollector
    except (ModuleNotFoundError, ConfigurationError):
        missing = "metrics need prometheus-client: pip install 'duly[prometheus]'"
        scheduler.config.logger.warning("/live and /ready are served, /metrics is not: %s", missing)
        return lambda _accept: ("501 Not Implemented", PLAIN, f"{missing}\n".encode())
    REGISTRY.register(NodeCollector(scheduler))

    def metrics(accept: str) -> Answer:
        encode, kind = choose_encoder(accept)
        return "200 OK", kind, encode(REGISTRY)

    return metrics

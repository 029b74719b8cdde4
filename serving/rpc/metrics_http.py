"""Prometheus metrics and a plain `/healthz` over HTTP, on a thread of their own.

The event loop may be busy or stuck; then `/metrics` still answers, and says so.
"""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's own name
        """Logs nothing: a probe every few seconds is no event."""


class MetricsServer:
    """Serves `/metrics` and `/healthz` (200 when `is_ready()`, else 503) until it is closed."""

    def __init__(self, host: str, port: int, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._metrics = make_wsgi_app()
        self._server: WSGIServer = make_server(host, port, self._answer, handler_class=_Quiet)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> "MetricsServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start_response)  # type: ignore[no-any-return]
        if path != "/healthz":
            start_response("404 Not Found", [_TEXT])  # a new list: wsgiref adds to it
            return [b"try /metrics or /healthz\n"]
        ready = self._is_ready()
        start_response("200 OK" if ready else "503 Service Unavailable", [_TEXT])
        return [b"serving\n" if ready else b"not serving\n"]

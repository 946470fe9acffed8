"""The application on a port: uvicorn, with a limit on how long a request may take to begin."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2pkit.errors import P2PKitError

MOST_CONNECTIONS = 256
HEADER_SECONDS = 15.0
"""Until the headers of a connection's first request have arrived."""


class PatientProtocol(H11Protocol):
    """Closes connections on which no request begins."""

    def connection_made(self, transport: Any) -> None:
        """Wait for a request, though not for ever."""
        super().connection_made(transport)
        self._deadline = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def _close_idle(self) -> None:
        begun: Any = self.cycle  # uvicorn says that it is never None
        if begun is None and not self.transport.is_closing():
            self.transport.close()


def opened(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        P2PKitError: the port is taken, or the host is not one of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise P2PKitError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose another --port, 0 for any"
        ) from error


def server(app: Any) -> uvicorn.Server:
    """What serves the application: ``server(app).run(sockets=[listening])``, until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", log_level="warning", access_log=False, server_header=False,
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=5, timeout_keep_alive=30, proxy_headers=False,
    )  # fmt: skip
    return uvicorn.Server(config)

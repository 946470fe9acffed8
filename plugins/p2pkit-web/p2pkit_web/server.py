"""The application on a port: uvicorn, with a limit on how long a request may take to begin."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2pkit.errors import P2PKitError

MOST_CONNECTIONS = 256
HEADER_SECONDS = 15.0
"""Until the headers of a connection's first request have arrived."""
LINGER_SECONDS = 30.0
"""How long what still arrives of a refused request is read, and thrown away, while its client does not close."""


class PatientProtocol(H11Protocol):
    """Closes connections on which no request begins, and lets answers arrive that go out before their request's end.

    A connection that is closed while bytes arrive is reset, and its client loses the answer that it has not read.
    """

    def connection_made(self, transport: Any) -> None:
        """Wait for a request, though not for ever."""
        lingering: Any = _Lingering(transport, self)
        super().connection_made(lingering)
        self._deadline = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._close_idle)

    def data_received(self, data: bytes) -> None:
        """Take what arrives, but for what comes behind the last answer."""
        if not self.transport.is_closing():
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Wait for nobody who has the answer."""
        if self.transport.is_closing():
            self.transport.close()
        else:
            super().shutdown()

    def end_request(self) -> None:
        """Let the application know that nothing more comes of a request that it is still reading."""
        running: Any = self.cycle
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _close_idle(self) -> None:
        begun: Any = self.cycle  # uvicorn says that it is never None
        if begun is None and not self.transport.is_closing():
            self.transport.close()


class _Lingering:
    """A transport that is closed in two stages while a request is still arriving (RFC 9112, section 9.6)."""

    def __init__(self, transport: asyncio.Transport, protocol: PatientProtocol) -> None:
        self._transport, self._protocol, self._answered = transport, protocol, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more is written."""
        return self._answered or self._transport.is_closing()

    def close(self) -> None:
        """Write nothing more, and close once the client has, or after a while; asked again, at once."""
        arriving = self._protocol.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if self.is_closing() or not arriving or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._answered = True
        self._protocol.end_request()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)
        try:
            self._transport.resume_reading()
            self._transport.write_eof()
        except OSError:  # the client has gone
            self._transport.abort()


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

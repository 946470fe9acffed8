"""Connections to servers that may mean harm: neither silence nor drops nor endless headers keep a program waiting."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib import request

SLOWEST_BYTES_A_SECOND = 100.0
"""A server that sends less content, on average, is given up."""
GRACE_SECONDS = 60.0
"""How long it may take to get under way."""
MOST_BESIDE_CONTENT = 2**20
"""How many bytes may come between two pieces of content: headers, the sizes of chunks, redirects."""


class GivenUp(ConnectionError):  # noqa: N818 - named for what it says of the server
    """The server means harm, or is of no use: it is not asked again."""


class Watched(io.RawIOBase):
    """What a socket receives. It ends in GivenUp where little comes for long, or much without any content."""

    def __init__(self, connected: socket.socket) -> None:
        self._content, self._began, self._beside = 0, time.monotonic(), 0
        self._stream = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Receive into ``buffer``, and count."""
        elapsed = time.monotonic() - self._began
        if elapsed > GRACE_SECONDS and self._content < SLOWEST_BYTES_A_SECOND * elapsed:
            raise GivenUp(f"in {elapsed:.0f} s the server has sent {self._content} bytes")
        if self._beside > MOST_BESIDE_CONTENT:
            raise GivenUp("the server sends headers without an end")
        count = self._stream.readinto(buffer)
        self._beside += count or 0
        return count

    def content_came(self, count: int) -> None:
        """Note that ``count`` bytes were content."""
        self._content, self._beside = self._content + count, 0

    def close(self) -> None:
        """Close it; the socket closes when its connection does too."""
        self._stream.close()
        super().close()


class _Socket:
    """A socket of which http.client reads through a :class:`Watched`."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(Watched(self._connected))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Socket(self.sock)


class _SecureConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Socket(self.sock)


class HTTPHandler(request.HTTPHandler):
    """urllib's, over connections that are watched."""

    def http_open(self, req: request.Request) -> Any:
        """The response to a request."""
        return self.do_open(_Connection, req)


class HTTPSHandler(request.HTTPSHandler):
    """urllib's, over connections that are watched."""

    def https_open(self, req: request.Request) -> Any:
        """The response to a request."""
        return self.do_open(_SecureConnection, req)

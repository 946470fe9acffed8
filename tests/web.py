"""A web server on this machine that gives out one file, or those of a folder, and misbehaves as asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OLD = bytes(range(256)) * 4000


@dataclass
class Site:
    """What the server serves, how it misbehaves, and the Range headers it was asked with."""

    content: bytes = OLD
    folder: Path | None = None  # whose files it serves instead, below ``url``
    tag: str | None = '"v1"'
    ranges: bool = True
    heed_if_range: bool = True
    length: bool = True
    status: int = 200
    location: str = ""
    cut_after: list[int] = field(default_factory=list)  # one a request: bytes of the body before the connection breaks
    delay: float = 0.0
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        site.paths.append(self.path)
        time.sleep(site.delay)
        if site.status != 200:
            self.send_response(site.status)
            if site.location:
                self.send_header("Location", site.location)
            self.end_headers()
            return
        content = site.content
        if site.folder is not None:
            file = site.folder / self.path.removeprefix("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
        start, whole = 0, len(content)
        stale = site.heed_if_range and self.headers.get("If-Range", site.tag) != site.tag
        if wanted and site.ranges and not stale:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= whole:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if site.tag:
            self.send_header("ETag", site.tag)
        if site.length:
            self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        self.wfile.write(content[start:][: site.cut_after.pop(0) if site.cut_after else None])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """``site`` on the loopback interface, with its address in ``site.url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_address[1]}" + ("" if site.folder else "/data.tar.gz")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Servers of data that mean harm, and what they send: endless, slow, lying, or text for a terminal."""

from __future__ import annotations

import gzip
import io
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from p2pkit.builtin.datasets import archives
from p2pkit.downloads import download, watching
from tests.hostile.attacks import MB, Attack

OK = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[[socket.socket], None]


def _saying(text: bytes) -> Answer:
    return lambda client: client.sendall(text)


def _endless(beginning: bytes, more: bytes) -> Answer:
    def answer(client: socket.socket) -> None:
        client.sendall(beginning)
        block = more * (65536 // len(more) + 1)
        while True:
            client.sendall(block)

    return answer


def _dripping(beginning: bytes, more: bytes = b"x") -> Answer:
    def answer(client: socket.socket) -> None:
        client.sendall(beginning)
        while True:
            client.sendall(more)
            time.sleep(0.02)

    return answer


def _silent(client: socket.socket) -> None:
    time.sleep(3)


@contextmanager
def _served(folder: Path, answer: Answer) -> Iterator[None]:
    """A server that answers every request so; its address is in the file ``address``, and waiting is short."""

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(65536)
            answer(client)

    def accept() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        patch.setattr(download, "PAUSE_SECONDS", 0.0)
        patch.setattr(watching, "GRACE_SECONDS", 0.2)
        patch.setattr(archives, "download", _impatient)
        archives._fetch.cache_clear()
        (folder / "address").write_text(f"http://127.0.0.1:{listener.getsockname()[1]}/data.tar.gz")
        threading.Thread(target=accept, daemon=True).start()
        yield


def _impatient(url: str, file: Path, md5: str | None = None) -> None:
    download.download(url, file, md5, timeout=0.5)


def _facades(folder: Path, *options: str) -> list[object]:
    recipe = (
        f'[data]\nname = "facades"\nroot = "{folder / "f"}"\nurl = "{(folder / "address").read_text()}"\nmd5 = ""\n'
    )
    (folder / "r.toml").write_text(recipe)
    return [*options, "data", "check", folder / "r.toml"]


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS: dict[str, Answer] = {
    "nothing": lambda client: None,
    "nothing, and keeps the connection": _silent,
    "no HTTP": _saying(b"SSH-2.0-x\r\n"),
    "a line without an end": _endless(b"HTTP/1.1 ", b"x"),
    "headers without an end": _endless(OK, b"X-A: b\r\n"),
    "one header without an end": _endless(OK + b"X-A: ", b"x"),
    "100 Continue without an end": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers in drops": _dripping(OK + b"X-A: "),
    "a status in drops": _dripping(b"HTTP/1.1 200 "),
    "content in drops": _dripping(OK + b"Content-Length: 1000000\r\n\r\n"),
    "content of unknown length in drops": _dripping(OK + b"\r\n"),
    "chunks in drops": _dripping(CHUNKED, b"1\r\nx\r\n"),
    "the size of a chunk in drops": _dripping(CHUNKED, b"0"),
    "a chunk's size without an end": _endless(CHUNKED, b"0"),
    "chunks of no known size": _saying(CHUNKED + b"zz\r\n"),
    "a chunk of a negative size": _saying(CHUNKED + b"-5\r\nabc\r\n"),
    "trailers without an end": _endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n"),
    "content that is no archive": _saying(OK + b"Content-Length: 3\r\n\r\nabc"),
    "less than it says": _saying(OK + b"Content-Length: 1000\r\n\r\nabc"),
    "a length of 5 000 digits": _saying(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc"),
    "a length below zero": _saying(OK + b"Content-Length: -1\r\n\r\nabc"),
    "a range of 5 000 digits": _saying(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-1/" + b"9" * 5000 + b"\r\n\r\nabc"),
    "a range that was not asked for": _saying(b"HTTP/1.1 206 x\r\nContent-Range: bytes 5-9/10\r\n\r\nabcde"),
    "a circle": _saying(b"HTTP/1.1 302 x\r\nLocation: /data.tar.gz\r\n\r\n"),
    "the way to a file of this machine": _saying(b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n"),
    "the way to FTP": _saying(b"HTTP/1.1 302 x\r\nLocation: ftp://127.0.0.1/x\r\n\r\n"),
    "the way to nowhere": _saying(b"HTTP/1.1 302 x\r\nLocation: http://[\r\n\r\n"),
    "a reason that controls a terminal": _saying(b"HTTP/1.1 500 \x1b[31m\x9b31m\x07\r\n\r\n"),
    "a reason of 60 000 letters": _saying(b"HTTP/1.1 500 " + b"x" * 60000 + b"\r\n\r\n"),
    "an ETag that controls a terminal": _saying(OK + b'ETag: "\x1b[31m"\r\nContent-Length: 9\r\n\r\nabc'),
    "a status that is none": _saying(b"HTTP/1.1 999999999999 x\r\n\r\n"),
    "compressed content that is not asked for": _saying(
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10**6))
    ),
}


def _answered(name: str, answer: Answer) -> Attack:
    return Attack(
        "bounded downloads", f"a server answers with {name}", _facades, memory=50 * MB,
        around=lambda folder: _served(folder, answer),
    )  # fmt: skip


def _limited(folder: Path) -> list[object]:
    return _facades(folder, "--limit", "download_bytes=1MB", "--limit", "unpacked_bytes=1MB")


def _tar(name: str = "train/1.jpg", kind: bytes = tarfile.REGTYPE, size: int = 0, count: int = 1) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(count):
            info = tarfile.TarInfo(name.replace("N", str(number)))
            info.type, info.size, info.linkname = kind, size, "/etc/passwd"
            tar.addfile(info, io.BytesIO(bytes(size)))
    return content.getvalue()


def _zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("train/1.jpg", b"x")
    return content.getvalue()


ARCHIVES = {
    "a member of 5 MB in 5 kB": _tar(size=5 * 10**6),
    "a member above its folder": _tar("../../x"),
    "a member with an absolute path": _tar("/etc/x"),
    "a link": _tar(kind=tarfile.SYMTYPE),
    "a hard link": _tar(kind=tarfile.LNKTYPE),
    "a FIFO": _tar(kind=tarfile.FIFOTYPE),
    "a device": _tar(kind=tarfile.CHRTYPE),
    "a member whose name controls a terminal": _tar("\x1b[31m\u202e/../x"),
    "a member with a name of 5 000 letters": _tar("x" * 5000),
    "a member in 500 folders": _tar("/".join("d" * 500)),
    "a member and a folder of one name": _tar("train", count=2),
    "a zip under another name": _zip(),
    "half of what it is": _tar(count=50)[:200],
    "gzip in gzip": gzip.compress(gzip.compress(bytes(5 * 10**6))),
}


def _unpacked(name: str, content: bytes) -> Attack:
    answer = _saying(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    return Attack(
        "bounded archives", f"an archive with {name}", _limited, memory=50 * MB, disk=2 * MB,
        around=lambda folder: _served(folder, answer),
    )  # fmt: skip


ATTACKS = [
    *(_answered(name, answer) for name, answer in ANSWERS.items()),
    Attack(
        "bounded downloads", "content without an end", _limited, ["--limit download_bytes="], memory=50 * MB,
        around=lambda folder: _served(folder, _endless(OK + b"\r\n", b"x")),
    ),
    Attack(
        "bounded downloads", "chunks without an end", _limited, ["--limit download_bytes="], memory=50 * MB,
        around=lambda folder: _served(folder, _endless(CHUNKED, b"5\r\nabcde\r\n")),
    ),
    Attack(
        "bounded downloads", "a length above the limit", _limited, ["--limit download_bytes=5GB"], memory=50 * MB,
        around=lambda folder: _served(folder, _endless(OK + b"Content-Length: 5000000000\r\n\r\n", b"x")),
    ),
    *(_unpacked(name, content) for name, content in ARCHIVES.items()),
]  # fmt: skip

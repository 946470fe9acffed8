"""Downloading one file: resumed where it stopped, checked, and never half-written under its own name."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib import request
from urllib.error import HTTPError, URLError

from p2pkit.downloads.lock import locked
from p2pkit.downloads.partial import Origin, Partial
from p2pkit.downloads.watching import GivenUp, HTTPHandler, HTTPSHandler, Watched
from p2pkit.errors import DataError, Unavailable, visible
from p2pkit.utils.atomic import os_errors_described
from p2pkit.utils.opening import limits, over
from p2pkit.utils.progress import Progress, shortened

RETRIES = 3
PAUSE_SECONDS = 1.0
BLOCK_BYTES = 2**20
WORTH_BYTES = 2**16
"""How much an attempt must bring for as many more to be made."""
SAID = 200
"""How many characters are shown of what a server says."""
DIGITS = 18
"""How many a size may have."""


_ALLOWED = ContextVar("downloads are allowed", default=True)


class Unreachable(Unavailable):
    """A server that does not answer, does not give the file out, or breaks off time and again."""


class Missing(Unreachable):
    """A server that answers that it has no such file."""


class WrongChecksum(DataError):  # noqa: N818 - named for what it says of the file
    """What came is not the file that was expected."""


class _BrokenOff(Unreachable):
    """The server answered, and another attempt may get more."""


class _Stale(_BrokenOff):
    """What is there already does not belong to what the server has now."""


@contextmanager
def without_downloads() -> Iterator[None]:
    """Let nothing be downloaded meanwhile, for commands that only look: :func:`download` raises Unreachable."""
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def downloads_allowed() -> bool:
    """Whether :func:`download` may be called; if not, say what it would bring."""
    return _ALLOWED.get()


def download(
    url: str, file: Path, md5: str | None = None, sha256: str | None = None, timeout: float = 15.0, shown: bool = True,
    most: int | None = None,
) -> None:  # fmt: skip
    """Download ``url`` to ``file``, resuming where an earlier attempt stopped. A ``file`` already there is kept as is.

    ``timeout`` is in seconds of silence; a server that sends next to nothing for a minute is given up too. ``most`` is
    how many bytes there may be, where that is known; no more than the limit download_bytes. What has come so far is in
    ``NAME.part`` beside ``file``; it stays there when the connection or the disk fails. Progress is printed if
    ``shown``.

    Raises Missing when the server has no such file, Unreachable when it cannot be reached or does not give the file
    out, WrongChecksum when a checksum does not begin with ``md5`` or ``sha256`` (hexadecimal digits, all or the first
    of them), DataError when ``url`` is not http(s) or more comes than may, WriteError when ``file`` cannot be written.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise DataError(f"cannot download {url}: expected an address that begins with http:// or https://")
    if not downloads_allowed() and not file.is_file():
        raise Unreachable(f"{file} is not there, and this command downloads nothing; a run downloads it from {url}")
    with os_errors_described(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file, shown):
            if file.is_file():
                return
            part = Partial(file)
            _transfer(url, part, timeout, shown, most)
            for algorithm, expected in (("md5", md5), ("sha256", sha256)):
                if expected is not None:
                    _verify(url, part, algorithm, expected)
            part.publish(file)


def _transfer(url: str, part: Partial, timeout: float, shown: bool, most: int | None) -> None:
    furthest = part.size()
    answered = False
    retries = RETRIES
    while True:
        try:
            return _fetch_rest(url, part, timeout, shown, most)
        except Unreachable as error:
            answered = answered or isinstance(error, _BrokenOff)
            if part.size() >= furthest + WORTH_BYTES:
                furthest, retries = part.size(), RETRIES
            if isinstance(error, _Stale):
                part.discard()
            if not answered or retries == 0 or isinstance(error.__cause__, GivenUp):
                raise
            retries -= 1
        time.sleep(PAUSE_SECONDS)


def _fetch_rest(url: str, part: Partial, timeout: float, shown: bool, most: int | None) -> None:
    origin = part.origin()
    resumable = origin is not None and origin.url == url and origin.total is not None
    have = part.size() if resumable else 0
    if origin is not None and have and have == origin.total:
        return
    with _ask(url, have, origin.validator if origin else None, timeout) as response:
        found = Origin(url, _total(response), _validator(response))
        if response.status == 206:
            _check_continues(response, have, origin, found)
        else:
            part.start_over(found)
            have = 0
        _refuse_more(found.total or 0, part, found, most)
        _append(response, part, have, found, shown, most)


def _ask(url: str, have: int, validator: str | None, timeout: float) -> HTTPResponse:
    headers = {"User-Agent": "p2pkit", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator is not None:
            headers["If-Range"] = validator
    try:
        return cast(HTTPResponse, _opener().open(request.Request(url, headers=headers), timeout=timeout))
    except HTTPError as error:
        error.close()
        kind = _Stale if error.code == 416 and have else Missing if error.code in (404, 410) else Unreachable
        said = shortened(visible(str(error.reason)), SAID)
        raise kind(f"cannot download {url}: the server answers HTTP {error.code} {said}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(f"cannot download {url}: {_reason(error)}; check the address and the network") from error


def _check_continues(response: HTTPResponse, have: int, origin: Origin | None, found: Origin) -> None:
    start = re.match(rf"bytes (\d{{1,{DIGITS}}})-", response.headers.get("Content-Range", ""))
    same = (
        have > 0
        and origin is not None
        and found.total == origin.total
        and found.validator in (None, origin.validator)
        and start is not None
        and int(start[1]) == have
    )
    if not same:
        raise _Stale(f"cannot download {found.url}: the file changes on the server while it is read; try again later")


def _refuse_more(size: int, part: Partial, found: Origin, most: int | None) -> None:
    """Refuse a file of ``size`` bytes that is larger than it may be, and delete what has come of it."""
    if most is not None and size > most:
        part.discard()
        raise DataError(f"cannot download {found.url}: it is larger than the {most} bytes that it should have")
    if size > limits().download_bytes:
        part.discard()
        raise DataError(f"cannot download {found.url}: it has {size} bytes or more; {over('download_bytes', size)}")


def _append(
    response: HTTPResponse, part: Partial, have: int, found: Origin, shown: bool, most: int | None
) -> None:  # fmt: skip
    with (
        part.path.open("ab") as out,
        Progress(f"Downloading {part.path.stem}", found.total, unit="B", start=have, shown=shown) as progress,
    ):
        while block := _read(response, found.url):
            out.write(block)
            have += len(block)
            _refuse_more(have, part, found, most)
            progress.advance(len(block))
        out.flush()
        os.fsync(out.fileno())
    if found.total is not None and part.size() != found.total:
        raise _BrokenOff(
            f"cannot download {found.url}: the connection breaks off after {part.size()} of {found.total} bytes; "
            f"run the command again to resume from there"
        )


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        block = response.read1(BLOCK_BYTES)
        if block and isinstance(watched := getattr(response.fp, "raw", None), Watched):
            watched.content_came(len(block))
        return block
    except GivenUp as error:
        raise Unreachable(f"cannot download {url}: {error}; try another address, or later") from error
    except (OSError, HTTPException, ValueError) as error:
        message = f"cannot download {url}: {_reason(error)}; run the command again to resume"
        raise _BrokenOff(message) from error


def _verify(url: str, part: Partial, algorithm: str, expected: str) -> None:
    with part.path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found.startswith(expected.lower()):
        return
    part.discard()
    raise WrongChecksum(
        f"what came from {url} is not the expected file: its {algorithm.upper()} checksum is {found}, expected "
        f"{expected}; it was deleted. Run the command again; if that gives the same checksum, the file has changed at "
        "its source"
    )


def _opener() -> request.OpenerDirector:
    # the default opener also follows redirects to ftp://
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.UnknownHandler, HTTPHandler, HTTPSHandler,
        request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _total(response: HTTPResponse) -> int | None:
    """The size in bytes of the whole file, whichever part of it this response is."""
    partial = response.status == 206
    text = response.headers.get("Content-Range" if partial else "Content-Length", "")
    number = text.rpartition("/")[2].strip()
    return int(number) if number.isdecimal() and len(number) < DIGITS else None


def _validator(response: HTTPResponse) -> str | None:
    tag: str | None = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):  # a weak tag does not identify single bytes
        return tag
    return response.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, socket.gaierror):
        return f"the name of the server cannot be resolved ({cause.strerror})"
    if isinstance(cause, TimeoutError):
        return "the server does not answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "the server refuses the connection"
    return shortened(visible(str(cause) or type(cause).__name__), SAID)

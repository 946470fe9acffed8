"""The body of a request: within a number of bytes, within a time, and one image or one for each source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from p2pkit_web.answers import Limits, Refusal, busy

MOST_FILES = 32
LONGEST_NAME = 200
HOW = "send the bytes of an image file (Content-Type: image/png, say), or multipart/form-data with one file a source"


class Upload(NamedTuple):
    """An image file as it was sent, and what it is called."""

    name: str
    data: bytes


class Budget:
    """How many bytes all bodies may take together that are arriving, or are held until they are translated."""

    def __init__(self, most: int) -> None:
        self._most, self.taken = most, 0

    def take(self, count: int) -> None:
        """Count bytes that have arrived. Raises Refusal where they are too many."""
        if self.taken + count > self._most:
            raise busy("the server holds as many uploads as it may")
        self.taken += count


@asynccontextmanager
async def body_of(request: Request, limits: Limits, budget: Budget) -> AsyncIterator[bytes]:
    """The body of a request, which counts in the ``budget`` until the end of the block.

    Raises:
        Refusal: it is too large, too slow, or the server holds too many.
    """
    taken = 0
    most = limits.body_bytes
    with suppress(ValueError):
        if int(request.headers.get("content-length", "0")) > most:
            raise _too_large(most)
    parts = list[bytes]()
    try:
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for part in request.stream():
                    if taken + len(part) > most:
                        raise _too_large(most)
                    budget.take(len(part))
                    taken += len(part)
                    parts.append(part)
        except TimeoutError as error:
            raise Refusal(
                408, f"the body did not arrive within {limits.body_seconds:g} seconds", "send it faster, or less of it",
                {"Connection": "close"},
            ) from error  # fmt: skip
        except ClientDisconnect as error:
            raise Refusal(400, "the upload was broken off", "send it again") from error
        yield b"".join(parts)
    finally:
        budget.taken -= taken


def _too_large(most: int) -> Refusal:
    hint = "send a smaller file, or start the server with a larger --max-upload"
    return Refusal(413, f"the body has more than {most} bytes", hint, {"Connection": "close"})


async def images_in(request: Request, body: bytes, sources: list[str], name: str) -> Mapping[str, Upload]:
    """The image files in a body, by the names of ``sources``; a single source is called "".

    ``name`` is what a file is called that is the body itself.

    Raises:
        Refusal: the body is of another kind, or has not just the sources.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _files_of_form(request, body)
        if sources == [""] and len(found) == 1:
            return {"": next(iter(found.values()))}
        if sorted(found) != sorted(sources):
            raise Refusal(422, f"the form has {_named(found)}; this model takes {_named(sources)}", HOW)
        return found
    if kind != "application/octet-stream" and not kind.startswith("image/"):
        raise Refusal(415, f"a body of the type {kind[:100] or 'unknown'!r} is not an image", HOW)
    if sources != [""]:
        raise Refusal(422, f"the body is one image; this model takes {_named(sources)}", HOW)
    if not body:
        raise Refusal(422, "the body is empty", HOW)
    return {"": Upload(plain_name(name), body)}


async def _files_of_form(request: Request, body: bytes) -> dict[str, Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        # nothing is written to a disk: what is there already is in memory
        parser = MultiPartParser(request.headers, stream(), max_files=MOST_FILES, max_fields=MOST_FILES)
        parser.spool_max_size = len(body) + 1
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise Refusal(400, f"the form cannot be read: {str(error)[:200]}", HOW) from error
    found = dict[str, Upload]()
    for field, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise Refusal(422, f"the field {field[:100]!r} of the form is not a file", HOW)
        if field in found:
            raise Refusal(422, f"the form has {field[:100]!r} twice", HOW)
        found[field] = Upload(plain_name(value.filename or ""), await value.read())
    await form.close()
    return found


def plain_name(given: str) -> str:
    """What a file is called that was sent under any name: no folders, nothing unprintable, not endless."""
    name = PurePosixPath(PureWindowsPath(given).name).name
    kept = "".join(char for char in name if char.isprintable() and char not in '"\\/;%').strip(" .")
    return kept[-LONGEST_NAME:] or "image"


def _named(names: Mapping[str, Upload] | list[str]) -> str:
    return ", ".join(repr(name[:100]) for name in names if name) or ("no file" if not names else "one image")

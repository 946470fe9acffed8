"""TIFFs opened: seen to be bounded before pages are made of them, then to be whole and of a size that can be."""

from __future__ import annotations

import lzma
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from struct import Struct
from typing import IO, Any, NamedTuple

from PIL import Jpeg2KImagePlugin
from tifffile import COMPRESSION, FileHandle, TiffFile, TiffPage, TiffPageSeries

from p2pkit.errors import DataError
from p2pkit.images.pictures_within import refuse_larger_picture
from p2pkit.images.plausible import largest_plausible, refuse_implausible, refuse_long, refuse_many

OF_ITS_OWN: Mapping[str, Any] = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
"""For tifffile: what these accounts of a file say may lead to other files; its planes are pages all the same."""
MOST_TAGS = 4096
"""Of a page; tifffile takes more for damage."""
TAGS_ALWAYS, TAGS_RATIO = 16 << 20, 2
"""The tags of all pages may have so many bytes, or so many times those of the file: many may lead to one place."""
DATA_ALWAYS, DATA_RATIO = 64 << 20, 16
"""The same of their strips or tiles: some writers keep an empty one once."""
BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, LENGTH, BITS, SAMPLES, DEPTH = 256, 257, 258, 277, 32997
TILE_WIDTH, TILE_LENGTH, TILE_DEPTH, SUB_IFDS = 322, 323, 32998, 330
_UNPACKING: Mapping[int, tuple[int, Callable[[], Any]]] = {
    COMPRESSION.DEFLATE: (1032, zlib.decompressobj), COMPRESSION.ADOBE_DEFLATE: (1032, zlib.decompressobj),
    COMPRESSION.LZMA: (10_000, lzma.LZMADecompressor),
}  # fmt: skip
"""By compression how many times its length may be unpacked to, and what unpacks it."""
OF_PICTURES: Mapping[int, str] = {
    COMPRESSION.JPEG: "JPEG", COMPRESSION.ALT_JPEG: "JPEG", COMPRESSION.JPEG_LOSSY: "JPEG", COMPRESSION.PNG: "PNG",
    COMPRESSION.WEBP: "WEBP", COMPRESSION.WEBP_DEPRECATED: "WEBP",
    **dict.fromkeys(
        (
            COMPRESSION.APERIO_JP2000_YCBC, COMPRESSION.JPEG_2000_LOSSY, COMPRESSION.APERIO_JP2000_RGB,
            COMPRESSION.JPEG2000,
        ),
        Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    ),
}  # fmt: skip
"""Compressions by which strips and tiles are pictures, as Pillow calls them."""
LERC_MARK, LERC_SIDES = b"Lerc2 ", Struct("<ii")
UNBOUNDED = frozenset({
    COMPRESSION.JPEGXR, COMPRESSION.JPEGXR_NDPI, COMPRESSION.JPEGXL, COMPRESSION.JPEGXL_DNG, COMPRESSION.JETRAW,
})  # fmt: skip
"""Compressions whose strips and tiles say themselves how large they are, in ways that only what unpacks them reads."""
OF_SIZE = frozenset({WIDTH, LENGTH, BITS, SAMPLES, DEPTH, TILE_WIDTH, TILE_LENGTH, TILE_DEPTH})
OF_KIND = OF_SIZE | {259, 262, 266, 278, 284, 317, 338, 339}
"""By these, which begin with the compression, tifffile tells whether two pages are of one image."""
MOST_KINDS = 500
"""So many may be in a file: tifffile compares each with all others, and with the pages within pages."""
MOST_MISSING = 1 << 16
"""How many strips or tiles a page may lack that it says to have; each is looked for."""
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class _Layout(NamedTuple):
    """How a TIFF writes numbers: those of a classic one, or those of a BigTIFF."""

    order: str
    offset: Struct
    tags: Struct
    """How many a page has."""
    tag: Struct
    """Code, type, how many values; the values or their place follow."""


@contextmanager
def opened(stream: IO[bytes]) -> Iterator[TiffPageSeries]:
    """The first image of a TIFF, with all pages like it, seen to be whole and of a size that can be.

    Raises:
        DataError: it holds none, is incomplete, unpacks to more than is plausible, or has more pages than may be.
    """
    refuse_unbounded(stream)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with TiffFile(stream, **OF_ITS_OWN) as file:
        if not file.series or not file.series[0].shape or 0 in file.series[0].shape:
            raise DataError("the TIFF holds no image")
        series = file.series[0]
        if "X" not in series.axes or "Y" not in series.axes:
            raise DataError(f"the axes of its image are {series.axes}; expected Y and X among them")
        assert series.dtype is not None
        if (parts := math.prod(keyframe(series).chunked)) > len(keyframe(series).dataoffsets) + MOST_MISSING:
            there = len(keyframe(series).dataoffsets)
            raise DataError(f"the image is incomplete: it has {there} of {parts} strips or tiles")
        refuse_implausible(math.prod(series.shape) * series.dtype.itemsize, size)
        end = read = 0
        for start, length in (part for page in series.pages if page for part in _parts(page)):
            end, read = max(end, start + length), read + length
        if end > size:
            raise DataError(f"the image is incomplete: it should end at byte {end}, the file has {size}")
        if read > max(DATA_ALWAYS, DATA_RATIO * size):
            raise DataError(f"refused, its strips or tiles take {read} bytes, and the file has {size}")
        _refuse_bombs(stream, series, size)
        yield series


def _refuse_bombs(stream: IO[bytes], series: TiffPageSeries, size: int) -> None:
    """Raise DataError where a strip or tile unpacks to more than is plausible, whatever it is for.

    imagecodecs stops where it is full; without it, tifffile has Python unpack all that there is.
    """
    unpacking = _UNPACKING.get(keyframe(series).compression)
    if unpacking is None or find_spec("imagecodecs") is not None:
        return
    ratio, unpacker = unpacking
    for start, length in (part for page in series.pages if page for part in _parts(page)):
        if length * ratio > largest_plausible(size):
            stream.seek(start)
            refuse_long(_unpacked(unpacker(), stream.read(length)), size)


def refuse_larger_pictures(stream: IO[bytes] | FileHandle, pages: Iterable[Any]) -> None:
    """Raise DataError where strips or tiles of ``pages`` are pictures that are larger than what they are for."""
    for page in pages:
        if page is not None and page.keyframe.compression in (*OF_PICTURES, *UNBOUNDED, COMPRESSION.LERC):
            for start, length in _parts(page):
                stream.seek(start)
                refuse_larger_part(page.keyframe, stream.read(length))


def refuse_larger_part(page: TiffPage, packed: bytes) -> None:
    """The same of one strip or tile: who unpacks it goes by what the picture says of itself."""
    most, shape = math.prod(page.chunks), "x".join(map(str, page.chunks))
    if page.compression in UNBOUNDED:
        raise DataError(
            f"its {COMPRESSION(page.compression).name} compression is not unpacked, since a file may claim any size "
            "in it; convert it to another, such as deflate"
        )
    if page.compression == COMPRESSION.LERC and packed:
        # behind its mark and version, and a checksum from version 3 on
        start = len(LERC_MARK) + (8 if packed[len(LERC_MARK)] >= 3 else 4) if packed.startswith(LERC_MARK) else -1
        if start < 0 or len(packed) < start + LERC_SIDES.size:
            raise DataError("a strip or tile is no LERC of version 2; it is damaged, or convert it to another")
        if math.prod(LERC_SIDES.unpack_from(packed, start)) > most:
            raise DataError(f"refused, LERC of more values stands for a strip or tile of {shape}; it is damaged")
    if kind := OF_PICTURES.get(page.compression):
        refuse_larger_picture(packed, [kind], most, f"a strip or tile of {shape}")


def _unpacked(unpacker: Any, packed: bytes) -> Iterator[bytes]:
    """What is packed, a megabyte at a time."""
    while not unpacker.eof:
        piece = unpacker.decompress(packed, 1 << 20)
        if not piece:
            return
        yield piece
        packed = getattr(unpacker, "unconsumed_tail", b"")


def _parts(page: Any) -> Iterator[tuple[int, int]]:
    """The offsets and lengths of a page's strips or tiles."""
    return zip(page.dataoffsets, page.databytecounts, strict=False)


def keyframe(series: TiffPageSeries) -> TiffPage:
    """The page that says of all pages of an image what they are."""
    page = series.keyframe
    assert isinstance(page, TiffPage)
    return page


def refuse_unbounded(stream: IO[bytes]) -> None:
    """Raise DataError where the pages of a TIFF are more than may be, or claim more than the file can hold."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    layout, place = _beginning(stream)
    seen, kinds, within, in_tags = set[int](), set[tuple[tuple[int, int], ...]](), 0, 0
    while 0 < place < size:
        if place in seen:
            raise DataError("its pages lead back to one that was there already; it is damaged")
        seen.add(place)
        stream.seek(place)
        values, taken, place = _page(stream, layout, size)
        within += values.pop(SUB_IFDS, 0)
        in_tags += taken
        refuse_many(len(seen) + within, "pages", all_counted=False)
        kinds.add(tuple(values.items()))
        if len(kinds) * (len(kinds) + within) > MOST_KINDS**2:
            raise DataError(
                f"refused, its pages are of {len(kinds)} or more sizes and kinds; keep the page that is meant, alone"
            )
        if in_tags > max(TAGS_ALWAYS, TAGS_RATIO * size):
            raise DataError(f"refused, the tags of its pages take {in_tags} bytes, and the file has {size}")
        _refuse_implausible_page(values, size)


def _beginning(stream: IO[bytes]) -> tuple[_Layout, int]:
    """How the file writes numbers, and where its first page is."""
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    layout = (
        _Layout(order, Struct(f"{order}Q"), Struct(f"{order}Q"), Struct(f"{order}HHQ"))
        if big
        else _Layout(order, Struct(f"{order}I"), Struct(f"{order}H"), Struct(f"{order}HHI"))
    )
    if len(head) < 16 and (big or len(head) < 8):
        raise DataError("the TIFF ends within its first bytes, it is damaged or incomplete")
    return layout, int(layout.offset.unpack_from(head, 8 if big else 4)[0])


def _page(stream: IO[bytes], layout: _Layout, size: int) -> tuple[dict[int, int], int, int]:
    """What a page says of its size, by the codes of the tags; how many bytes its tags take; where the next one is."""
    first = stream.read(layout.tags.size)
    number = layout.tags.unpack(first)[0] if len(first) == layout.tags.size else MOST_TAGS + 1
    step = layout.tag.size + layout.offset.size
    tags = stream.read(number * step + layout.offset.size) if number <= MOST_TAGS else b""
    if len(tags) < number * step:
        raise DataError("the tags of a page are damaged or incomplete")
    values, taken = dict[int, int](), 0
    for start in range(0, number * step, step):
        code, kind, count = layout.tag.unpack_from(tags, start)
        length = BYTES_OF_TYPE.get(kind, 1) * count
        if length > size:
            raise DataError(f"its tag {code} claims {length} bytes, and the file has {size}; it is damaged")
        taken += length
        if code == SUB_IFDS:
            values[code] = count
        elif code in OF_KIND and kind in (3, 4, 16) and count:
            place = start + layout.tag.size
            if length > layout.offset.size:  # as BitsPerSample of several samples; the first stands for all
                stream.seek(layout.offset.unpack_from(tags, place)[0])
                content = stream.read(BYTES_OF_TYPE[kind])
            else:
                content = tags[place : place + BYTES_OF_TYPE[kind]]
            values[code] = int.from_bytes(content, "little" if layout.order == "<" else "big")
    following = tags[number * step :]
    return values, taken, layout.offset.unpack(following)[0] if len(following) == layout.offset.size else 0


def _refuse_implausible_page(values: dict[int, int], size: int) -> None:
    """Raise DataError where a page, or one of its strips or tiles, claims more pixels than are plausible."""
    # fewer bits are unpacked to bytes
    pixel = max(1, values.get(SAMPLES, 1)) * max(1, -(-values.get(BITS, 1) // 8))
    width, length = values.get(WIDTH, 0), values.get(LENGTH, 0)
    refuse_implausible(width * length * max(1, values.get(DEPTH, 1)) * pixel, size)
    tile = values.get(TILE_WIDTH, 0) * values.get(TILE_LENGTH, 0) * max(1, values.get(TILE_DEPTH, 1))
    refuse_implausible(tile * pixel, size)

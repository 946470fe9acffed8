"""TIFFs that claim more pixels, pages or tags than they hold, and those that lead in circles."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import partial

from tests.hostile.pictures import jpeg, png, saved
from tests.hostile.translated import DAMAGED, IMPLAUSIBLE, Content, given

CLAIMS = "a TIFF claims more pixels than it holds"
PAGES = "a TIFF of many pages, or of pages in a circle"
TAGS = "tags of a TIFF claim more than it holds"
PACKED = "strips of a TIFF unpack to more than they are for"
SHORT, LONG, LONG8 = 3, 4, 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8, 16: 8}
Tag = tuple[int, int, Sequence[int] | bytes] | tuple[int, int, int, int]
"""Code, type and values; or code, type, count and the number that stands for the values or their place."""
W, H, BITS, PACKING, COLOUR, TEXT, OFFSETS, SAMPLES, ROWS, LENGTHS = 256, 257, 258, 259, 262, 270, 273, 277, 278, 279
TILE_W, TILE_H, TILE_OFFSETS, TILE_LENGTHS = 322, 323, 324, 325
END = -1
"""As the page that follows: none."""


def tiff(
    width: int = 16, height: int = 16, data: bytes = bytes(768), more: Mapping[int, Tag | None] | None = None,
    big: bool = False, pages: int = 1, following: int = END, order: str = "<", mark: bytes = b"",
) -> bytes:  # fmt: skip
    """A TIFF of RGB in one strip. ``more`` are tags in place of its own, or beside them; ``following`` the page that
    the last one leads to, by its number."""
    own: dict[int, Tag] = {
        W: (W, LONG, [width]), H: (H, LONG, [height]), BITS: (BITS, SHORT, [8, 8, 8]), PACKING: (PACKING, SHORT, [1]),
        COLOUR: (COLOUR, SHORT, [2]), SAMPLES: (SAMPLES, SHORT, [3]), ROWS: (ROWS, LONG, [height]),
        OFFSETS: (OFFSETS, LONG, [16]), LENGTHS: (LENGTHS, LONG, [len(data)]),
    }  # fmt: skip
    tags = [tag for _, tag in sorted({**own, **(more or {})}.items()) if tag]
    offset, count, slot = ("Q", "Q", 8) if big else ("I", "H", 4)
    first = 16 + len(data) + len(data) % 2
    length = struct.calcsize(f"{order}{count}") + len(tags) * (4 + 2 * slot) + slot
    extra, entries = b"", b""
    behind = first + pages * length
    for code, kind, *rest in tags:
        if len(rest) == 2:
            number, content = rest[0], struct.pack(f"{order}{offset}", rest[1])
        else:
            values = rest[0]
            letter = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 12: "d", 16: "Q"}[kind]
            number, content = len(values), struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(content) > slot:
            extra, content = extra + content, struct.pack(f"{order}{offset}", behind + len(extra))
        entries += struct.pack(f"{order}HH{offset}", code, kind, number) + content.ljust(slot, b"\0")
    starts = [first + page * length for page in range(pages)]
    nexts = [*starts[1:], 0 if following == END else starts[following]]
    ifds = b"".join(
        struct.pack(f"{order}{count}", len(tags)) + entries + struct.pack(f"{order}{offset}", each) for each in nexts
    )
    mark = mark or ((b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42))
    head = mark + (struct.pack(f"{order}HHQ", 8, 0, first) if big else struct.pack(f"{order}I", first))
    return head.ljust(16, b"\0") + data + bytes(len(data) % 2) + ifds + extra


def packed(by: int, width: int = 100_000, height: int = 100_000, colour: int = 2, bits: int = 8) -> bytes:
    """One that says to be packed by some method."""
    samples = 3 if colour == 2 else 1
    more: dict[int, Tag | None] = {
        PACKING: (PACKING, SHORT, [by]), COLOUR: (COLOUR, SHORT, [colour]), BITS: (BITS, SHORT, [bits] * samples),
        SAMPLES: (SAMPLES, SHORT, [samples]),
    }  # fmt: skip
    return tiff(width, height, zlib.compress(bytes(768)), more)


def tiled(width: int, height: int, side: int = 1 << 14, **more: bool) -> bytes:
    tags: dict[int, Tag | None] = {
        OFFSETS: None, LENGTHS: None, ROWS: None, TILE_W: (TILE_W, LONG, [side]), TILE_H: (TILE_H, LONG, [side]),
        TILE_OFFSETS: (TILE_OFFSETS, LONG, [16]), TILE_LENGTHS: (TILE_LENGTHS, LONG, [768]),
    }  # fmt: skip
    return tiff(width, height, more=tags, **more)  # type: ignore[arg-type]


LARGE: dict[str, Content] = {
    "as wide as can be": partial(tiff, 2**31 - 1, 1),
    "as wide and high as can be": partial(tiff, 2**32 - 1, 2**32 - 1),
    "as high as can be": partial(tiff, 1, 2**32 - 1),
    "BigTIFF": partial(tiff, 2**32 - 1, 2**20, big=True),
    "of Motorola": partial(tiff, 2**31 - 1, 9, order=">"),
    "deflate": partial(packed, 8),
    "LZW": partial(packed, 5),
    "PackBits": partial(packed, 32773),
    "LZMA": partial(packed, 34925),
    "Zstandard": partial(packed, 50000),
    "JPEG": partial(packed, 7),
    "JPEG 2000": partial(packed, 34712),
    "fax": partial(packed, 4, 90_000, 90_000, 1, 1),
    "palette": partial(packed, 1, colour=3),
    "one bit": partial(packed, 1, 90_000, 90_000, 1, 1),
    "64 bits": partial(packed, 1, 20_000, 20_000, 1, 64),
    "65,535 samples": lambda: tiff(400, 400, more={SAMPLES: (SAMPLES, SHORT, [65535])}),
    "65,535 bits": lambda: tiff(900, 900, more={BITS: (BITS, SHORT, [65535] * 3)}),
    "a depth of a million": lambda: tiff(more={32997: (32997, LONG, [10**7])}),
    "tiles": partial(tiled, 100_000, 100_000),
    "a tile larger than the image": partial(tiled, 16, 16, 1 << 16),
}
ATTACKS = [given(CLAIMS, name, "a.tif", content) for name, content in LARGE.items()]
ATTACKS += [
    given(CLAIMS, name, "a.tif", LARGE[name], IMPLAUSIBLE, "--tile", 16)
    for name in ("as wide as can be", "BigTIFF", "deflate", "tiles", "a tile larger than the image")
]
ATTACKS += [
    given(CLAIMS, name, "a.tif", LARGE[name], ("a.tif",), planes=True) for name in ("as wide as can be", "64 bits")
]
ATTACKS.append(
    given(
        CLAIMS,
        "bytes in an order that Pillow alone takes",
        "a.tif",
        partial(tiff, 2**31 - 1, 9, mark=b"II\0*"),
        ("not an image",),
    )
)

_DESCRIBED = {
    "ImageJ": b"ImageJ=1.11a\nimages=1000000000\nslices=1000000000\nhyperstack=true\n\0",
    "tifffile": b'{"shape": [1000000000, 16, 16, 3]}\0',
    "OME": b'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    b'<Pixels DimensionOrder="XYCZT" SizeX="16" SizeY="16" SizeC="3" SizeZ="1000000000" SizeT="1" Type="uint8">'
    b'<TiffData/></Pixels></Image></OME>\0',
    "XML in XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + b"b" * 999 + b'"><!ENTITY c "' + b"&b;" * 999
    + b'"><!ENTITY d "' + b"&c;" * 999 + b'">]><OME>&d;</OME>\0',
}  # fmt: skip
ATTACKS += [
    given(
        PAGES,
        f"a description of {name}",
        "a.tif",
        lambda text=text: tiff(more={TEXT: (TEXT, 2, text)}),
        (),
        codes=(0, 2),
    )  # type: ignore[misc]
    for name, text in _DESCRIBED.items()
]
ATTACKS += [
    given(PAGES, "60,000 of them", "a.tif", partial(tiff, pages=60_000), ("pages", "--limit image_pages="), seconds=5),
    given(
        PAGES, "60,000 of them", "a.tif", partial(tiff, pages=60_000), ("pages", "--limit image_pages="),
        "--tile", 16, seconds=5,
    ),
    given(PAGES, "of a BigTIFF", "a.tif", partial(tiff, pages=20_000, big=True), ("--limit image_pages=",), seconds=5),
    given(PAGES, "a page that leads to itself", "a.tif", partial(tiff, following=0), DAMAGED),
    given(PAGES, "three pages in a circle", "a.tif", partial(tiff, pages=3, following=0), DAMAGED),
    given(PAGES, "three pages, the last leading to itself", "a.tif", partial(tiff, pages=3, following=2), DAMAGED),
    given(
        PAGES, "a page of as many small ones at one place", "a.tif",
        lambda: tiff(more={330: (330, LONG, [0] * 50_000)}), ("--limit image_pages=",),
    ),
    given(PAGES, "a page within itself", "a.tif", lambda: tiff(more={330: (330, LONG, 1, 784)}), (), codes=(0, 2)),
]  # fmt: skip

MOST = 2**32 - 1
_TAGS: dict[str, tuple[Content, Sequence[str]]] = {
    "a text of four gigabytes": (lambda: tiff(more={TEXT: (TEXT, 2, MOST, 16)}), DAMAGED),
    "a profile of four gigabytes": (lambda: tiff(more={34675: (34675, 7, MOST, 16)}), DAMAGED),
    "places of four billion strips": (lambda: tiff(more={OFFSETS: (OFFSETS, LONG, MOST, 16)}), DAMAGED),
    "lengths of four billion strips": (lambda: tiff(more={LENGTHS: (LENGTHS, LONG, MOST, 16)}), DAMAGED),
    "a strip of four gigabytes": (lambda: tiff(more={LENGTHS: (LENGTHS, LONG, [MOST])}), ("incomplete",)),
    "a strip beyond the end": (lambda: tiff(more={OFFSETS: (OFFSETS, LONG, [MOST])}), ("incomplete",)),
    "bits of four billion samples": (lambda: tiff(more={BITS: (BITS, SHORT, MOST, 16)}), DAMAGED),
    "points of the earth": (lambda: tiff(more={33922: (33922, 12, MOST, 16)}), DAMAGED),
    "EXIF of four billion entries": (lambda: tiff(more={34665: (34665, LONG, MOST, 16)}), DAMAGED),
    "EXIF that is the page": (lambda: tiff(more={34665: (34665, LONG, 1, 784)}), ()),
    "a tag of BigTIFF as long as can be": (lambda: tiff(big=True, more={TEXT: (TEXT, 2, 2**64 - 1, 16)}), DAMAGED),
    "no rows in a strip": (lambda: tiff(more={ROWS: (ROWS, LONG, [0])}), ()),
    "no places of strips": (lambda: tiff(more={OFFSETS: None}), ()),
    "no width": (lambda: tiff(more={W: None}), ()),
    "a width of 0": (partial(tiff, 0, 16), ()),
    "tiles of 0": (partial(tiled, 16, 16, 0), ()),
    "a first page at the end of everything": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8, ()),
    "65,535 tags": (lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(99), DAMAGED),
}
for options in ((), ("--tile", 16)):
    ATTACKS += [
        given(TAGS, name, "a.tif", content, says, *options, codes=(0, 2)) for name, (content, says) in _TAGS.items()
    ]
_TEXT = (TEXT, 2, 30_000_000, 16)
ATTACKS += [
    given(
        TAGS, "one text for 400 pages", "a.tif", lambda: tiff(data=bytes(30_000_000), pages=400, more={TEXT: _TEXT}),
        ("refused, the tags",),
    ),
]  # fmt: skip


def bomb(by: int, content: bytes, rows: int = 16) -> bytes:
    """16 x 16 pixels in strips of ``rows``, all of which are the same ``content``."""
    strips = 16 // rows
    own: dict[int, Tag | None] = {
        PACKING: (PACKING, SHORT, [by]), ROWS: (ROWS, LONG, [rows]), OFFSETS: (OFFSETS, LONG, [16] * strips),
        LENGTHS: (LENGTHS, LONG, [len(content)] * strips),
    }  # fmt: skip
    return tiff(data=content, more=own)


def _strips() -> bytes:
    """100,000 strips, each of which is a megabyte of the file."""
    more: dict[int, Tag | None] = {
        ROWS: (ROWS, LONG, [1]), OFFSETS: (OFFSETS, LONG, [16] * 100_000), LENGTHS: (LENGTHS, LONG, [10**6] * 100_000),
    }  # fmt: skip
    return tiff(16, 100_000, bytes(10**6), more)


def pictured(by: int) -> bytes:
    """A strip that is a picture of another size than the image's."""
    pictures: Mapping[int, Content] = {
        7: partial(jpeg, 4000, 4000), 34712: partial(saved, "JPEG2000", (999, 999)), 34933: partial(png, 9999, 999),
        50001: partial(saved, "WEBP", (999, 999)),
    }  # fmt: skip
    return bomb(by, pictures[by]())


ZEROS = zlib.compress(bytes(100_000_000), 9)
ATTACKS += [
    given(PACKED, "deflate", "a.tif", partial(bomb, 8, ZEROS), (), codes=(0, 2)),
    given(PACKED, "deflate", "a.tif", partial(bomb, 8, ZEROS), (), "--tile", 16, codes=(0, 2)),
    given(PACKED, "deflate in sixteen strips", "a.tif", partial(bomb, 8, ZEROS, 1), (), codes=(0, 2)),
    given(PACKED, "PackBits", "a.tif", partial(bomb, 32773, b"\x81\0" * 1_000_000), (), codes=(0, 2)),
    given(PACKED, "strips that are one another", "a.tif", _strips, ("refused, its strips",)),
    given(PACKED, "strips that are one another", "a.tif", _strips, ("refused, its strips",), "--tile", 16),
    *(
        given(PACKED, f"pictures by {by}", "a.tif", partial(pictured, by), ("stands for a strip",), *options)
        for by in (7, 34712, 34933, 50001)
        for options in ((), ("--tile", 16))
    ),
]

"""What lies within: pictures in TIFF and DICOM, pieces of JPEG, members of archives, headers of headers."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.conftest import REPOSITORY
from tests.hostile.attacks import MB, Attack
from tests.hostile.pictures import jpeg, saved
from tests.hostile.scans_and_arrays import archive, array, dicom, nifti
from tests.hostile.servers import _facades, _limited, _saying, _served
from tests.hostile.tiffs import (
    COLOUR,
    LENGTHS,
    LONG,
    OFFSETS,
    PACKING,
    ROWS,
    SHORT,
    TILE_H,
    TILE_LENGTHS,
    TILE_OFFSETS,
    TILE_W,
    bomb,
    tiff,
)
from tests.hostile.translated import Content, given

PACKED = "strips of a TIFF unpack to more than they are for"
PAGES = "a TIFF of many pages, or of pages in a circle"
DICOM = "a DICOM file claims or unpacks to more than it holds"
NIFTI = "a NIfTI file claims or unpacks to more than it holds"
MANY = "a picture of many parts"
ARRAYS = "an array claims or unpacks to more than it holds"
ARCHIVES = "bounded archives"
TILES: Sequence[Sequence[object]] = ((), ("--tile", 16))


def _scans(colour: int = 2) -> bytes:
    """A strip that is a JPEG of 20,000 scans."""
    return tiff(
        2048, 2048, jpeg(2048, 2048, True, 20_000), {PACKING: (PACKING, SHORT, [7]), COLOUR: (COLOUR, SHORT, [colour])}
    )


def _by(code: int, encode: Callable[..., bytes], **options: Any) -> bytes:
    """A strip for 16 x 16 pixels that has a hundred thousand times as many."""
    return bomb(code, encode(np.zeros((1024, 1024, 3), np.uint8), **options))


_CODECS: dict[str, tuple[Content, str]] = {
    "LERC": (lambda: _by(34887, imagecodecs.lerc_encode), "LERC of more values"),
    "LERC without a beginning": (lambda: bomb(34887, b"Lerc"), "no LERC"),
    "LERC of the first version": (lambda: bomb(34887, b"CntZImage " + bytes(64)), "no LERC"),
    "JPEG XR": (lambda: bomb(34934, bytes(64)), "JPEGXR compression is not unpacked"),
    "JPEG XR of Hamamatsu": (lambda: bomb(22610, bytes(64)), "compression is not unpacked"),
    "JPEG XL": (lambda: bomb(50002, bytes(64)), "JPEGXL compression is not unpacked"),
    "JPEG XL of cameras": (lambda: bomb(52546, bytes(64)), "compression is not unpacked"),
    "WebP by its older number": (lambda: bomb(34927, saved("WEBP", (999, 999))), "stands for a strip"),
    "JPEG above Pillow's limit": (lambda: bomb(33007, jpeg(65_000, 65_000)), "stands for a strip"),
}
ATTACKS = [
    given(PACKED, name, "a.tif", content, (says,), *options)
    for name, (content, says) in _CODECS.items()
    for options in TILES
]
ATTACKS += [given(MANY, "scans in a strip", "a.tif", _scans, ("jpeg_scans",), *options, seconds=5) for options in TILES]


def unlike(pages: int) -> bytes:
    """A TIFF of pages each of which has another size."""
    data, length = 16, 2 + 9 * 12 + 4
    made = b"II*\0" + struct.pack("<I", 80) + bytes(72)
    for page in range(pages):
        width, height = 1 + page % 61, 1 + page // 61
        tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
        tags += [(273, 4, data), (277, 3, 1), (278, 4, height), (279, 4, 1)]
        made += struct.pack("<H", 9) + b"".join(
            struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags
        )
        made += struct.pack("<I", 80 + (page + 1) * length if page < pages - 1 else 0)
    return made


def _tiny_tiles() -> bytes:
    return tiff(
        18_000, 18_000,
        more={
            OFFSETS: None, LENGTHS: None, ROWS: None, TILE_W: (TILE_W, LONG, [1]), TILE_H: (TILE_H, LONG, [1]),
            TILE_OFFSETS: (TILE_OFFSETS, LONG, [16]), TILE_LENGTHS: (TILE_LENGTHS, LONG, [3]),
        },
    )  # fmt: skip


for options in TILES:
    ATTACKS += [
        given(PAGES, "all unlike", "a.tif", partial(unlike, 5_000), ("sizes and kinds",), *options, seconds=5),
        given(PAGES, "as many unlike as may be", "a.tif", partial(unlike, 400), (), *options, seconds=10),
        given(
            PAGES, "tiles of one pixel that are not there", "a.tif", _tiny_tiles, ("incomplete",), *options, seconds=5
        ),
    ]


def _extended() -> bytes:
    extensions = struct.pack("<4i", 16, 4, 0, 0) * 300_000
    return nifti(offset=352 + len(extensions))[:348] + b"\1\0\0\0" + extensions + bytes(768)


_EXIF = b"\xff\xe1\0\x12Exif\0\0" + b"y" * 10
ATTACKS += [
    given(MANY, "a JPEG of 250,000 pieces of EXIF", "a.jpg", lambda: jpeg(64, 64, beside=_EXIF * 250_000),
          ("segments",), seconds=5),
    given(MANY, "the same, filled up between", "a.jpg", lambda: jpeg(64, 64, beside=(b"\xff\xff" + _EXIF) * 100_000),
          ("segments",), seconds=5),
    given(MANY, "the same, and called PNG", "a.png", lambda: jpeg(64, 64, beside=_EXIF * 100_000), ("segments",)),
    given(MANY, "a JPEG filled up", "a.jpg", lambda: jpeg(64, 64, beside=b"\xff" * 500_000), (), codes=(0,)),
    *(
        given(DICOM, name, "a.dcm", content, (says,), planes=planes, seconds=5)
        for name, content, says in (
            ("a JPEG of 9000 x 9000", lambda: dicom(syntax=JPEGBaseline8Bit, pixels=jpeg(9000, 9000), packed=True),
             "stands for a frame"),
            ("JPEG 2000", lambda: dicom(syntax=JPEG2000Lossless, pixels=saved("JPEG2000", (999, 999)), packed=True),
             "stands for a frame"),
            ("a JPEG of 20,000 scans",
             lambda: dicom(4096, 4096, syntax=JPEGBaseline8Bit, pixels=jpeg(4096, 4096, True, 20_000), packed=True),
             "jpeg_scans"),
        )
        for planes in (False,)
    ),
    given(NIFTI, "300,000 extensions", "a.nii",
          _extended,
          (), codes=(0,), seconds=5),
    given(ARRAYS, "numbers of 128 bits", "a.npy", partial(array, "(16, 16, 3)", "<f16", bytes(768 * 16)), ("float128",),
          "--tile", 16),
]  # fmt: skip


def _lying(packing: int) -> bytes:
    """An archive of fifty megabytes that says to hold 768 bytes more than a header."""
    whole = array("(16, 16, 3)")
    made = bytearray(archive(whole + bytes(50_000_000), packing=packing))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = made.index(mark) + place
        made[start : start + 4] = struct.pack("<I", len(whole))
    return bytes(made)


ATTACKS += [
    given(ARRAYS, "more than said, by bzip2", "a.npz", partial(_lying, zipfile.ZIP_BZIP2), ("savez",), memory=80 * MB),
    given(ARRAYS, "more than said, by LZMA", "a.npz", partial(_lying, zipfile.ZIP_LZMA), ("savez",), memory=80 * MB),
    given(ARRAYS, "more than said, by deflate", "a.npz", partial(_lying, zipfile.ZIP_DEFLATED), (), memory=80 * MB),
]


def _headers(kind: bytes, number: int, size: int, shared: bool = False) -> bytes:
    """A tar of headers that belong to a member which comes behind them all, or never."""
    made = BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1) as out:
        for index in range(number):
            info = tarfile.TarInfo("x")
            record = f"k{index}=" + "v" * (size - 20)
            content = f"{len(record) + 9:07d} {record}\n".encode() if kind in (b"x", b"g") else b"n" * size
            info.type, info.size = kind, len(content)
            out.write(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
            if shared:
                out.write(tarfile.TarInfo(f"train/{index}").tobuf())
        out.write(tarfile.TarInfo("train/a").tobuf() + bytes(1024))
    return made.getvalue()


def _folders() -> bytes:
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(200):
            tar.addfile(tarfile.TarInfo("/".join(f"{number}.{level}" for level in range(90)) + "/x"))
    return made.getvalue()


def _counted(folder: Path) -> Sequence[object]:
    return _facades(folder, "--limit", "unpacked_files=200")


def _unpacked(name: str, content: bytes, prepare: Callable[[Path], Sequence[object]] = _limited) -> Attack:
    answer = _saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
    return Attack(
        ARCHIVES, f"an archive with {name}", prepare, memory=100 * MB, disk=20 * MB,
        around=lambda folder: _served(folder, answer),
    )  # fmt: skip


ATTACKS += [
    _unpacked("names of names without end", _headers(b"L", 2_000, 512)),
    _unpacked("headers of headers, each large", _headers(b"x", 300, 200_000)),
    _unpacked("what it says of all members without end", _headers(b"g", 400, 100_000, shared=True)),
    _unpacked("a header of a megabyte", _headers(b"x", 1, 1_000_000)),
    _unpacked("many folders for few files", _folders(), _counted),
]


def _shards(folder: Path, index: str = "", tar: bytes = b"") -> Sequence[object]:
    """Shards of somebody else, with such an index, or such a shard."""
    (folder / "train").mkdir()
    if index:
        (folder / "train" / "shards.json").write_text(index)
    (folder / "train" / "a.tar").write_bytes(tar or bytes(10_240))
    (folder / "r.toml").write_text('[data]\nname = "webdataset"\nroot = "."\n')
    return ["--plugins-dir", REPOSITORY / "plugins", "check", folder / "r.toml"]


def _shard(name: str, pairs: object, size: object) -> Attack:
    index = f'{{"shards": [{{"name": "a.tar", "pairs": {pairs}, "size": {size}}}]}}'
    return Attack("shards", f"an index with {name}", partial(_shards, index=index), ["shards.json"], memory=80 * MB)


ATTACKS += [
    _shard("a trillion pairs", 10**12, 10**18),
    _shard("more pairs than fit", 10**6, 1000),
    _shard("more pairs than 64 bits hold", 2**70, 2**90),
    Attack("shards", "names of names without end",
           partial(_shards, tar=gzip.decompress(_headers(b"L", 2_000, 512))), ["a.tar"]),
]  # fmt: skip

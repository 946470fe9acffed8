"""Pictures: PNG, JPEG, WebP, GIF, BMP, PPM that claim, unpack to or take time for more than they hold."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from io import BytesIO

from PIL import Image

from tests.hostile.translated import DAMAGED, IMPLAUSIBLE, Content, given

CLAIMS = "a picture claims more pixels than it holds"
BESIDE = "what a picture has beside its pixels is a bomb"
MANY = "a picture of many parts"
ENDLESS = zlib.compress(bytes(50_000_000), 9)
"""Fifty megabytes in as many kilobytes."""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int = 16, height: int = 16, bits: int = 8, colour: int = 2, beside: bytes = b"", pixels: bytes = b""
) -> bytes:
    """A PNG of no more pixels than ``pixels``, which are packed; without any, black ones."""
    if not pixels:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        rows = min(height, 16)
        pixels = zlib.compress(bytes(rows * (1 + min(width, 64) * channels * bits // 8)))
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + beside + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def saved(kind: str, sides: tuple[int, int] = (64, 64), **options: object) -> bytes:
    """A small picture as Pillow writes it."""
    stream = BytesIO()
    Image.new("RGB", sides, (9, 99, 199)).save(stream, kind, **options)
    return stream.getvalue()


def jpeg(width: int, height: int, progressive: bool = False, scans: int = 0, beside: bytes = b"") -> bytes:
    """A JPEG that claims another size, with ``scans`` more than it has and segments ``beside``."""
    content = bytearray(saved("JPEG", progressive=progressive))
    frame = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    last = content.rindex(b"\xff\xda")
    return bytes(content[:2] + beside + content[2:-2] + content[last:-2] * scans + b"\xff\xd9")


def gif(width: int, height: int, frames: int = 1, side: tuple[int, int] = (8, 8), disposal: int = 0) -> bytes:
    """A GIF whose screen has one size and whose frames another."""
    lzw = bytes.fromhex("02168c2d99872a1cdc33a0027595fa".replace("7595", "75ec95") + "a8de608c04914c0100")
    frame = b"\x21\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0]) + b"," + struct.pack("<HHHHB", 0, 0, *side, 0)
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([0, 0, 0, 255, 0, 0])
        + (frame + lzw) * frames
        + b";"
    )  # fmt: skip


def bmp(width: int, height: int, bits: int = 24, packed: int = 0) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, 0, 0, 0, 2 if bits <= 8 else 0, 0)
    palette = bytes([0, 0, 0, 0, 0, 0, 255, 0]) if bits <= 8 else b""
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + 64, 0, 0, start) + head + palette + bytes(64)


def webp(width: int, height: int, flags: int = 0) -> bytes:
    """A WebP that says of its canvas to be so large, for a picture of 64 x 64."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    simple = saved("WEBP", lossless=True)[12:]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides + simple
    return b"RIFF" + struct.pack("<I", len(content)) + content


def exif(orientation: int, following: int = 0, count: int = 1) -> bytes:
    """EXIF whose only directory is followed by the one at ``following``; 8 is itself."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, count, orientation, 0, following)


def of_exif(content: bytes) -> bytes:
    """The segment of a JPEG with EXIF."""
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content


LARGE: dict[str, tuple[str, Content]] = {
    "PNG of RGB": ("a.png", partial(png, 60_000, 60_000)),
    "PNG as wide and high as can be": ("a.png", partial(png, 2**31 - 1, 2**31 - 1)),
    "PNG of 16 bits RGBA": ("a.png", partial(png, 20_000, 20_000, 16, 6)),
    "PNG of 16 bits gray": ("a.png", partial(png, 30_000, 30_000, 16, 0)),
    "PNG with a palette": ("a.png", partial(png, 40_000, 40_000, 8, 3)),
    "PNG of one bit": ("a.png", partial(png, 90_000, 90_000, 1, 0)),
    "JPEG": ("a.jpg", partial(jpeg, 65_500, 65_500)),
    "JPEG, progressive": ("a.jpg", partial(jpeg, 65_500, 65_500, True)),
    "GIF": ("a.gif", partial(gif, 65_535, 65_535)),
    "GIF whose frame is larger than it": ("a.gif", partial(gif, 8, 8, 1, (65_535, 65_535))),
    "GIF that is cleared after its frame": ("a.gif", partial(gif, 65_535, 65_535, 1, (65_535, 65_535), 2)),
    "BMP": ("a.bmp", partial(bmp, 2**31 - 1, 2**31 - 1)),
    "BMP from the top": ("a.bmp", partial(bmp, 60_000, -60_000)),
    "BMP of runs": ("a.bmp", partial(bmp, 60_000, 60_000, 8, 1)),
    "BMP of one bit": ("a.bmp", partial(bmp, 90_000, 90_000, 1)),
    "PPM": ("a.ppm", lambda: b"P6 100000 100000 255\n" + bytes(64)),
    "PGM of 16 bits": ("a.pgm", lambda: b"P5 100000 100000 65535\n" + bytes(64)),
    "PBM in text": ("a.pbm", lambda: b"P1 100000 100000\n" + b"0 " * 64),
    "PNG called JPEG": ("a.jpg", partial(png, 60_000, 60_000)),
    "PNG called TIFF": ("a.tif", partial(png, 60_000, 60_000)),
    "PNG called DICOM": ("a.dcm", partial(png, 60_000, 60_000)),
}  # fmt: skip
ATTACKS = [given(CLAIMS, name, file, content) for name, (file, content) in LARGE.items()]
ATTACKS += [given(CLAIMS, name, *LARGE[name], IMPLAUSIBLE, "--tile", 16) for name in ("PNG of RGB", "JPEG")]
ATTACKS += [
    given(CLAIMS, "WebP whose canvas is larger than its picture", "a.webp", partial(webp, 16_384, 16_384), ()),
    given(CLAIMS, "WebP whose canvas is as large as can be", "a.webp", partial(webp, 2**24, 2**24, 2), ()),
    given(CLAIMS, "PPM of numbers without end", "a.ppm", lambda: b"P6 " + b"9" * 100_000, DAMAGED),
    given(CLAIMS, "PNG of few pixels that unpack to many", "a.png", lambda: png(pixels=ENDLESS), (), codes=(0,)),
    given(CLAIMS, "PNG of 16 bits that unpack to many", "a.png", lambda: png(bits=16, pixels=ENDLESS), (), codes=(0,)),
    given(CLAIMS, "PNG within the limit that ends early", "a.png", partial(png, 16_000, 16_000, 8, 6), DAMAGED),
]  # fmt: skip

_PROFILE = b"p\0\0" + ENDLESS
_PICTURES: dict[str, tuple[str, Content]] = {
    "a profile in a PNG": ("a.png", lambda: png(beside=chunk(b"iCCP", _PROFILE))),
    "texts in a PNG": ("a.png", lambda: png(beside=chunk(b"zTXt", _PROFILE) * 8)),
    "texts of languages in a PNG": ("a.png", lambda: png(beside=chunk(b"iTXt", b"p\0\1\0\0\0" + ENDLESS) * 8)),
    "texts in a PNG of 16 bits": ("a.png", lambda: png(bits=16, beside=chunk(b"zTXt", _PROFILE) * 8)),
    "EXIF that leads to itself in a PNG": ("a.png", lambda: png(beside=chunk(b"eXIf", exif(6, 8)))),
    "EXIF that leads to itself in a JPEG": ("a.jpg", lambda: jpeg(64, 64, beside=of_exif(exif(6, 8)))),
    "EXIF of four billion values": ("a.jpg", lambda: jpeg(64, 64, beside=of_exif(exif(6, 0, 2**32 - 1)))),
    "a profile that is none": ("a.png", lambda: png(beside=chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\xff" * 9999)))),
    "ten thousand empty chunks": ("a.png", lambda: png(beside=chunk(b"teSt", b"") * 10_000)),
}  # fmt: skip
ATTACKS += [given(BESIDE, name, file, content, (), codes=(0, 2)) for name, (file, content) in _PICTURES.items()]
ATTACKS += [
    given(MANY, "a GIF of 50,000 frames", "a.gif", partial(gif, 8, 8, 50_000), ("several pictures",), seconds=5),
    given(
        MANY, "a PNG that claims four billion frames", "a.png",
        lambda: png(beside=chunk(b"acTL", struct.pack(">II", 2**31, 0))), (), codes=(0, 2), seconds=5,
    ),
    given(
        MANY, "a JPEG of 20,000 scans", "a.jpg", partial(jpeg, 4096, 4096, True, 20_000),
        ("scans", "--limit jpeg_scans="), seconds=5,
    ),
]  # fmt: skip

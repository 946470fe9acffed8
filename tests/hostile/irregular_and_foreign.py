"""Files that are no pictures: FIFOs and devices, what other programs would have to read, two formats in one."""

from __future__ import annotations

import gzip
import os
import socket
import sys
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.conftest import Outcome
from tests.hostile.attacks import Attack
from tests.hostile.pictures import png
from tests.hostile.scans_and_arrays import archive, array
from tests.hostile.translated import DAMAGED, IMPLAUSIBLE, Content, given, translate

FIFOS = "a FIFO or a device in place of an image"
PROGRAMS = "an image for which a program would be started"
FOREIGN = "an image that none of the readers is for"
TWO = "a file of two formats"
NAMES = ("a.png", "a.jpg", "a.webp", "a.tif", "a.npy", "a.npz", "a.nii", "a.nii.gz", "a.dcm")


def _fifo(folder: Path, name: str, *options: object, planes: bool = False) -> Sequence[object]:
    os.mkfifo(folder / name)
    return translate(folder, folder / name, *options, planes=planes, channels=1 if planes else 3)


def _linked(folder: Path, name: str, target: str) -> Sequence[object]:
    (folder / name).symlink_to(target)
    return translate(folder, folder / name)


def _socket(folder: Path) -> Sequence[object]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.png")  # relative, for the paths of sockets are short
    return translate(folder, folder / "a.png")


def _in_folder(folder: Path) -> Sequence[object]:
    (folder / "in").mkdir()
    (folder / "in" / "b.png").write_bytes(png())
    os.mkfifo(folder / "in" / "a.png")
    return translate(folder, folder / "in")


def _paired(folder: Path, name: str) -> Sequence[object]:
    """A data set of pairs, one of whose files is a FIFO."""
    for side in ("a", "b", "masks"):
        (folder / side).mkdir()
        for stem in ("0.png", "1.png"):
            (folder / side / stem).write_bytes(png(32, 32, pixels=_FULL))
    listed = "source,target,mask\na/0.png,b/0.png,masks/0.png\na/1.png,b/1.png,masks/1.png\n"
    (folder / "pairs.csv").write_text(listed)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    (folder / "r.toml").write_text('[data]\nname = "paired_folders"\nroot = "."\nlist = "pairs.csv"\n')
    return ["data", "check", folder / "r.toml"]


_FULL = zlib.compress(bytes(32 * 97))
ATTACKS = [Attack(FIFOS, name, partial(_fifo, name=name), ["FIFO"]) for name in NAMES]
ATTACKS += [
    Attack(FIFOS, f"{name}, a volume", lambda folder, name=name: _fifo(folder, name, planes=True), ["FIFO"])  # type: ignore[misc]
    for name in ("a.tif", "a.nii", "a.nii.gz", "a.dcm")
]
ATTACKS += [
    Attack(FIFOS, f"{name}, in tiles", lambda folder, name=name: _fifo(folder, name, "--tile", 16), ["FIFO"])  # type: ignore[misc]
    for name in ("a.png", "a.tif", "a.npy")
]
ATTACKS += [
    Attack(FIFOS, f"{target} as {name}", partial(_linked, name=name, target=target), ["device"])
    for target in ("/dev/zero", "/dev/tty") for name in ("a.png", "a.tif") if sys.platform == "linux"
]  # fmt: skip
ATTACKS += [
    Attack(FIFOS, "a socket", _socket, ["socket"]),
    Attack(FIFOS, "beside images", _in_folder, ["FIFOs"], codes=(0,)),
    *(
        Attack(FIFOS, f"{name} of a list", partial(_paired, name=name), ())
        for name in ("pairs.csv", "a/0.png", "masks/1.png")
    ),
]


def _eps(folder: Path, content: bytes) -> Sequence[object]:
    """An EPS called PNG, and a Ghostscript that tells when it is run."""
    for program in ("gs", "gswin32c", "gswin64c"):
        (folder / program).write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
        (folder / program).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    (folder / "a.png").write_bytes(content)
    return translate(folder, folder / "a.png")


def _did_not_run(folder: Path, outcome: Outcome) -> None:
    os.environ["PATH"] = os.environ["PATH"].removeprefix(f"{folder}:")
    assert not (folder / "ran").exists()


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"
_DOS = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(_EPS).to_bytes(4, "little") + bytes(20) + _EPS
ATTACKS += [
    Attack(PROGRAMS, name, partial(_eps, content=content), ["not an image"], settled=_did_not_run)
    for name, content in (("EPS", _EPS), ("EPS of DOS", _DOS), ("PDF", b"%PDF-1.4\n" + _EPS))
]


def _saved(kind: str) -> bytes:
    stream = BytesIO()
    Image.new("1" if kind in ("MSP", "XBM") else "RGB", (32, 32)).save(stream, kind)
    return stream.getvalue()


_OTHERS = ("TGA", "PCX", "SGI", "IM", "MSP", "XBM", "DDS", "ICO", "DIB", "JPEG2000")
_BEGINNINGS = {
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(64), "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(64),
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\xff\xff\xff\xff\xff\xff\0\x08\0\3" + bytes(64),
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80),
    "BLP": b"BLP2\1\0\0\0\1\0\0\0" + b"\xff" * 64, "ICNS": b"icns" + b"\xff" * 64, "SVG": b"<svg width='1000000'/>",
    "an executable": b"\x7fELF" + bytes(64), "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64), "GRIB": b"GRIB" + bytes(64),
    "pickle": b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
}  # fmt: skip
ATTACKS += [given(FOREIGN, f"{kind} called PNG", "a.png", partial(_saved, kind), ("not an image",)) for kind in _OTHERS]
ATTACKS += [
    given(FOREIGN, f"{kind} called JPEG", "a.jpg", lambda content=content: content, ("not an image",))  # type: ignore[misc]
    for kind, content in _BEGINNINGS.items()
]

_TWO: dict[str, tuple[str, Content, Sequence[str], int]] = {
    "a PNG with an archive behind": ("a.png", lambda: png(pixels=_FULL) + archive(array("(9, 9)")), (), 0),
    "a PNG with an archive behind, called NPZ": ("a.npz", lambda: png(pixels=_FULL) + archive(array("(9, 9)")), (), 0),
    "a PNG with EPS behind": ("a.png", lambda: png(pixels=_FULL) + _EPS, (), 0),
    "a PNG called NIfTI": ("a.nii", lambda: png(pixels=_FULL), (), 0),
    "a PNG called TIFF": ("a.tif", lambda: png(pixels=_FULL), (), 0),
    "a PNG in gzip": ("a.nii.gz", lambda: gzip.compress(png()), DAMAGED, 2),
    "an archive with the mark of DICOM": ("a.npz", lambda: archive(bytes(300), ["DICM" * 40]), DAMAGED, 2),
    "a TIFF with the mark of DICOM": ("a.dcm", lambda: b"II*\0" + b"\xff" * 124 + b"DICM" + bytes(64), ("a.dcm",), 2),
    "a RIFF that is a sound": ("a.webp", lambda: b"RIFF\x40\0\0\0WAVEfmt " + bytes(64), ("a.webp",), 2),
    "a mark alone": ("a.png", lambda: b"\x89PNG", ("a.png",), 2),
    "an array called TIFF": ("a.tif", lambda: array("(1000000, 1000000)"), ("not as long",), 2),
    "a bomb of PNG called NPY": ("a.npy", partial(png, 60_000, 60_000), IMPLAUSIBLE, 2),
}
for options in ((), ("--tile", 16)):
    ATTACKS += [
        given(TWO, name, file, content, says, *options, codes=(code,))
        for name, (file, content, says, code) in _TWO.items()
    ]

"""DICOM, NIfTI, NPY and NPZ that claim or unpack to more than they hold."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.hostile.pictures import jpeg
from tests.hostile.translated import DAMAGED, IMPLAUSIBLE, Content, given

NIFTI = "a NIfTI file claims or unpacks to more than it holds"
DICOM = "a DICOM file claims or unpacks to more than it holds"
ARRAYS = "an array claims or unpacks to more than it holds"
FEW = bytes(768)
LOW = "image_bytes=20MB"
ZEROS = gzip.compress(bytes(50_000_000))
"""To be appended: gzip goes on with what follows."""


def nifti(
    dims: Sequence[int] = (3, 16, 16, 3, 1, 1, 1, 1), offset: float = 352, kind: int = 2, extension: int = 0,
    data: bytes = FEW,
) -> bytes:  # fmt: skip
    """A NIfTI-1 file with such numbers in its header."""
    head = bytearray(352)
    head[:4] = struct.pack("<i", 348)
    head[40:56] = struct.pack("<8h", *dims)
    head[70:74] = struct.pack("<hh", kind, {2: 8, 64: 64}.get(kind, 8))
    head[76:108] = struct.pack("<8f", *[1] * 8)
    head[108:112] = struct.pack("<f", offset)
    head[112:116] = struct.pack("<f", 1)
    head[344:348] = b"n+1\0"
    if extension:
        head[348] = 1
        data = struct.pack("<ii", extension, 4) + data
    return bytes(head) + data


def nifti2(sides: Sequence[int]) -> bytes:
    head = bytearray(544)
    head[:12] = struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n"
    head[12:16] = struct.pack("<hh", 2, 8)
    head[16:80] = struct.pack("<8q", len(sides), *sides, *[1] * (7 - len(sides)))
    head[168:176] = struct.pack("<q", 544)
    return bytes(head) + FEW


def _endless() -> bytes:
    return gzip.compress(nifti()) + ZEROS


LARGE, FULL = (3, 32767, 32767, 32767, 1, 1, 1, 1), (7, *[32767] * 7)
_NIFTI: dict[str, tuple[str, Content, Sequence[str]]] = {
    "three sides": ("a.nii", partial(nifti, LARGE), ("a.nii",)),
    "seven sides, whose product overflows": ("a.nii", partial(nifti, FULL), ("a.nii",)),
    "of 64 bits": ("a.nii", partial(nifti, LARGE, kind=64), ("a.nii",)),
    "compressed": ("a.nii.gz", lambda: gzip.compress(nifti(LARGE)), IMPLAUSIBLE),
    "compressed, with a product that overflows": ("a.nii.gz", lambda: gzip.compress(nifti(FULL)), IMPLAUSIBLE),
    "compressed under another name": ("a.nii", lambda: gzip.compress(nifti(LARGE)), IMPLAUSIBLE),
    "of the second version": ("a.nii", lambda: nifti2([2**62, 2, 2]), ("a.nii",)),
    "of the second version, compressed": ("a.nii.gz", lambda: gzip.compress(nifti2([2**40, 2**20, 8])), IMPLAUSIBLE),
    "values far behind": ("a.nii", partial(nifti, offset=1e30), ("a.nii",)),
    "values far behind, compressed": ("a.nii.gz", lambda: gzip.compress(nifti(offset=1e30)), IMPLAUSIBLE),
    "values at NaN": ("a.nii", partial(nifti, offset=float("nan")), DAMAGED),
    "values before the file": ("a.nii", partial(nifti, offset=-1e6), ("a.nii",)),
    "negative sides": ("a.nii", partial(nifti, (3, -16, -16, 3, 1, 1, 1, 1)), DAMAGED),
    "no sides": ("a.nii", partial(nifti, (0, 0, 0, 0, 0, 0, 0, 0)), ("a.nii",)),
    "a hundred sides": ("a.nii", partial(nifti, (100, 16, 16, 3, 1, 1, 1, 1)), DAMAGED),
    "a type that there is not": ("a.nii", partial(nifti, kind=9999), DAMAGED),
    "an extension of two gigabytes": ("a.nii", partial(nifti, offset=2e9, extension=2**31 - 16), ("a.nii",)),
}
ATTACKS = [
    given(NIFTI, name, file, content, says, planes=planes)
    for name, (file, content, says) in _NIFTI.items() for planes in (False, True)
]  # fmt: skip
ATTACKS += [
    given(NIFTI, "fifty megabytes behind its end", "a.nii.gz", lambda: gzip.compress(nifti()) + ZEROS, (), codes=(0,)),
    *(
        given(NIFTI, "too much behind its end", "a.nii.gz", _endless, IMPLAUSIBLE, planes=planes, limit=LOW)
        for planes in (False, True)
    ),
]  # fmt: skip


def dicom(
    rows: int = 16, columns: int = 16, frames: int | None = None, syntax: str = ExplicitVRLittleEndian,
    pixels: bytes = bytes(256), bits: int = 8, beside: bytes = b"", packed: bool = False,
) -> bytes:  # fmt: skip
    """A DICOM file; ``beside`` is put before its data set as it is."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation, dataset.SeriesInstanceUID = "MONOCHROME2", "1.2.3"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.PixelData = encapsulate([pixels]) if packed else pixels
    dataset["PixelData"].VR = "OB"
    if frames is not None:
        dataset.NumberOfFrames = frames
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    content = stream.getvalue()
    start = content.index(b"\x28\x00\x02\x00") if beside else 0  # the first of the image's own
    return content[:start] + beside + content[start:]


def deflated(megabytes: int) -> bytes:
    """A small image with a value of so many megabytes, all deflated."""
    whole = dicom(syntax=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    value = b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", megabytes << 20)
    return whole[:start] + packing.compress(value + bytes(megabytes << 20)) + packing.flush()


def nested(depth: int) -> bytes:
    """Sequences within sequences."""
    start = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return dicom(beside=start * depth)


_DICOM: dict[str, tuple[Content, Sequence[str]]] = {
    "rows and columns": (partial(dicom, 65_535, 65_535), IMPLAUSIBLE),
    "rows and columns of 64 bits": (partial(dicom, 20_000, 20_000, bits=64), IMPLAUSIBLE),
    "two billion frames": (partial(dicom, frames=2**31 - 1), ("frames", "--limit image_pages=")),
    "frames of one pixel": (partial(dicom, 1, 1, 2**31 - 1), ("frames", "--limit image_pages=")),
    "10,000 frames": (partial(dicom, 4_000, 4_000, 10_000), IMPLAUSIBLE),
    "fewer frames than none": (partial(dicom, frames=-5), ()),
    "10,000 frames in runs": (partial(dicom, 4_000, 4_000, 10_000, RLELossless, packed=True), IMPLAUSIBLE),
    "frames that are not there": (partial(dicom, 16, 16, 9_000, RLELossless, packed=True), ()),
    "a JPEG that is larger": (
        lambda: dicom(syntax=JPEGBaseline8Bit, pixels=jpeg(65_500, 65_500), packed=True), (),
    ),
    "a value of four gigabytes": (lambda: dicom(beside=b"\x09\x00\x10\x10OB\0\0\xfe\xff\xff\xff"), ()),
    "a value without an end": (lambda: dicom(beside=b"\x09\x00\x10\x10OB\0\0\xff\xff\xff\xff"), ()),
    "ten thousand sequences within one another": (partial(nested, 10_000), ()),
    "bits that there are not": (partial(dicom, bits=65_528), ()),
}  # fmt: skip
ATTACKS += [
    given(DICOM, name, "a.dcm", content, says, planes=planes)
    for name, (content, says) in _DICOM.items() for planes in (False, True)
]  # fmt: skip
ATTACKS += [
    given(DICOM, "deflated", "a.dcm", partial(deflated, 50), IMPLAUSIBLE, planes=planes, limit=LOW)
    for planes in (False, True)
]


def npy(header: str, data: bytes = FEW, version: int = 1, length: int | None = None) -> bytes:
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def array(shape: str, kind: str = "|u1", data: bytes = FEW) -> bytes:
    return npy(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}", data)


def archive(content: bytes, names: Sequence[str] = ("a.npy",), packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as made:
        for name in names:
            made.writestr(name, content)
    return stream.getvalue()


def lying(content: bytes, size: int) -> bytes:
    """An archive that says of its only member to have another size."""
    made = bytearray(archive(content))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = made.index(mark) + place
        made[start : start + 4] = struct.pack("<I", size)
    return bytes(made)


def bomb() -> bytes:
    """Fifty megabytes of zeros in an archive, whose array has 768."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made, made.open("a.npy", "w") as member:
        member.write(array("(16, 16, 3)"))
        for _ in range(5):
            member.write(bytes(10_000_000))
    return stream.getvalue()


_ARRAYS: dict[str, tuple[str, Content, Sequence[str]]] = {
    "a shape": ("a.npy", partial(array, "(1000000000000, 3)"), ("not as long",)),
    "a shape whose product overflows": ("a.npy", partial(array, "(4294967296, 4294967296, 3)"), ("not as long",)),
    "negative sides": ("a.npy", partial(array, "(-16, -48)"), ("a.npy",)),
    "a header of four gigabytes": ("a.npy", lambda: npy("{}", version=2, length=2**32 - 1), DAMAGED),
    "a header of brackets": ("a.npy", lambda: npy("(" * 9_000), DAMAGED),
    "a header of 60,000 brackets": ("a.npy", lambda: npy("(" * 60_000), DAMAGED),
    "a header that is a program": ("a.npy", lambda: npy("__import__('os').system('touch ran')"), DAMAGED),
    "a header with a power": ("a.npy", partial(array, "(9**9**9, 3)"), DAMAGED),
    "values of a gigabyte": ("a.npy", partial(array, "(16, 16)", "|V1000000000"), ("a.npy",)),
    "objects": ("a.npy", partial(array, "(16, 16)", "|O", b"cos\nsystem\n(S'touch ran'\ntR."), ("never unpickled",)),
    "a packed shape": ("a.npz", lambda: archive(array("(1000000000000, 3)")), ("not as long",)),
    "a packed header of four gigabytes": ("a.npz", lambda: archive(npy("{}", bytes(10**6), 2, 2**32 - 1)), DAMAGED),
    "an archive that says to hold four gigabytes": ("a.npz", lambda: lying(FEW, 2**32 - 2), IMPLAUSIBLE),
    "an archive that says to hold nothing": ("a.npz", lambda: lying(bytes(10**6), 0), DAMAGED),
    "more behind the array": ("a.npz", bomb, ("not as long",)),
    "5,000 arrays": ("a.npz", lambda: archive(b"", [f"{index}.npy" for index in range(5_000)]), ("5000 arrays",)),
    "an archive by LZMA": ("a.npz", lambda: archive(bytes(9_000_000), packing=zipfile.ZIP_LZMA), ("a.npz",)),
    "an archive by bzip2": ("a.npz", lambda: archive(bytes(9_000_000), packing=zipfile.ZIP_BZIP2), ("a.npz",)),
    "an archive in an archive": ("a.npz", lambda: archive(archive(array("(16, 16, 3)")), ["a.npz"]), DAMAGED),
    "an archive called PNG": ("a.png", lambda: lying(array("(16, 16, 3)"), 2**32 - 2), IMPLAUSIBLE),
}  # fmt: skip
ATTACKS += [given(ARRAYS, name, file, content, says) for name, (file, content, says) in _ARRAYS.items()]
ATTACKS += [
    given(ARRAYS, name, file, content, says, "--tile", 16)
    for name, (file, content, says) in _ARRAYS.items() if file == "a.npy"
]  # fmt: skip

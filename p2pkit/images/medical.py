"""DICOM and NIfTI, whose libraries come with the extra ``medical``."""

from __future__ import annotations

import gzip
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Jpeg2KImagePlugin

from p2pkit.contracts import Shape
from p2pkit.errors import DataError
from p2pkit.images.formats import HEAD
from p2pkit.images.pictures_within import refuse_larger_picture
from p2pkit.images.pixels import stored
from p2pkit.images.plausible import refuse_implausible, refuse_long, refuse_many
from p2pkit.utils.opening import open_regular

# what nibabel has to say of a damaged file is said by the error
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)

PACKED_FRAMES = "JPEG", Jpeg2KImagePlugin.Jpeg2KImageFile.format
"""What frames may be that says itself how large it is, as Pillow calls it."""
PIECE = 1 << 20
"""So many bytes are unpacked at a time to see how many there are."""
GZIP_MAGIC = b"\x1f\x8b"
NIFTI_ENDINGS = (".nii", ".nii.gz")
NIFTI_HEAD = 544
"""The longer of the headers of NIfTI-1 and NIfTI-2, in bytes, with the four behind that say whether there is more."""
NIFTI_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})
NIFTI_MAGIC = (344, (b"n+1\0", b"ni1\0"))
"""Where a NIfTI-1 file has its mark, and what it is."""
NIFTI2_MAGIC = (4, (b"n+2\0", b"ni2\0"))


class DICOM:
    """DICOM, with pip install 'p2pkit[medical]'; CT is in Hounsfield units. Translations become TIFF."""

    endings = (".dcm",)

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` has the mark of DICOM."""
        return head[128:132] == b"DICM"

    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The pixels of a DICOM file; the frames of several are channels.

        Where the file has a rescale slope or intercept (CT: Hounsfield units), they are applied, to float32. White is
        the highest number: those of MONOCHROME1 are inverted, unless they are in units.
        """
        dataset = dicom(stream)
        refuse_tables(dataset)
        refuse_larger_frames(dataset)
        pixels = import_module("pydicom.pixels").pixel_array(dataset)
        frames = dataset.get("NumberOfFrames") or 1
        if int(frames) > 1:
            pixels = np.moveaxis(pixels, 0, 2)  # [height, width, frames], or with samples behind
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return in_units(np.asarray(pixels), dataset)

    def output_ending(self, targets: str, source: str) -> str:
        """TIFF."""
        return ".tif"


def dicom(stream: IO[bytes], header: bool = False) -> Any:
    """The data set of pydicom in a DICOM file, or its ``header`` alone, without the pixels.

    Raises:
        DataError: it unpacks to more than is plausible, or has more frames than may be.
    """
    pydicom, size = library("pydicom", "DICOM"), stream.seek(0, os.SEEK_END)
    stream.seek(0)
    reader = import_module("pydicom.filereader")
    reader.read_preamble(stream, force=True)
    syntax = reader._read_file_meta_info(stream).get("TransferSyntaxUID")
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        refuse_long(_inflated(stream), size)
    stream.seek(0)
    dataset = pydicom.dcmread(stream, stop_before_pixels=header)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    refuse_many(frames, "frames")
    sides = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    refuse_implausible(frames * sides * samples * -(-int(dataset.get("BitsAllocated") or 8) // 8), size)
    return dataset


def _inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """What of a stream is deflated without a header, piece by piece."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    while not unpacking.eof and (packed := stream.read(PIECE)):
        while packed:
            yield unpacking.decompress(packed, PIECE)
            packed = unpacking.unconsumed_tail


def refuse_larger_frames(dataset: Any, packed: IO[bytes] | None = None, index: int | None = None) -> None:
    """Raise DataError where frames are pictures larger than the DICOM file says: all, or the one of ``index``.

    They are in the data set, or in ``packed``, which stands where they begin.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax or not syntax.is_encapsulated or ("PixelData" not in dataset and packed is None):
        return
    encapsulated, frames = import_module("pydicom.encaps"), int(dataset.get("NumberOfFrames") or 1)
    if packed is None:
        found = encapsulated.generate_frames(dataset.PixelData, number_of_frames=frames)
    else:
        found = [encapsulated.get_frame(packed, index or 0, number_of_frames=frames)]
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    for frame in found:
        refuse_larger_picture(frame, PACKED_FRAMES, rows * columns, f"a frame of {rows} rows and {columns} columns")


def refuse_tables(dataset: Any) -> None:
    """Raise DataError where the numbers of a DICOM file are not its pixels before a table is applied."""
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise DataError("its pixels are numbers of colours in a palette; expected gray or RGB, so convert it first")
    if "ModalityLUTSequence" in dataset:
        raise DataError("its values come by a table (Modality LUT), which is not applied; convert it first")


def in_units(numbers: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """The pixels of the numbers in a DICOM file: in its units, or where it has none with white the highest."""
    rescale = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    slope, intercept = 1.0 if rescale[0] is None else float(rescale[0]), float(rescale[1] or 0)
    inverted = None
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and (slope, intercept) == (1, 0):
        inverted = -1 if numbers.dtype.kind == "i" else (1 << int(dataset.BitsStored)) - 1
        numbers = np.asarray(inverted, numbers.dtype) - numbers
    padding = []
    if "PixelPaddingValue" in dataset and dataset.get("SamplesPerPixel", 1) == 1:
        # in the numbers' type: a negative one may be written as the unsigned number of the same bits
        value = np.asarray(int(dataset.PixelPaddingValue)).astype(numbers.dtype)
        padding.append(value if inverted is None else np.asarray(inverted, numbers.dtype) - value)
    if rescale != (None, None):
        numbers, *padding = (np.asarray(each * slope + intercept, np.float32) for each in (numbers, *padding))
    return stored(numbers, nodata=float(padding[0]) if padding else None, inverted=inverted)


class NIfTI:
    """NIfTI, with pip install 'p2pkit[medical]': its first axis is the height, its second the width."""

    endings: ClassVar[tuple[str, ...]] = (".nii",)

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` has the mark of NIfTI."""
        return any(head[place : place + 4] in marks for place, marks in (NIFTI_MAGIC, NIFTI2_MAGIC))

    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The array of a NIfTI file: its first axis is the height, its second the width, all further ones are channels.

        Where the file scales its values, that is done, and pixels are float32.
        """
        image = nifti(stream)
        return in_nifti_units(np.asanyarray(image.dataobj), image.dataobj).reshape(_nifti_shape(image))

    def header(self, stream: IO[bytes]) -> Shape:
        """The shape that ``read`` gives. The values are unpacked where they are compressed."""
        return _nifti_shape(nifti(stream))

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        """Whether NIfTI has that type."""
        return str(dtype) in NIFTI_DTYPES

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        """Write pixels [height, width, channels], without a place in space."""
        stream.write(self._content(pixels, np.eye(4)))

    def write_like(self, stream: IO[bytes], pixels: NDArray[Any], source: Path) -> None:
        """Write pixels, in the place in space of the file ``source`` if that is NIfTI."""
        affine = np.eye(4)
        with open_regular(source) as opened:
            head = opened.read(HEAD)
            if head.startswith(GZIP_MAGIC) or NIfTI().recognises(head):  # others may be called so too
                affine = nifti(opened).affine
        stream.write(self._content(pixels, affine if np.isfinite(affine).all() else np.eye(4)))

    def output_ending(self, targets: str, source: str) -> str:
        """That of the source: only of NIfTI the place in space is known."""
        return source if source in NIFTI_ENDINGS else ""

    def _content(self, pixels: NDArray[Any], affine: NDArray[Any]) -> bytes:
        content = library("nibabel", "NIfTI").Nifti1Image(pixels, affine, dtype=pixels.dtype).to_bytes()
        return bytes(content)


class CompressedNIfTI(NIfTI):
    """NIfTI compressed by gzip, with pip install 'p2pkit[medical]'."""

    endings = (".nii.gz",)

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` begins a file compressed by gzip."""
        return head.startswith(GZIP_MAGIC)

    def _content(self, pixels: NDArray[Any], affine: NDArray[Any]) -> bytes:
        return gzip.compress(super()._content(pixels, affine), mtime=0)


def nifti(stream: IO[bytes]) -> Any:
    """The image of nibabel in a NIfTI file, compressed or not, all of which is read.

    Raises:
        DataError: the file ends too early, or unpacks to more than is plausible.
    """
    packed = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    is_packed = stream.read(2) == GZIP_MAGIC
    stream.seek(0)
    with gzip.open(stream) if is_packed else nullcontext(stream) as unpacked:
        head = _without_extensions(unpacked.read(NIFTI_HEAD))
        claimed = nifti_end(head)
        refuse_implausible(claimed, packed)
        content = head + unpacked.read(max(0, claimed - len(head)))
        if is_packed:  # to the end, where its checksum is
            refuse_long(iter(partial(unpacked.read, PIECE), b""), packed)
    if claimed > len(content):
        raise DataError(f"it ends after {len(content)} of {claimed} bytes, it is damaged or incomplete")
    return nifti_class(head).from_bytes(content)


def nifti_values(stream: IO[bytes]) -> Any:
    """The values of a NIfTI file that is not compressed, as nibabel's array that reads the parts that are asked for."""
    stream.seek(0)
    return import_module("nibabel.arrayproxy").ArrayProxy(stream, nifti_header(stream.read(NIFTI_HEAD)))


def _without_extensions(head: bytes) -> bytes:
    """The beginning of a NIfTI file without the mark of more before its values, which nibabel would read slowly."""
    size = int(nifti_class(head).header_class.template_dtype.itemsize)
    return head[:size] + bytes(len(head[size : size + 4])) + head[size + 4 :]


def nifti_class(head: bytes) -> Any:
    """The class of nibabel for a file that begins, unpacked, with ``head``: NIfTI-1, or NIfTI-2."""
    nibabel = library("nibabel", "NIfTI")
    return nibabel.Nifti2Image if head[4:8] in NIFTI2_MAGIC[1] else nibabel.Nifti1Image


def nifti_header(head: bytes) -> Any:
    """The header of nibabel in a file that begins, unpacked, with ``head`` (NIFTI_HEAD bytes)."""
    kind = nifti_class(head).header_class
    return kind(head[: kind.template_dtype.itemsize])


def nifti_end(head: bytes) -> int:
    """How many bytes a file that begins, unpacked, with ``head`` (NIFTI_HEAD bytes) has, by what it says of itself.

    Raises:
        DataError: it cannot have an image.
    """
    header = nifti_header(head)
    shape, offset = [int(side) for side in header.get_data_shape()], int(header.get_data_offset())
    if min(shape, default=0) < 1 or offset < 0:
        raise DataError(f"its shape is {tuple(shape)}, from byte {offset} on; it is damaged")
    return offset + math.prod(shape) * int(header.get_data_dtype().itemsize)


def in_nifti_units(values: Any, array: Any) -> NDArray[Any]:
    """Values of nibabel's ``array`` of a NIfTI file: float32 where the file scales them, else as stored."""
    if array.slope != 1 or array.inter != 0:
        values = values.astype(np.float32)
    return np.asarray(values)


def _nifti_shape(image: Any) -> Shape:
    shape = tuple(int(side) for side in image.shape)
    if len(shape) < 2:
        raise DataError(f"its shape is {shape}; expected at least a height and a width")
    return shape[0], shape[1], int(np.prod(shape[2:]))


def library(name: str, format_name: str) -> Any:
    """The library that reads a format; DataError says how to get it where it is not here."""
    try:
        return import_module(name)
    except ImportError as error:
        raise DataError(f"{format_name} is read by {name}, which is not here; pip install 'p2pkit[medical]'") from error

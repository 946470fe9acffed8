"""DICOM and NIfTI, whose libraries come with the extra ``medical``."""

from __future__ import annotations

import gzip
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.contracts import Shape
from p2pkit.errors import DataError
from p2pkit.images.plausible import largest_plausible, refuse_implausible

GZIP_MAGIC = b"\x1f\x8b"
NIFTI_MAGIC = (344, (b"n+1\0", b"ni1\0"))
"""Where a NIfTI-1 file has its mark, and what it is."""
NIFTI2_MAGIC = (4, (b"n+2\0", b"ni2\0"))


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is DICOM."""
    return head[128:132] == b"DICM"


def is_nifti(head: bytes) -> bool:
    """Whether a file that begins with ``head`` may be NIfTI; nothing else that is read here is gzipped."""
    marked = any(head[place : place + 4] in marks for place, marks in (NIFTI_MAGIC, NIFTI2_MAGIC))
    return marked or head.startswith(GZIP_MAGIC)


def read_dicom(stream: IO[bytes]) -> NDArray[Any]:
    """The pixels of a DICOM file; the frames of several are channels.

    Where the file has a rescale slope and intercept (CT: Hounsfield units) they are applied, and pixels are float32.
    """
    pydicom = _library("pydicom", "DICOM")
    stream.seek(0)
    dataset = pydicom.dcmread(stream)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise DataError("its pixels are numbers of colours in a palette; expected gray or RGB, so convert it first")
    pixels = import_module("pydicom.pixels").pixel_array(dataset)
    frames = dataset.get("NumberOfFrames") or 1
    if int(frames) > 1:
        pixels = np.moveaxis(pixels, 0, 2)  # [height, width, frames], or with samples behind
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    slope, intercept = (dataset.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        return np.asarray(pixels)
    return np.asarray(pixels * float(slope) + float(intercept), dtype=np.float32)


def read_nifti(stream: IO[bytes]) -> NDArray[Any]:
    """The array of a NIfTI file: its first axis is the height, its second the width, all further ones are channels.

    Where the file scales its values, that is done, and pixels are float32.
    """
    image = _nifti(stream)
    values = np.asanyarray(image.dataobj)
    if image.dataobj.slope != 1 or image.dataobj.inter != 0:
        values = values.astype(np.float32)
    return np.asarray(values).reshape(_nifti_shape(image))


def nifti_header(stream: IO[bytes]) -> Shape:
    """The shape that :func:`read_nifti` gives. The values are unpacked where they are compressed."""
    return _nifti_shape(_nifti(stream))


def _nifti(stream: IO[bytes]) -> Any:
    nibabel = _library("nibabel", "NIfTI")
    stream.seek(0)
    content = stream.read()
    if content.startswith(GZIP_MAGIC):
        packed = len(content)
        with gzip.open(BytesIO(content)) as unpacked:
            content = unpacked.read(largest_plausible(packed) + 1)
        refuse_implausible(len(content), packed)
    second = any(content[4:8] == mark for mark in NIFTI2_MAGIC[1])
    image = (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(content)
    claimed = image.dataobj.offset + int(np.prod(image.shape)) * image.dataobj.dtype.itemsize
    if claimed > len(content):
        raise DataError(f"it ends after {len(content)} of {claimed} bytes, it is damaged or incomplete")
    return image


def _nifti_shape(image: Any) -> Shape:
    shape = tuple(int(side) for side in image.shape)
    if len(shape) < 2:
        raise DataError(f"its shape is {shape}; expected at least a height and a width")
    return shape[0], shape[1], int(np.prod(shape[2:]))


def write_nifti(stream: IO[bytes], pixels: NDArray[Any], compressed: bool, like: Path | None) -> None:
    """Write pixels as NIfTI, in the place in space of the file ``like``, if that is NIfTI."""
    nibabel = _library("nibabel", "NIfTI")
    affine = np.eye(4)
    if like is not None:
        with like.open("rb") as source:
            found = _nifti(source).affine
        affine = found if np.isfinite(found).all() else affine
    content = nibabel.Nifti1Image(pixels, affine, dtype=pixels.dtype).to_bytes()
    stream.write(gzip.compress(content, mtime=0) if compressed else content)


def _library(name: str, format_name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise DataError(f"{format_name} is read by {name}, which is not here; pip install 'p2pkit[medical]'") from error

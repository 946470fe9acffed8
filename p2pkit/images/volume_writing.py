"""Volumes to files: NIfTI in the place in space of its source, and TIFF stacks."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, imwrite

from p2pkit.errors import DataError
from p2pkit.images.medical import NIFTI_DTYPES, NIFTI_ENDINGS, NIFTI_HEAD, library, nifti_class, nifti_header
from p2pkit.images.names import ending
from p2pkit.images.nifti_volumes import NiftiVolume
from p2pkit.images.tiff import CLASSIC_LIMIT, TIFF, carried_over
from p2pkit.images.tiff_opening import OF_ITS_OWN
from p2pkit.images.tiff_stacks import TiffStack
from p2pkit.images.volumes import Volume
from p2pkit.utils.atomic import atomic_write
from p2pkit.utils.opening import open_regular

OUTPUT_ENDINGS = (*NIFTI_ENDINGS, *TIFF.endings)
OF_IMAGEJ = ("uint8", "uint16", "float32")
"""The types that a stack of ImageJ may have."""
COMPRESSION_LEVEL = 6
"""gzip's own; Python's, 9, takes several times as long for next to nothing."""


def volume_ending(source: Volume, dtype: np.dtype[Any], chosen: str | None = None) -> str:
    """The ending of a volume made of ``source``: ``chosen``, or that of NIfTI and TIFF themselves.

    A DICOM volume becomes NIfTI where its place in space is known and the type can be held, else a TIFF stack.

    Raises:
        DataError: a volume is not written with that ending.
    """
    if chosen is not None and chosen.lower() not in OUTPUT_ENDINGS:
        raise DataError(f"a volume is not written as {chosen}; choose one of {' '.join(OUTPUT_ENDINGS)}")
    own = ending(source.path)
    if isinstance(source.stored, NiftiVolume | TiffStack):
        natural = own
    else:
        natural = ".nii.gz" if source.affine is not None and str(dtype) in NIFTI_DTYPES else ".tif"
    wanted = chosen or natural
    if wanted.lower() in NIFTI_ENDINGS and str(dtype) not in NIFTI_DTYPES:
        raise DataError(f"a NIfTI file cannot hold {dtype}; choose tif as format")
    if wanted.lower() in NIFTI_ENDINGS and source.affine is None and not isinstance(source.stored, NiftiVolume):
        raise DataError(f"{wanted} needs a place in space, which is not known of {source.path}; choose tif as format")
    return wanted


def write_volume(file: Path, voxels: NDArray[Any], source: Volume) -> None:
    """Write ``voxels`` [rows, columns, planes], of the shape of ``source``, by the ending of ``file``.

    NIfTI gets the affine, voxel sizes, units and codes of the source; a TIFF stack its resolution, and of ImageJ the
    distance of the planes.

    Raises:
        WriteError: the disk is full, or writing is not allowed.
    """
    assert voxels.shape == source.shape
    with atomic_write(file) as aside, aside.open("wb") as stream:
        if ending(file) in TIFF.endings:
            _write_stack(stream, voxels, source)
        elif ending(file) == NIFTI_ENDINGS[0]:
            _write_nifti(stream, voxels, source)
        else:
            with gzip.GzipFile("", "wb", COMPRESSION_LEVEL, stream, mtime=0) as packed:
                _write_nifti(packed, voxels, source)


def _write_nifti(stream: IO[bytes] | gzip.GzipFile, voxels: NDArray[Any], source: Volume) -> None:
    nibabel = library("nibabel", "NIfTI")
    if isinstance(source.stored, NiftiVolume):
        image = _like(source.stored, voxels)
    else:
        image = nibabel.Nifti1Image(voxels, source.affine, dtype=voxels.dtype)
        image.header.set_xyzt_units("mm")
        image.set_sform(source.affine, code=1)
        image.set_qform(source.affine, code=1)
    holder = nibabel.FileHolder(fileobj=stream)
    image.to_file_map({"header": holder, "image": holder})


def _like(source: NiftiVolume, voxels: NDArray[Any]) -> Any:
    """An image with the header of ``source``, but for what that says of its values."""
    file = source.files[0]
    with gzip.open(file) if source.packed else open_regular(file) as stream:
        head = stream.read(NIFTI_HEAD)
    header = nifti_header(head)
    affine = None if source.affine is None else header.get_best_affine()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    return nifti_class(head)(voxels.reshape(source.sides), affine, header)


def _write_stack(stream: IO[bytes], voxels: NDArray[Any], source: Volume) -> None:
    planes = np.moveaxis(voxels, 2, 0)
    like, imagej = dict[str, Any](), dict[str, Any]()
    if isinstance(source.stored, TiffStack):
        like = carried_over(source.path)
        imagej = _of_imagej(source.path) if str(voxels.dtype) in OF_IMAGEJ else {}
    big = voxels.nbytes > CLASSIC_LIMIT
    if imagej and not big:
        like = {name: like[name] for name in ("resolution",) if name in like}  # it has an order of bytes of its own
        imwrite(stream, planes, imagej=True, metadata=imagej, **like)
        return
    if str(like.get("byteorder", "=")) == ">":
        planes = planes.astype(planes.dtype.newbyteorder(">"))
    imwrite(
        stream, planes, photometric=PHOTOMETRIC.MINISBLACK, compression=COMPRESSION.ADOBE_DEFLATE, bigtiff=big,
        metadata={"axes": "ZYX"}, **like,
    )  # fmt: skip


def _of_imagej(file: Path) -> dict[str, Any]:
    """What ImageJ says of the voxels of its stack; empty of other files."""
    with TiffFile(file, **OF_ITS_OWN) as tiff:
        found: Any = tiff.imagej_metadata or {}
    kept: dict[str, Any] = {name: found[name] for name in ("spacing", "unit", "zunit") if name in found}
    return {"axes": "ZYX", **kept} if found else {}

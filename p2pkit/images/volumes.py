"""Volumes, plane by plane: NIfTI files, DICOM series and multi-frame files, TIFF stacks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.dicom_volumes import DICOM_ENDING, DicomVolume, frames_in
from p2pkit.images.medical import NIFTI_ENDINGS
from p2pkit.images.names import ending
from p2pkit.images.nifti_volumes import NiftiVolume
from p2pkit.images.pixels import described_like
from p2pkit.images.reading import checked_pixels, failures_of
from p2pkit.images.tiff import TIFF
from p2pkit.images.tiff_stacks import TiffStack, is_stack
from p2pkit.utils.opening import patiently

KEPT_BYTES = 512 << 20
"""So much of volumes that can only be had whole is kept by a process: the last ones that were asked for."""
SIDES = ("LR", "PA", "IS")
"""The ends of the three axes of space, the lower first."""
ENDINGS = (*NIFTI_ENDINGS, DICOM_ENDING, *TIFF.endings)
"""Of files that may be volumes."""
_KEPT: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()
"""By path and time of change."""
_KEEPING = Lock()
KINDS = "NIfTI files, folders with the .dcm files of a DICOM series, multi-frame DICOM files, TIFF stacks"


class Stored(Protocol):
    """A volume in one format, without any file held open: an array [rows, columns, planes] as stored."""

    shape: tuple[int, int, int]
    files: Sequence[Path]
    """All that it consists of."""
    affine: NDArray[np.float64] | None
    """[4, 4], from indices (row, column, plane) to millimetres right, anterior, superior; None where not known."""
    notices: Sequence[str]

    def slices(self, axis: int) -> bool:
        """Whether planes along ``axis`` can be read one by one."""
        ...

    def plane(self, index: int, axis: int) -> NDArray[Any]:
        """A plane [H, W, 1] along an axis for which :meth:`slices` is true."""
        ...

    def whole(self) -> NDArray[Any]:
        """All of it, [rows, columns, planes]."""
        ...


class Volume:
    """A volume whose planes can be had. It holds no pixels and no open file, and may be pickled.

    Its array [rows, columns, planes] is the one that images of p2pkit are: the planes of a stack or a series are its
    last axis, and those of NIfTI are what that file has them to be.
    """

    def __init__(self, path: Path, stored: Stored) -> None:
        self.path, self.stored, self.shape = path, stored, stored.shape
        self.files, self.affine = stored.files, stored.affine
        self.notices = [f"{path}: {notice}" for notice in stored.notices]

    @property
    def orientation(self) -> str:
        """To which side of a patient the indices of each axis grow, such as "RAS"; empty where that is not known."""
        if self.affine is None:
            return ""
        largest = np.abs(self.affine[:3, :3]).argmax(axis=0)
        return "".join(SIDES[side][int(self.affine[side, axis] > 0)] for axis, side in enumerate(largest))

    def plane_shape(self, axis: int) -> tuple[int, int]:
        """Height and width of the planes along ``axis``: the two other sides, in their order."""
        height, width = (side for place, side in enumerate(self.shape) if place != axis)
        return height, width

    def plane(self, index: int, axis: int = 2, neighbours: int = 0) -> NDArray[Any]:
        """A plane [H, W, C] as stored, with as many ``neighbours`` before and behind it as channels, in their order.

        Beyond the first and the last plane these are repeated.

        Raises:
            DataError: it cannot be read; the message begins with the volume.
        """
        last = self.shape[axis] - 1
        around = range(index - neighbours, index + neighbours + 1)
        places = [min(max(place, 0), last) for place in around]
        planes = {place: self._plane(place, axis) for place in dict.fromkeys(places)}
        if not neighbours:
            return planes[index]
        return described_like(np.concatenate([np.asarray(planes[place]) for place in places], axis=2), planes[index])

    def _plane(self, index: int, axis: int) -> NDArray[Any]:
        with failures_of(str(self.path)):
            if self.stored.slices(axis):
                return checked_pixels(patiently(partial(self.stored.plane, index, axis), self.path))
            whole = patiently(partial(_kept, self), self.path)
            plane = np.moveaxis(whole, axis, 2)[:, :, index : index + 1]
            return described_like(checked_pixels(np.asarray(plane)), whole)


def _kept(volume: Volume) -> NDArray[Any]:
    """All of a volume, read where it is not among those that were asked for last: KEPT_BYTES of them, one at least."""
    known_as = str(volume.path), max(file.stat().st_mtime_ns for file in volume.files)
    with _KEEPING:  # one at a time: memory holds no more
        if known_as not in _KEPT:
            _KEPT[known_as] = volume.stored.whole()
        _KEPT.move_to_end(known_as)
        while len(_KEPT) > 1 and sum(each.nbytes for each in _KEPT.values()) > KEPT_BYTES:
            _KEPT.popitem(last=False)
        return _KEPT[known_as]


def open_volume(path: Path) -> Volume:
    """The volume in a file, or in the folder of a DICOM series. Headers are read, no pixels.

    Raises:
        DataError: it is missing, damaged or not a volume; the message begins with ``path``.
    """
    with failures_of(str(path)):
        return patiently(partial(_opened, path), path)


def _opened(path: Path) -> Volume:
    named = ending(path)
    if path.is_dir() or named == DICOM_ENDING:
        return Volume(path, DicomVolume(path))
    if named in NIFTI_ENDINGS:
        return Volume(path, NiftiVolume(path))
    if named in TIFF.endings:
        return Volume(path, TiffStack(path))
    raise DataError(f"this is not a volume; volumes are {KINDS}")


def refuse_unequal(volumes: Sequence[Volume], called: str) -> None:
    """Raise DataError, beginning with what volumes are ``called``, where one has another shape than the first."""
    for other in volumes[1:]:
        if other.shape != volumes[0].shape:
            shapes = " and ".join(f"{each.path} is {'x'.join(map(str, each.shape))}" for each in (volumes[0], other))
            raise DataError(f"{called} differ in shape (height x width x planes): {shapes}; resample them to one")


def is_volume(path: Path) -> bool:
    """Whether a file that can be read as an image is a volume: NIfTI, a multi-frame DICOM file, a TIFF stack."""
    named = ending(path)
    if path.is_dir() or named in NIFTI_ENDINGS:
        return True
    try:
        with failures_of(str(path)):
            if named == DICOM_ENDING:
                return frames_in(path) > 1
            return named in TIFF.endings and is_stack(path)
    except DataError:
        return False  # reading it as an image will say the same


def gathered(files: Iterable[Path]) -> list[Path]:
    """``files`` with the folder of each DICOM series in place of its files, once."""
    found: dict[Path, None] = {}
    whole: dict[Path, bool] = {}
    for file in files:
        folder = file.parent
        if ending(file) == DICOM_ENDING and folder not in whole:
            try:
                with failures_of(str(file)):
                    whole[folder] = frames_in(file) == 1
            except DataError:
                whole[folder] = True  # opening it will say the same
        found[folder if ending(file) == DICOM_ENDING and whole[folder] else file] = None
    return list(found)

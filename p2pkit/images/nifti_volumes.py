"""NIfTI volumes: planes of a plain file are read one by one, a compressed one is unpacked whole."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from p2pkit.errors import DataError
from p2pkit.images.medical import (
    GZIP_MAGIC,
    NIFTI_HEAD,
    in_nifti_units,
    nifti,
    nifti_end,
    nifti_header,
    nifti_values,
)
from p2pkit.images.plausible import refuse_implausible
from p2pkit.utils.opening import open_regular


class NiftiVolume:
    """A NIfTI file of three axes; further ones of length 1 are left out (volumes.Stored)."""

    def __init__(self, file: Path) -> None:
        self.files: Sequence[Path] = [file]
        self.notices: Sequence[str] = ()
        with open_regular(file) as stream:
            self.packed = stream.read(2) == GZIP_MAGIC
            stream.seek(0)
            with gzip.open(stream) if self.packed else nullcontext(stream) as unpacked:
                head = unpacked.read(NIFTI_HEAD)
                expected = nifti_end(head)
                refuse_implausible(expected, file.stat().st_size)
            self._refuse_incomplete(stream, expected)
        header = nifti_header(head)
        sides = tuple(int(side) for side in header.get_data_shape())
        if len(sides) < 3 or set(sides[3:]) - {1} or 0 in sides:
            raise DataError(f"its shape is {sides}; expected three axes, so split it into volumes first")
        self.shape: tuple[int, int, int] = (sides[0], sides[1], sides[2])
        self.sides = sides
        """The shape with further axes of length 1."""
        affine = np.asarray(header.get_best_affine(), np.float64)
        self.affine: NDArray[np.float64] | None = affine if np.isfinite(affine).all() else None

    def _refuse_incomplete(self, stream: IO[bytes], expected: int) -> None:
        if not self.packed:
            if (size := stream.seek(0, os.SEEK_END)) < expected:
                raise DataError(f"it ends after {size} of {expected} bytes, it is damaged or incomplete")
            return
        stream.seek(-4, os.SEEK_END)
        # what gzip writes last is how much there is unpacked; in doubt all is looked at
        if int.from_bytes(stream.read(4), "little") != expected % (1 << 32):
            stream.seek(0)
            nifti(stream)

    def slices(self, axis: int) -> bool:
        """Whether the file is not compressed."""
        return not self.packed

    def plane(self, index: int, axis: int) -> NDArray[Any]:
        """A plane along any axis."""
        place: list[Any] = [slice(None)] * 3 + [0] * (len(self.sides) - 3)
        place[axis] = index
        with open_regular(self.files[0]) as stream:
            values = nifti_values(stream)
            return in_nifti_units(values[tuple(place)], values)[:, :, None]

    def whole(self) -> NDArray[Any]:
        """All of it."""
        with open_regular(self.files[0]) as stream:
            image = nifti(stream)
        return in_nifti_units(np.asanyarray(image.dataobj), image.dataobj).reshape(self.shape)

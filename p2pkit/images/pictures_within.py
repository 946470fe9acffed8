"""Pictures within TIFF and DICOM: no larger than what they are for, and no slower than a file of them may be."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from p2pkit.errors import DataError
from p2pkit.images.pictures import JPEG, MOST_BYTES, limited_by, refuse_many_scans, refuse_many_segments

SPARE = 4
"""How many times as large as needed a picture may be: some writers fill strips and tiles up."""


def refuse_larger_picture(packed: bytes, kinds: Sequence[str], most: int, meant: str) -> None:
    """Raise DataError where a picture of one of ``kinds``, as Pillow calls them, is larger than what it is for.

    That is ``meant``, of ``most`` pixels. What is no such picture is left to who unpacks it.
    """
    stream = BytesIO(packed)
    if packed.startswith(JPEG.begins):
        refuse_many_segments(stream)
        refuse_many_scans(stream)
        stream.seek(0)
    try:
        with limited_by(SPARE * most * MOST_BYTES), Image.open(stream, formats=list(kinds)) as picture:
            pixels = picture.width * picture.height
    except UnidentifiedImageError:
        return
    except Image.DecompressionBombError:
        pixels = SPARE * most + 1
    if pixels > SPARE * most:
        raise DataError(f"refused, a picture of {pixels} pixels or more stands for {meant}")

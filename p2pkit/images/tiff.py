"""TIFF: any depth, any channels; what describes the source goes along into what is made of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, RESUNIT, TiffPage, TiffPageSeries, imwrite

from p2pkit.contracts import Shape
from p2pkit.errors import DataError
from p2pkit.images.pictures import OF_TIFF, Picture
from p2pkit.images.regions import Regions, tiff_regions
from p2pkit.images.tiff_meaning import Meaning
from p2pkit.images.tiff_opening import MAGIC, keyframe, opened, refuse_larger_pictures
from p2pkit.utils.opening import open_regular

# what it has to say of a damaged file is said by the error
logging.getLogger("tifffile").addHandler(logging.NullHandler())

ORIENTATION = 274
UPRIGHT: Mapping[int, tuple[bool, bool, bool]] = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
    6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
"""For each orientation, what makes the image upright: swap the axes, then reverse rows, reverse columns."""
DESCRIPTION = 270
RESOLUTION = (282, 283, 296)
GEOGRAPHIC = (33550, 33922, 34264, 34735, 34736, 34737)
"""GeoTIFF's pixel scale, tie points, transformation, keys, doubles and texts. Not GDAL's value for no data: a
translation has no such pixels, and what has that value in it would vanish from a map."""
GRAY_OR_RGB = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB)
OTHER_COLOURS = (PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR, PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB,
                 PHOTOMETRIC.ITULAB, PHOTOMETRIC.LOGL, PHOTOMETRIC.LOGLUV)  # fmt: skip
"""Of 8 bits and fewer Pillow makes RGB of them, as far as it knows them; their numbers are not pixels."""
WHOLE_BYTES = (8, 16, 24, 32, 64)
"""How many bits a sample may have to be unpacked without imagecodecs."""
CLASSIC_LIMIT = 4_000_000_000
"""Offsets of a TIFF that is not a BigTIFF have 32 bits."""


class TIFF:
    """TIFF and BigTIFF: integers of 8 to 32 bits, floating point of 16 to 64, any number of channels."""

    endings = (".tif", ".tiff")

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` begins a TIFF."""
        return head.startswith(MAGIC)

    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The pixels [height, width, channels] of a TIFF, in the type in which they are stored, white the highest."""
        with opened(stream) as series:
            page = keyframe(series)
            meaning = Meaning.of(page)
            if is_for_pillow(stream, series, page):
                return meaning.described(Picture(OF_TIFF).read(stream))
            refuse_larger_pictures(stream, series.pages)
            pixels = np.moveaxis(series.asarray(), _image_axes(series), (0, 1))
        swap, rows, columns = UPRIGHT.get(orientation(page), (False, False, False))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        return meaning.pixels(
            (pixels.swapaxes(0, 1) if swap else pixels)[:: -1 if rows else 1, :: -1 if columns else 1]
        )

    def header(self, stream: IO[bytes]) -> Shape:
        """The shape that ``read`` gives, from the tags alone."""
        with opened(stream) as series:
            page = keyframe(series)
            Meaning.of(page)  # refuses what read does
            if is_for_pillow(stream, series, page):
                return Picture(OF_TIFF).header(stream)
            height, width = (series.shape[axis] for axis in _image_axes(series))
            if orientation(page) >= 5:
                height, width = width, height
            return height, width, math.prod(series.shape) // (height * width)

    def write(self, stream: IO[bytes], pixels: NDArray[Any], like: Mapping[str, Any] | None = None) -> None:
        """Write pixels [height, width, channels], with what ``like`` says of them (see :func:`carried_over`)."""
        colour = pixels.shape[2] in (3, 4) and pixels.dtype in (np.uint8, np.uint16)
        imwrite(
            stream,
            pixels if pixels.shape[2] > 1 else pixels[:, :, 0],
            photometric=PHOTOMETRIC.RGB if colour else PHOTOMETRIC.MINISBLACK,
            planarconfig="contig" if pixels.shape[2] > 1 else None,
            compression=COMPRESSION.ADOBE_DEFLATE,
            bigtiff=pixels.nbytes > CLASSIC_LIMIT,
            metadata=None,
            **(like or {}),
        )

    def write_like(self, stream: IO[bytes], pixels: NDArray[Any], source: Path) -> None:
        """Write pixels, with resolution, description and place on earth of ``source`` if that is a TIFF too."""
        self.write(stream, pixels, carried_over(source) if source.suffix.lower() in self.endings else None)

    def open_regions(self, file: Path) -> Regions | None:
        """The parts of a TIFF in strips or tiles."""
        return tiff_regions(file)


def _image_axes(series: TiffPageSeries) -> tuple[int, int]:
    return series.axes.index("Y"), series.axes.index("X")


def orientation(page: TiffPage) -> int:
    """The page's number for it, 1 for upright."""
    found = page.tags.valueof(ORIENTATION, 1)
    return found if isinstance(found, int) and found in UPRIGHT else 1


def is_for_pillow(stream: IO[bytes], series: TiffPageSeries, page: TiffPage) -> bool:
    """Whether Pillow has to read it: samples that are not pixels yet, or packed as only Pillow can unpack here.

    Raises:
        DataError: neither Pillow nor tifffile can unpack it without more libraries.
    """
    if page.bitspersample < 8 or (page.bitspersample == 8 and page.photometric not in GRAY_OR_RGB):
        return True
    if page.photometric in OTHER_COLOURS:
        found = f"{getattr(page.photometric, 'name', page.photometric)} of {page.bitspersample} bits"
        raise DataError(f"its pixels are {found}, expected gray or RGB for more than 8 bits, so convert it first")
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression], tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        if _is_exact_in_pillow(series, page):
            return True
        name = getattr(page.compression, "name", page.compression)
        raise DataError(f"unpacking its {name} compression needs imagecodecs; pip install 'p2pkit[tiff]'") from error
    if page.bitspersample not in WHOLE_BYTES and find_spec("imagecodecs") is None:
        raise DataError(f"unpacking its {page.bitspersample} bits needs imagecodecs; pip install 'p2pkit[tiff]'")
    return False


def _is_exact_in_pillow(series: TiffPageSeries, page: TiffPage) -> bool:
    kind = (page.photometric, page.samplesperpixel, str(page.dtype))
    gray = [(PHOTOMETRIC.MINISBLACK, 1, depth) for depth in ("uint8", "uint16")]
    others = (PHOTOMETRIC.MINISWHITE, 1, "uint8"), (PHOTOMETRIC.RGB, 3, "uint8")
    return len(series.pages) == 1 and page.bitspersample in (8, 16) and kind in (*gray, *others)


def carried_over(like: Path) -> dict[str, Any]:
    """What of a TIFF is true of a translation of it too, as arguments of tifffile.imwrite; empty of other files."""
    with open_regular(like) as stream:
        return _carried_over(stream) if stream.read(4) in MAGIC else {}


def _carried_over(stream: IO[bytes]) -> dict[str, Any]:
    with opened(stream) as series:
        page = keyframe(series)
        # these describe the planes of the source, which the output does not have
        structural = page.is_imagej or page.is_shaped or page.is_ome
        codes = (*GEOGRAPHIC, *(() if structural else (DESCRIPTION,)))
        extra = []
        for tag in (page.tags[code] for code in codes if code in page.tags):
            # the bytes themselves: texts may be in any encoding
            stream.seek(tag.valueoffset)
            content = stream.read(tag.valuebytecount)
            if len(content) == tag.valuebytecount:
                extra.append((tag.code, tag.dtype, tag.count, content, True))
        carried: dict[str, Any] = {"byteorder": page.parent.byteorder, "extratags": extra}
        horizontal, vertical, unit = (page.tags.valueof(code) for code in RESOLUTION)
    if _is_ratio(horizontal) and _is_ratio(vertical):
        carried |= {"resolution": (horizontal, vertical)}
        carried |= {"resolutionunit": unit} if isinstance(unit, RESUNIT) else {}
    return carried


def _is_ratio(found: object) -> bool:
    return isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, int) and part > 0 for part in found)

"""Pictures that Pillow reads: PNG, JPEG, WebP, BMP, GIF, and those TIFFs whose samples are not pixels yet."""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, ImagePalette, TiffImagePlugin, WebPImagePlugin
from torchvision.io import ImageReadMode, decode_image

from p2pkit.contracts import Shape
from p2pkit.errors import DataError, counted
from p2pkit.images.colour_profiles import colours_of
from p2pkit.images.formats import ChannelsOfPalette
from p2pkit.images.pixels import stored
from p2pkit.images.plausible import largest_plausible, refuse_implausible, refuse_many

PICTURES = ("PNG", "JPEG", "BMP", "GIF", "PPM", WebPImagePlugin.WebPImageFile.format)
"""All that Pillow is asked for, by how files begin, and never by their names: others of its readers start programs
(Ghostscript for EPS) or belong to who knows which plugin."""
OF_TIFF = (TiffImagePlugin.TiffImageFile.format,)
AS_STORED = frozenset({"L", "RGB", "RGBA", "LA", "I;16"})
"""Pillow modes that are pixels already; the others (palettes, bilevel, CMYK ...) are turned into gray or RGB."""
GRAY_MODES = frozenset({"1"})
OF_PALETTE = frozenset({"P", "PA"})
"""Pillow modes whose first number is that of a colour in a palette."""
FEW_BITS = re.compile(r"L;([24])")
"""How Pillow calls gray of 2 or 4 bits that it multiplies to fill 8."""
PGM_BITS = {1: 1, 3: 2, 15: 4}
"""The largest values that a PGM can name for which Pillow multiplies by whole numbers to fill 8 bits."""
BMP_MODES = {1: "P;1", 4: "P;4", 8: "P"}
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""
TAIL = 4096
"""How many bytes at the end of a file are searched for the mark that ends an image."""
SCAN = b"\xff\xda"
"""What each scan of a JPEG begins with; it stands nowhere else in one but in previews."""
_SCANS = re.compile(re.escape(SCAN))
MOST_SEGMENTS = 2000
"""How many segments a JPEG may have before its pixels; profiles and metadata are in pieces of 64 kB."""
BYTES_OF_MODE = {"1": 1, "L": 1, "I;16": 2, "I;16B": 2}
"""What a pixel takes in memory; in other modes it is 4 bytes, or MOST_BYTES where colours have 16 bits."""
MOST_BYTES = 8
_OPENING = threading.Lock()


class Picture:
    """What Pillow reads, whichever of its formats it is. Translations become PNG."""

    endings: ClassVar[tuple[str, ...]] = ()
    begins: ClassVar[bytes] = b""

    def __init__(self, formats: Sequence[str] = PICTURES) -> None:
        self._formats = formats
        """The names that Pillow has for what it may read."""

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` begins such a file."""
        return head.startswith(self.begins)

    def read(self, stream: IO[bytes]) -> NDArray[Any]:
        """The pixels of an image file, upright, [height, width, channels], uint8 or uint16."""
        return self.read_reduced(stream, None)

    def read_reduced(self, stream: IO[bytes], least: tuple[int, int] | None) -> NDArray[Any]:
        """The same, of a JPEG at the smallest part of its size that divides it and is no smaller than ``least``."""
        image = _opened(stream, self._formats)
        if image.format in ("JPEG", "MPO"):
            refuse_many_scans(stream)
            if least is not None:
                _reduce(image, least)
        if not _is_deep_png(image):
            return image_pixels(image)
        stream.seek(0)  # Pillow would cut it to 8 bits
        encoded = torch.frombuffer(bytearray(stream.read()), dtype=torch.uint8)
        try:
            decoded = decode_image(encoded, ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error
        return stored(np.ascontiguousarray(decoded.numpy().transpose(1, 2, 0)), profile=colours_of(image))

    def header(self, stream: IO[bytes]) -> Shape:
        """The shape that ``read`` gives. A file whose end is not that of its format is read whole."""
        image = _opened(stream, self._formats)
        width, height = image.size
        channels = _bands_of_deep_png(image) if _is_deep_png(image) else Image.getmodebands(_pixel_mode(image))
        channels = ChannelsOfPalette(channels) if image.mode in OF_PALETTE else channels
        turned = _is_turned(image)
        if _header_is_enough(stream, image, turned):
            return (width, height, channels) if turned else (height, width, channels)
        height, width, _ = self.read(stream).shape
        return height, width, channels

    def output_ending(self, targets: str, source: str) -> str:
        """PNG."""
        return ".png"


class PNG(Picture):
    """8 and 16 bits, gray, RGB, with or without alpha. Written for 8 bits with 1 to 4 channels, and 16-bit gray."""

    endings = (".png",)
    begins = b"\x89PNG"

    def holds(self, dtype: np.dtype[Any], channels: int) -> bool:
        """Whether :func:`to_pillow` takes such pixels."""
        return _fits_png(dtype, channels)

    def write(self, stream: IO[bytes], pixels: NDArray[Any]) -> None:
        """Write pixels [height, width, channels]."""
        to_pillow(pixels).save(stream, format="PNG")


class JPEG(Picture):
    """8 bits, gray or RGB. Translations become PNG."""

    endings = (".jpg", ".jpeg")
    begins = b"\xff\xd8"


class WebP(Picture):
    """8 bits, RGB, with or without alpha. Translations become PNG."""

    endings = (".webp",)
    begins = b"RIFF"


class BMP(Picture):
    """8 bits, gray or RGB. Translations become PNG."""

    endings = (".bmp",)
    begins = b"BM"


class GIF(Picture):
    """8 bits, RGB, a single picture. Translations become PNG."""

    endings = (".gif",)
    begins = b"GIF8"


def image_pixels(image: Image.Image) -> NDArray[Any]:
    """The pixels of a Pillow image, upright, [height, width, channels], uint8 or uint16.

    They are as stored, but gray of 1, 2 or 4 bits is multiplied to fill 8, by 255, 85 or 17, and what is neither gray
    nor RGB becomes RGB. The numbers of colours in a palette go along (pixels.StoredPixels).

    Raises:
        DataError: Pillow cannot give its pixels as stored.
    """
    mode = _pixel_mode(image)
    bits, profile = _few_bits(image), colours_of(image)
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # one that is upright would be copied
        image = ImageOps.exif_transpose(image)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    indices = np.asarray(image.getchannel(0)) if image.mode in OF_PALETTE else None
    return stored(pixels[:, :, None] if pixels.ndim == 2 else pixels, bits, profile=profile, indices=indices)


def _reduce(image: Image.Image, least: tuple[int, int]) -> None:
    """Have a JPEG decoded at reduced size: libjpeg leaves the high frequencies of each block out."""
    width, height = image.size
    height_least, width_least = reversed(least) if _is_turned(image) else least
    for part in (8, 4, 2):
        # what is cut to whole pixels at an edge would be scaled a little otherwise
        if not (height % part or width % part) and height // part >= height_least and width // part >= width_least:
            image.draft(None, (width // part, height // part))
            return


def to_pillow(pixels: NDArray[Any]) -> Image.Image:
    """A Pillow image of pixels [height, width, channels]: 8 bits with 1 to 4 channels, or 16-bit gray.

    Raises:
        DataError: they are others.
    """
    channels = pixels.shape[2]
    if not _fits_png(pixels.dtype, channels):
        raise DataError(
            f"a PNG cannot hold {counted(channels, 'channel')} of {pixels.dtype}; "
            "it holds 1 to 4 channels of 8 bits, or 1 of 16"
        )
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def _fits_png(dtype: np.dtype[Any], channels: int) -> bool:
    return (dtype == np.uint8 and channels in (1, 2, 3, 4)) or (dtype == np.uint16 and channels == 1)


def _opened(stream: IO[bytes], formats: Sequence[str]) -> Image.Image:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(len(JPEG.begins)) == JPEG.begins:
        refuse_many_segments(stream)
    stream.seek(0)
    with limited_by(largest_plausible(size)):
        try:
            image = Image.open(stream, formats=list(formats))
            refuse_implausible(math.prod(image.size) * _bytes_of_pixel(image), size)
            # of a GIF the number of pictures is known only when all of it has been read
            several = getattr(image, "is_animated", False)
        except Image.DecompressionBombError as error:
            pixels = re.search(r"\d+", str(error))
            # how many bytes they have is not known yet, so it is the most
            refuse_implausible(MOST_BYTES * int(pixels[0]) if pixels else 0, size)
            raise
    if several and image.format != "MPO":  # cameras put a preview behind a photo
        raise DataError("it holds several pictures, one after another; expected a single one, so extract it first")
    if isinstance(image, ImageFile.ImageFile) and image.format == "BMP":
        stream.seek(0)
        _mend_bmp(image, stream.read(30))
    _, *more = _decoder_arguments(image)
    if _is_pgm(image) and more and more[0] not in PGM_BITS:  # Pillow would scale and round them
        raise DataError(f"a PGM whose values end at {more[0]} is not supported, only at 255; convert it to PNG")
    return image


@contextmanager
def limited_by(most: int) -> Iterator[None]:
    """Have Pillow refuse, with DecompressionBombError, images of more pixels than ``most`` bytes can be."""
    # both belong to the whole process, and images are read in threads too
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        former, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max(1, most // 2)  # its errors begin at twice that
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = former


def _bytes_of_pixel(image: Image.Image) -> int:
    return MOST_BYTES if _has_deep_colour(image) else BYTES_OF_MODE.get(image.mode, 4)


def refuse_many_scans(stream: IO[bytes]) -> None:
    """Raise DataError where a JPEG has more scans than may be."""
    stream.seek(0)
    scans, last = 0, b""
    while piece := stream.read(1 << 20):
        # three times as fast as bytes.count
        scans += len(_SCANS.findall(piece)) + (last + piece[:1] == SCAN)
        last = piece[-1:]
    refuse_many(scans, "scans", "jpeg_scans")


def refuse_many_segments(stream: IO[bytes]) -> None:
    """Raise DataError where a JPEG has much before its pixels: Pillow puts EXIF together piece by piece."""
    stream.seek(2)
    segments = 0
    while len(head := stream.read(4)) == 4 and not head.startswith(SCAN):
        if head[0] != 0xFF or not 0xC0 <= head[1] < 0xFF or 0xD0 <= head[1] < 0xDA:
            stream.seek(-3, os.SEEK_CUR)  # filled up, or no length follows
            continue
        stream.seek(max(0, int.from_bytes(head[2:]) - 2), os.SEEK_CUR)
        if (segments := segments + 1) > MOST_SEGMENTS:
            raise DataError(
                f"refused, it has more than {MOST_SEGMENTS} segments before its pixels; save it without metadata"
            )


def _is_deep_png(image: Image.Image) -> bool:
    return image.format == "PNG" and _has_deep_colour(image)


def _has_deep_colour(image: Image.Image) -> bool:
    return len(image.getbands()) > 1 and ";16" in repr(getattr(image, "tile", ""))


def _bands_of_deep_png(image: Image.Image) -> int:
    # Pillow calls gray with alpha RGBA
    return 2 if "'LA;16" in repr(getattr(image, "tile", "")) else len(image.getbands())


def _pixel_mode(image: Image.Image) -> str:
    """The mode in which the pixels of a Pillow image are taken, known before they are decoded."""
    if image.mode in ("I", "F") or _has_deep_colour(image):
        raise DataError("its pixels have more bits than can be read; convert it to 8 bits a channel, or 16-bit gray")
    if image.mode == "I;16B":
        return "I;16"
    if image.mode in AS_STORED:
        return image.mode
    return "L" if image.mode in GRAY_MODES else "RGB"


def _few_bits(image: Image.Image) -> int:
    """1, 2 or 4 for gray of so few bits, else 0; of what is decoded already no more is known than whether it has 1."""
    if image.mode in GRAY_MODES:
        return 1
    name, *more = _decoder_arguments(image)
    few = FEW_BITS.match(str(name))
    return int(few[1]) if few else PGM_BITS.get(more[0], 0) if more and _is_pgm(image) else 0


def _decoder_arguments(image: Image.Image) -> tuple[Any, ...]:
    tile = getattr(image, "tile", None)
    arguments = tile[0].args if tile else ""
    return tuple(arguments) if isinstance(arguments, tuple | list) else (arguments,)


def _is_pgm(image: Image.Image) -> bool:
    return image.format == "PPM" and image.mode == "L"


def _mend_bmp(image: ImageFile.ImageFile, head: bytes) -> None:
    """Have a BMP unpacked by the bits of its pixels; where its palette is of grays, Pillow goes by their number."""
    bits = head[24] if head[14] == 12 else head[28]  # OS/2's header is shorter
    if image.mode not in ("1", "L") or bits == (1 if image.mode == "1" else 8):
        return
    shades = (0, 255) if image.mode == "1" else range(256)
    image._mode, image.palette = "P", ImagePalette.raw("RGB", bytes(shade for shade in shades for _ in range(3)))
    image.tile = [tile._replace(args=(BMP_MODES[bits], *_decoder_arguments(image)[1:])) for tile in image.tile]


def _is_turned(image: Image.Image) -> bool:
    """Whether the upright image is as high as the stored one is wide."""
    # for a PNG without EXIF before its pixels, its own getexif decodes them to see whether there is any behind
    exif = Image.Image.getexif(image)
    return exif.get(ExifTags.Base.Orientation) in SIDEWAYS


def _header_is_enough(stream: IO[bytes], image: Image.Image, turned: bool) -> bool:
    """Whether a file ends as its format says, and nothing behind its header can change the shape of its pixels."""
    stream.seek(0)
    head = stream.read(16)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - TAIL))
    tail = stream.read()
    match image.format:
        case "PNG":
            return b"IEND" in tail and b"eXIf" not in tail
        case "JPEG" | "MPO":  # cameras append to it
            return b"\xff\xd9" in tail
        case "WEBP":
            return int.from_bytes(head[4:8], "little") + 8 <= size
        case "BMP":
            return int.from_bytes(head[2:6], "little") <= size
        case "TIFF":  # its end is known already; some of Pillow's decoders of it turn the image, others do not
            return not turned
        case _:
            return False

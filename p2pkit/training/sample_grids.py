"""Sample grids: sources of the validation set, what the generator makes of them, and what they should become."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from p2pkit.data.bad_samples import SkipBadSamples
from p2pkit.data.samples import Samples
from p2pkit.errors import visible
from p2pkit.evaluation.validation import Validation
from p2pkit.images.pixels import denormalize
from p2pkit.images.writing import write_picture
from p2pkit.networks.encoding import SourcePart, split_sources
from p2pkit.run_dir import GRID
from p2pkit.utils.jsonl import finite
from p2pkit.utils.progress import shortened

ROWS = 4
SOURCE, OUTPUT, TARGET = COLUMNS = ("source", "output", "target")
"""The columns of a sample with one source and no mask."""
SMALLEST, LARGEST = 128, 256
"""Bounds of the longer side of an image as a grid shows it, in pixels."""
GAP = 8
LINE, TEXT_SIZE = 18, 13
"""The height of a line of text, and that of its letters, in pixels."""
TOP = GAP + 2 * LINE
"""Where the first row of images begins, below the title and the columns' names."""


@dataclass(frozen=True)
class Row:
    """A sample in a grid: its key, its images [C, H, W] in [-1, 1], shown at one size, and their columns' names."""

    key: str
    images: Sequence[Tensor]
    columns: Sequence[str] = COLUMNS
    note: str = ""
    """What is said of it behind its key."""


def sample_rows(
    samples: Samples, validation: Validation, translate: Callable[[Tensor], Tensor], parts: Sequence[SourcePart] = (),
    chosen: Sequence[tuple[int, str]] | None = None,
) -> tuple[list[Row], list[str]]:  # fmt: skip
    """Rows of source | output | target for a few of ``samples``, spread evenly; unpaired ones have no target.

    ``chosen`` are the places of others, each with what is said of it. Each of several sources, which ``parts``
    describes, has a column, and so has a mask. With them come the messages on samples that could not be used and were
    skipped.
    """
    rows: list[Row] = []
    skipped: list[str] = []
    if chosen is None:
        count = min(ROWS, len(samples))
        chosen = [(row * len(samples) // count, "") for row in range(count)]
    skipping, read = SkipBadSamples(len(samples), validation.bad_data), partial(validation.tensors, samples)
    for place, note in chosen:
        (sample, key), found_bad = skipping.first_usable(place, read)
        skipped += found_bad
        images = pictures(sample.source, parts, (samples.planes or {}).get("neighbours", 0))
        images.append((OUTPUT, validation.picture(sample.source[None], translate(sample.source[None]).cpu())[0]))
        if samples.targets is None:
            images.append((TARGET, validation.picture(sample.source[None], sample.target[None])[0]))
        if sample.mask is not None:
            images.append(("mask", sample.mask * 2 - 1))
        rows.append(Row(key, [image for _, image in images], [name for name, _ in images], note))
    return rows, skipped


def write_grid(file: Path, title: str, rows: Sequence[Row], statistics: Mapping[str, float] | None = None) -> None:
    """Write the grid of ``rows`` as PNG; a text in it (run_dir.GRID) has ``statistics``, and where each image is."""
    pixels, cells = _drawn(title, rows)
    write_picture(file, pixels, {GRID: json.dumps({"rows": cells, "statistics": finite(statistics or {})})})


def sample_grid(title: str, rows: Sequence[Row]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] uint8 of ``rows`` below one another, dark text on white: the title, columns' names, keys.

    The largest image of a row is shrunk or enlarged, the latter by a whole factor, until its longer side has 128 to 256
    pixels; the others are shown at that size.
    """
    return _drawn(title, rows)[0]


def _drawn(title: str, rows: Sequence[Row]) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """The grid, and for each row its key, its note, and where the image of each column is."""
    font = ImageFont.load_default(TEXT_SIZE)
    shown = [_fitted(row.images) for row in rows]
    column = max(image.width for image in chain.from_iterable(shown)) + GAP
    columns = max((row.columns[: len(row.images)] for row in rows), key=len)  # not every row has a mask
    headings = [_wrapped(name, font, column - GAP) for name in columns]
    above = TOP + (max(map(len, headings)) - 1) * LINE
    title = _plain(title)
    width = GAP + max(len(columns) * column, round(font.getlength(title)) + GAP)
    height = above + sum(images[0].height + LINE + GAP for images in shown)
    grid = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(grid)
    draw.text((GAP, GAP // 2), title, "black", font)
    for place, lines in enumerate(headings):
        for line, text in enumerate(reversed(lines), 1):
            draw.text((GAP + place * column, above - line * LINE), text, "dimgray", font)
    top, cells = above, list[dict[str, Any]]()
    for row, name, images in zip(rows, _names([row.key for row in rows]), shown, strict=True):
        key, boxes = f"{name}  {_plain(row.note)}".rstrip(), dict[str, list[int]]()
        for place, (heading, image) in enumerate(zip(row.columns, images, strict=False)):
            left = GAP + place * column
            grid.paste(image, (left, top))
            boxes[heading] = [left, top, left + image.width, top + image.height]
        cells.append({"key": row.key, "note": row.note, "boxes": boxes})
        top += images[0].height
        size = len(key)
        while size > 3 and font.getlength(shortened(key, size)) > width - 2 * GAP:
            size -= 1
        draw.text((GAP, top + 1), shortened(key, size), "black", font)
        top += LINE + GAP
    return np.asarray(grid), cells


def pictures(source: Tensor, parts: Sequence[SourcePart], neighbours: int = 0) -> list[tuple[str, Tensor]]:
    """Each of the sources in [C, H, W] as a picture, by the name of its column; of a plane without its neighbours."""
    pictures = []
    for part in parts or (SourcePart("", len(source)),):
        own = split_sources(source, parts)[part.name] if parts else source
        plain = own[neighbours : neighbours + 1] if neighbours else own
        pictures.append((part.name or SOURCE, part.pictured(own[None])[0] if part.pictured else plain))
    return pictures


def as_rgb(image: Tensor) -> Tensor:
    """An image [C, H, W] with any number of channels as [3, H, W]: gray is repeated, the first three stand for more."""
    image = image.detach().cpu().float()
    return image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)


def _fitted(images: Sequence[Tensor]) -> list[Image.Image]:
    """The pictures of images [C, H, W] in the one size in which a grid shows them."""
    pictures = [Image.fromarray(denormalize(as_rgb(image), np.dtype(np.uint8))) for image in images]
    width, height = size = max((picture.size for picture in pictures), key=max)
    longer = max(size)
    if longer < SMALLEST:
        factor = -(-SMALLEST // longer)
        size = (width * factor, height * factor)
    elif longer > LARGEST:
        size = (max(1, width * LARGEST // longer), max(1, height * LARGEST // longer))
    # a box takes means where it shrinks, and the nearest pixel where it enlarges
    return [picture.resize(size, Image.Resampling.BOX) for picture in pictures]


def _wrapped(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """A column's name in lines that its images are as wide as, broken between words; a longer word stands out."""
    lines = [""]
    for word in _plain(name).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _names(keys: Sequence[str]) -> list[str]:
    """How samples are called: of keys that are paths as many last parts as tell them apart, in the font's letters."""
    parts = [key.split("/") for key in keys]
    count = 1
    while len({tuple(each[-count:]) for each in parts}) < len(set(keys)):
        count += 1
    return [_plain("/".join(each[-count:])) for each in parts]


def _plain(text: str) -> str:
    """``text`` in the letters of the font that Pillow has built in, which knows ASCII alone."""
    letters = unicodedata.normalize("NFKD", visible(text))
    return (
        "".join(char for char in letters if not unicodedata.combining(char))
        .encode("ascii", "backslashreplace")
        .decode()
    )

"""The images in grids of samples, cut out and packed small enough for a page that holds them all."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, features
from pydantic import BaseModel, NonNegativeInt

from p2pkit.errors import DataError
from p2pkit.images.pictures import PNG
from p2pkit.images.reading import failures_of
from p2pkit.run_dir import GRID, RunDir
from p2pkit.utils.opening import limits, read_regular

MOST_STEPS = 50
"""Of more sample grids so many are shown, evenly spread, the first and the last among them."""
MOST_ROWS, MOST_COLUMNS = 8, 12
PICTURE_BYTES = 24_000
"""What a picture may take, so that a page with all of them stays below 10 MB."""
FEW_COLOURS = 64
"""Pictures of no more colours, such as label maps, are packed without loss."""
QUALITY, LOWER_QUALITY = 82, 55
OUTPUT, TARGET, MASK = "output", "target", "mask"


class Picture(NamedTuple):
    """An image as a data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


class _Row(BaseModel):
    """A row of a grid, as training.sample_grids describes it."""

    key: str
    note: str = ""
    boxes: dict[str, list[NonNegativeInt]]


class _Grid(BaseModel):
    rows: list[_Row] = []
    statistics: dict[str, float | None] = {}


@dataclass(frozen=True)
class Shown:
    """A row of a grid: its key, what is said of it, and its pictures by column."""

    key: str
    note: str
    pictures: Mapping[str, Picture]

    @property
    def rank(self) -> str:
        """What the note of an image that has been ranked begins with: "best" or "worst"."""
        return self.note.partition(",")[0]


@dataclass(frozen=True)
class SampleInTime:
    """A sample: its sources, its target, its mask, and what the generator made of it by step."""

    key: str
    sources: Mapping[str, Picture]
    target: Picture | None
    mask: Picture | None
    outputs: Mapping[int, Picture]

    @property
    def last(self) -> Picture:
        """The output of the last step."""
        return self.outputs[max(self.outputs)]


def samples_in_time(folder: RunDir) -> list[SampleInTime]:
    """The samples of a run's grids; those of the last grid, where others show other samples."""
    files = _grids(folder)
    steps = _spread(sorted(files))
    while steps and not (rows := read_grid(files[steps[-1]])):
        del steps[-1]
    if not steps:
        return []
    outputs: dict[str, dict[int, Picture]] = {row.key: {} for row in rows}
    for step in steps:
        for row in read_grid(files[step], OUTPUT):
            if row.key in outputs and OUTPUT in row.pictures:
                outputs[row.key][step] = row.pictures[OUTPUT]
    found = []
    for row in rows:
        if outputs[row.key]:
            known = row.pictures
            sources = {name: known[name] for name in known if name not in (OUTPUT, TARGET, MASK)}
            found.append(SampleInTime(row.key, sources, known.get(TARGET), known.get(MASK), outputs[row.key]))
    return found


def statistics_in_time(folder: RunDir) -> list[dict[str, Any]]:
    """The numbers on the outputs of a run's grids (training.sample_statistics), with the step of each."""
    files, found = _grids(folder), list[dict[str, Any]]()
    for step in _spread(sorted(files)):
        with suppress(OSError, ValueError, SyntaxError, DataError):  # another program's picture, or none
            found.append({"step": step, "split": "samples", **_described(read_regular(files[step])).statistics})
    return found


def read_grid(file: Path, only: str = "") -> Sequence[Shown]:
    """The rows of a grid, of all columns or of one; none where the file is not there, or says nothing of its rows."""
    with suppress(OSError):
        stat = file.stat()
        return _read(file, only, stat.st_mtime_ns, stat.st_size)
    return ()


@lru_cache(maxsize=2 * MOST_STEPS)
def _read(file: Path, only: str, _changed: int, size: int) -> Sequence[Shown]:
    """Kept while a run goes on, which writes its page again and again."""
    if size > limits().record_bytes:
        return ()
    data, found = read_regular(file), []
    try:
        with failures_of(file.name):  # p2pkit's own format, whatever others are installed
            pixels = PNG().read(BytesIO(data))
        picture = Image.fromarray(pixels)
        for cell in _described(data).rows[:MOST_ROWS]:
            boxes = {name: box for name, box in [*cell.boxes.items()][:MOST_COLUMNS] if only in ("", name)}
            packed = {name: pack(picture.crop(_inside(box, picture.size))) for name, box in boxes.items()}
            found.append(Shown(cell.key, cell.note, packed))
    except (DataError, ValueError, TypeError, OSError):  # another program's picture
        return ()
    return found


def _described(data: bytes) -> _Grid:
    """What a grid says of itself. Raises ValueError or OSError where it is no grid."""
    with Image.open(BytesIO(data), formats=["PNG"]) as picture:
        text = picture.info.get(GRID, "{}")  # of the chunks ahead of the pixels, which are not decoded for that
    return _Grid.model_validate_json(str(text))


def pack(picture: Image.Image) -> Picture:
    """A picture in the smallest form that shows what is in it."""
    kind = "webp" if features.check("webp") else "png"
    if kind == "png" or picture.getcolors(FEW_COLOURS) is not None:
        data = _encoded(picture, kind, lossless=True)
        if len(data) <= PICTURE_BYTES:
            return Picture(_uri(data, kind), *picture.size)
    data = _encoded(picture, kind, quality=QUALITY)
    if len(data) > PICTURE_BYTES:
        half = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.BOX)
        data = _encoded(half, kind, quality=LOWER_QUALITY)
    return Picture(_uri(data, kind), *picture.size)


def _encoded(picture: Image.Image, kind: str, **options: int | bool) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, method=1, **options)
    return stream.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _inside(box: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    if not (left < right <= size[0] and top < bottom <= size[1]):
        raise ValueError("an image lies outside of its grid")
    return left, top, right, bottom


def _grids(folder: RunDir) -> dict[int, Path]:
    files = {file.stem.removeprefix("step_"): file for file in folder.sample(0).parent.glob("step_*.png")}
    return {int(step): file for step, file in files.items() if step.isdecimal()}


def _spread(steps: Sequence[int]) -> list[int]:
    if len(steps) <= MOST_STEPS:
        return list(steps)
    return [steps[place * (len(steps) - 1) // (MOST_STEPS - 1)] for place in range(MOST_STEPS)]

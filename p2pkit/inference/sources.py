"""What is translated: image files, halves of them, samples of a data set; and where below the outputs each one goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from numpy.typing import NDArray
from torch import Tensor

from p2pkit.contracts import NO_IMAGE, SampleHeader, Shape
from p2pkit.data.augmentation import SAME_ASPECT
from p2pkit.errors import DataError, counted, visible
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending, without_ending
from p2pkit.images.pixels import Remedies, normalize
from p2pkit.images.reading import image_header, middle_of, read_image
from p2pkit.images.regions import ArrayRegions, Regions, open_regions
from p2pkit.inference.model_header import ModelHeader, SourceHeader
from p2pkit.inference.odd_sources import Pixels
from p2pkit.networks.encoding import SourcePart
from p2pkit.utils.opening import refuse_irregular
from p2pkit.utils.progress import Progress, print_line

StoredAs = Literal["image", "side_by_side", "left", "right"]
"""Whether files are images, or two images side by side: with the source where it was in training, or at the left or
right."""
Part = Literal["", "left half", "right half"]
HALVES: Mapping[str, Part] = {"left": "left half", "right": "right half"}


@dataclass(frozen=True)
class Source:
    """An image to translate: a file, or the ``part`` of it, or what ``read`` gives, pixels [H, W, C] as stored."""

    name: str
    """What messages call it."""
    place: Path
    """Where its outputs go below their folder, without the ending."""
    ending: str
    """That of its file, or of its key."""
    read: Callable[[], Any]
    """Gives an array, or several by name."""
    file: Path | None = None
    part: Part = ""
    known_as: Mapping[str, Any] = field(default_factory=dict)
    """What records know it by, where it is not a file."""

    def pixels(self) -> Pixels:
        """The pixels [H, W, C], or those of several sources. DataError where they cannot be read, or have no halves."""
        read: Any = self.read()
        pixels: Pixels = half_of(read, self.part, self.name)
        return pixels

    def regions(self) -> Regions:
        """The same, to be read part by part."""
        whole = regions_of(self.read(), self.name) if self.file is None else open_regions(self.file)
        return _Half(whole, _columns(self.part, whole.shape[1], self.name)) if self.part else whole

    @classmethod
    def of_file(cls, file: Path, place: Path, part: Part = "") -> Source:
        """A file, or half of it."""
        return cls(str(file), place, ending(file), partial(read_image, file), file, part)

    @property
    def files(self) -> Sequence[Path]:
        """The files that it is read from."""
        return [self.file] if self.file is not None else []

    def identity(self) -> Mapping[str, Any]:
        """What records know it by: of a file its path, its size in bytes, and when it was changed."""
        return self.known_as if self.file is None else identity_of(self.file, [self.file])


def identity_of(path: Path, files: Sequence[Path]) -> Mapping[str, Any]:
    """What records know a ``path`` by: with it the size of all its ``files`` in bytes, and the last change of one."""
    known: dict[str, Any] = {"path": str(path.resolve())}
    try:
        found = [file.stat() for file in files]
    except OSError:  # it has gone meanwhile, as reading it will say
        return known
    size, changed = sum(each.st_size for each in found), max(each.st_mtime_ns for each in found)
    return {**known, "bytes": size, "mtime_ns": changed}


def regions_of(pixels: Pixels, key: str) -> Regions:
    """The regions of a source in memory, [H, W, C], or of several by name."""
    if not isinstance(pixels, Mapping):
        return ArrayRegions(pixels)
    return regions_together({name: ArrayRegions(image) for name, image in pixels.items()}, key)


def regions_together(each: Mapping[str, Regions], key: str) -> Regions:
    """Regions of several sources, of which each part is a dict by name; a DataError where they differ in size."""
    return _Together(each, key)


class _Together:
    def __init__(self, each: Mapping[str, Regions], key: str) -> None:
        shapes = {name: regions.shape for name, regions in each.items()}
        self._each, self.shape = each, SampleHeader.of_sources(shapes, NO_IMAGE, key).source

    def read(self, rows: slice, columns: slice) -> Any:
        """The pixels of a part, by name."""
        return {name: regions.read(rows, columns) for name, regions in self._each.items()}


class _Half:
    """Some columns of an image of which parts can be had."""

    def __init__(self, whole: Regions, columns: slice) -> None:
        height, _, channels = whole.shape
        self._whole, self._first = whole, columns.start
        self.shape = (height, columns.stop - columns.start, channels)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The pixels of a part."""
        return self._whole.read(rows, slice(self._first + columns.start, self._first + columns.stop))


def half_of(image: NDArray[Any], part: Part, name: str) -> NDArray[Any]:
    """The ``part`` of an image [H, W, C]; DataError, beginning with ``name``, where it has no halves."""
    return image[:, _columns(part, image.shape[1], name)] if part else image


def _columns(part: Part, width: int, name: str) -> slice:
    """The columns of a half; DataError, beginning with ``name``, where there are none."""
    middle = middle_of(width, name)
    return slice(0, middle) if part == "left half" else slice(middle, width)


def part_for(header: ModelHeader, file: Path, stored_as: StoredAs | None) -> Part:
    """Which part of ``file`` is the source for a model; empty for all of it.

    Unless ``stored_as`` says it, that is a half where training sources were halves and the file is of the aspect that
    their files had.
    """
    return part_of(header, stored_as, stored_as is None and bool(header.stored_as) and twice_as_wide(header, file))


def part_of(header: ModelHeader, stored_as: StoredAs | None, wide: bool) -> Part:
    """The same of an image that is, or is not, of the aspect of such files."""
    own: Any = header.stored_as
    if stored_as == "side_by_side":
        return own or "left half"
    if stored_as is not None:
        return HALVES.get(stored_as, "")
    return own if wide else ""


def twice_as_wide(header: ModelHeader, file: Path) -> bool:
    """Whether a file has the aspect of two training sources side by side; not where either is not known."""
    try:
        return header.source_size is not None and is_twice_as_wide(header, image_header(file))
    except DataError:
        return False  # reading it will say the same


def is_twice_as_wide(header: ModelHeader, shape: Shape) -> bool:
    """The same of an image of a ``shape``."""
    height, width, _ = shape
    if header.source_size is None:
        return False
    aspect = 2 * header.source_size[1] / header.source_size[0]
    return not width % 2 and abs(width / height / aspect - 1) <= SAME_ASPECT


def file_sources(header: ModelHeader, inputs: Sequence[Path], stored_as: StoredAs | None = None) -> list[Source]:
    """The sources in files and folders, in their order, each once. Tells what is left out, and which halves are taken.

    Raises:
        DataError: an input is missing, or a folder holds no images.
        PluginError: two plugins offer an image format for the ending of a file.
    """
    found = dict.fromkeys((file, place) for given in inputs for file, place in files_of(given))
    if stored_as == "side_by_side" and not header.stored_as:
        print_line(
            "NOTICE: this model was not trained on halves of files; the left half of each is translated (--as left), "
            "--as right takes the other"
        )
    if stored_as is not None or header.source_size is None:
        return [Source.of_file(file, place, part_for(header, file, stored_as)) for file, place in found]
    sources, counts, own = [], Counter[bool](), cast(Part, header.stored_as)
    with Progress("looking at sizes", len(found), "file") as progress:
        for file, place in found:
            wide = twice_as_wide(header, file)
            sources.append(Source.of_file(file, place, own if wide else ""))
            counts[wide] += 1
            progress.advance()
    if own:
        print_line(
            f"NOTICE: {counts[True]} of the files are taken as two images side by side, as in training, of which the "
            f"{own} is translated, and {counts[False]} as single images; --as image or --as side_by_side decides for "
            "all"
        )
    elif counts[True]:
        print_line(
            f"NOTICE: {counts[True]} of the {len(found)} files are twice as wide as training sources were, as where "
            "two images stand side by side; each is translated as one image. --as left or --as right takes a half, "
            "--as image says that they are single images"
        )
    return sources


def files_of(given: Path) -> Iterator[tuple[Path, Path]]:
    """Each image of an input, with the path of its output without the ending."""
    if given.is_file():
        yield given, without_ending(Path(given.name))
    elif given.is_dir():
        found = discover(given)
        for notice in found.skipped_notices:
            print_line(f"NOTICE: {visible(notice)}")
        for file in found.files:
            yield file, without_ending(file.relative_to(given))
    else:
        if given.exists():
            refuse_irregular(given, given.stat().st_mode)
        raise DataError(f"{given}: there is no such file or folder")


def one_to_tensor(source: NDArray[Any], key: str, header: SourceHeader, part: SourcePart) -> Tensor:
    """Pixels [H, W, C] of one source as stored as a tensor [C, H, W] in [-1, 1].

    Raises:
        DataError: they are not as ``header`` says; the message begins with ``key``.
    """
    if source.ndim != 3 or 0 in source.shape:
        raise DataError(f"{key}: pixels of shape {source.shape}; expected [height, width, channels]")
    reading, taking = header.how_read(class_map=hasattr(part.encoding, "class_numbers"))
    source = taking.of(source, key)
    if source.shape[2] != header.channels:
        kind = {1: "gray", 3: "rgb"}.get(header.channels)
        trained = f', or train with channels = "{kind}" below [source], which takes files of either' if kind else ""
        raise DataError(
            f"{key}: it has {counted(source.shape[2], 'channel')}; this model takes {header.channels}, so "
            f"convert it first{trained}"
        )
    low, high = header.values
    remedies = Remedies(
        range=f"convert the source to {header.dtype} of {low:g} to {high:g}, which this model takes",
        fill="the model was trained without fill, so put a value of your choice there before it is translated",
        not_finite="the model was trained without such values, so put numbers there before it is translated",
    )
    return normalize(source, key, header.range, reading, remedies)

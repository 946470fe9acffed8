"""Translating files and folders: the tree is kept, what cannot be done is reported at the end, the rest is done."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pkit.errors import DataError
from p2pkit.images.colour_profiles import lost_profiles
from p2pkit.images.names import output_ending, without_ending
from p2pkit.images.pixels import StoredPixels
from p2pkit.images.reading import find_images, read_image
from p2pkit.images.region_writing import written_in_regions
from p2pkit.images.regions import open_regions
from p2pkit.images.writing import format_written, write_image
from p2pkit.inference.prefetch import batches, prefetch
from p2pkit.inference.tiled import translate_tiled
from p2pkit.inference.tiles import Tiling
from p2pkit.utils.progress import Progress, print_line

if TYPE_CHECKING:
    from p2pkit.inference.translator import Translator

READERS, WRITERS = 2, 2
"""Threads that decode and encode beside the network."""


@dataclass(frozen=True)
class FileOptions:
    """How files are translated: ``samples`` outputs each, with noise from ``seed`` on.

    ``batch_size`` images of one size (or tiles) go through the network together on a GPU. With ``tile`` images go
    through in tiles of so many pixels, which ``overlap`` by so many (None: an eighth), and become TIFF or NPY.
    ``skip_existing`` leaves out what is done already. ``format`` is the ending of the outputs ("png", "tif" ...); None
    is that of the training targets, or a TIFF for what PNG cannot hold.
    """

    samples: int = 1
    seed: int = 0
    batch_size: int = 1
    tile: int | None = None
    overlap: int | None = None
    skip_existing: bool = False
    format: str | None = None


@dataclass
class Report:
    """What became of the files: how many were translated, how many were there, and a message for each that failed."""

    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    """The colour profiles of sources that have one other than sRGB."""

    def note(self, pixels: NDArray[Any]) -> None:
        """Take note of what is said of the pixels of a source, or of a part of it."""
        if isinstance(pixels, StoredPixels) and pixels.profile:
            self.profiles.append(pixels.profile)


@dataclass(frozen=True)
class _Job:
    file: Path
    results: list[Path]


@dataclass
class _Image:
    """A file on its way: its source [C, H, W] in [-1, 1], then its translations, or what went wrong."""

    job: _Job
    source: Tensor | None = None
    outputs: list[Tensor] = field(default_factory=list)
    failure: str | None = None


def translate_files(translator: Translator, inputs: Sequence[Path], out: Path, options: FileOptions) -> Report:
    """Translate image files, and all images below folders, into ``out``.

    An output is called after its source, with an ending that goes with the training targets and holds its
    pixels, unless ``format`` says another; with several samples each has its number behind.

    Raises:
        DataError: an input is missing, a folder holds no images, the generator takes no such tiles, or no image format
            is written with that ending.
        PluginError: two plugins offer an image format for the ending of a file.
        WriteError: the disk is full, or writing is not allowed.
    """
    if options.format is not None:
        format_written(f".{options.format}")
    report = Report()
    jobs = _jobs(translator, inputs, out, options, report)
    if options.tile is None:
        _translate_whole(translator, jobs, options, report)
    else:
        tiling = Tiling.chosen(translator.generator, options.tile, options.overlap, options.batch_size)
        for job in jobs:
            _translate_in_tiles(translator, job, tiling, options, report)
    if report.profiles:
        print_line(f"NOTICE: {lost_profiles(report.profiles)}")
    return report


def _jobs(
    translator: Translator, inputs: Sequence[Path], out: Path, options: FileOptions, report: Report
) -> list[_Job]:
    """What is to be done; what cannot be or need not be is in ``report``."""
    found = dict.fromkeys((file, place) for given in inputs for file, place in _outputs(given))
    sources = {file.resolve() for file, _ in found}
    taken: dict[Path, Path] = {}
    jobs = []
    for file, place in found:
        first = taken.setdefault(place, file)
        results = _results(out / place, _ending(translator, file, options), options.samples)
        replaced = [result for result in results if result.resolve() in sources]
        if first != file:
            report.failures.append(f"{file}: its output {place} is that of {first}; translate one of them elsewhere")
        elif replaced:
            report.failures.append(f"{file}: its output would replace the source {replaced[0]}; choose another --out")
        elif options.skip_existing and all(result.exists() for result in results):
            report.skipped += 1
        else:
            jobs.append(_Job(file, results))
    return jobs


def _outputs(given: Path) -> Iterator[tuple[Path, Path]]:
    """Each image of an input, with the path of its output without the ending."""
    if given.is_dir():
        for file in find_images(given):
            yield file, without_ending(file.relative_to(given))
    elif given.is_file():
        yield given, without_ending(Path(given.name))
    else:
        raise DataError(f"{given}: there is no such file or folder")


def _ending(translator: Translator, file: Path, options: FileOptions) -> str:
    if options.tile is not None:
        return ".npy" if file.suffix.lower() == ".npy" else ".tif"
    if options.format is not None:
        return f".{options.format}"
    header = translator.header
    return output_ending(file, np.dtype(header.target_dtype), header.target_channels, header.target_ending)


def _results(place: Path, ending: str, samples: int) -> list[Path]:
    endings = [ending] if samples == 1 else [f"_{sample}{ending}" for sample in range(samples)]
    return [place.with_name(place.name + ending) for ending in endings]


def _translate_whole(translator: Translator, jobs: Sequence[_Job], options: FileOptions, report: Report) -> None:
    def read(job: _Job) -> _Image:
        try:
            pixels = read_image(job.file)
            report.note(pixels)
            return _Image(job, translator.to_tensor(pixels, str(job.file)))
        except DataError as error:
            return _Image(job, failure=str(error))

    def translated(images: Iterator[_Image]) -> Generator[_Image, None, None]:
        for batch in batches(images, options.batch_size, _of_one_size):
            sources = [image.source for image in batch if image.source is not None]
            for sample in range(options.samples if sources else 0):
                outputs = translator.tensor(torch.stack(sources), options.seed + sample)
                for image, output in zip(batch, outputs, strict=True):
                    image.outputs.append(output)
            yield from batch

    def write(image: _Image) -> str | None:
        try:
            for output, result in zip(image.outputs, image.job.results, strict=image.failure is None):
                write_image(result, translator.to_pixels(output), image.job.file)
        except DataError as error:
            return f"{image.job.file}: {error}"
        return image.failure

    with (
        Progress("translating", len(jobs), "image") as progress,
        closing(prefetch(read, iter(jobs), READERS, options.batch_size)) as images,
        closing(translated(images)) as outputs,
        closing(prefetch(write, outputs, WRITERS)) as failures,
    ):
        for failure in failures:
            _account(report, failure)
            progress.advance()


def _of_one_size(one: _Image, other: _Image) -> bool:
    return one.source is not None and other.source is not None and one.source.shape == other.source.shape


def _account(report: Report, failure: str | None) -> None:
    if failure is None:
        report.done += 1
    else:
        report.failures.append(failure)


def _translate_in_tiles(
    translator: Translator, job: _Job, tiling: Tiling, options: FileOptions, report: Report
) -> None:
    failure = None
    try:
        source = open_regions(job.file)
        translator.refuse_channels(source.shape[2], str(job.file))
        report.note(source.read(slice(0, 1), slice(0, 1)))
        shape = (*source.shape[:2], translator.header.target_channels)
        for sample, result in enumerate(job.results):
            with written_in_regions(result, shape, np.dtype(translator.header.target_dtype), job.file) as sink:
                translate_tiled(translator, source, sink, tiling, str(job.file), options.seed + sample)
    except DataError as error:
        failure = str(error)
    _account(report, failure)
